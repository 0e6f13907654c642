package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skerry-dev/skerry/fleet"
)

// origin is where a document comes from.
type origin struct {
	file string
	// rendered objects have nodes whose lines mean nothing. What counts is written, the document as it
	// stands in file, or else line.
	rendered bool
	written  *node
	line     int
}

// at is the line of a field, or of the whole object for the empty path.
func (from origin) at(n *node, path string) int {
	switch {
	case !from.rendered:
		return n.lineOf(path)
	case from.written != nil:
		return from.written.lineOf(path)
	}
	return from.line
}

// document takes one document of a plain file.
func (r *reader) document(from origin, d document) {
	if d.err != nil {
		r.fault(Fault{File: from.file, Line: d.err.line, Kind: Error, Text: d.err.text})
		r.broken[from.file] = true
		return
	}
	r.take(from, d.root, "", "")
}

// take takes one object, or each object of a list. The defaults are what a typed list says of its items.
func (r *reader) take(from origin, n *node, apiVersion, kindName string) {
	a, k := n.get("apiVersion"), n.get("kind")
	switch {
	case n.form != formMap || (a == nil && k == nil && kindName == ""):
		r.refuse(from, n, fleet.ObjectID{}, "", NotRun, "is not a Kubernetes object: it has no apiVersion and no kind")
		return
	case kindName == "" && (a == nil || k == nil) && n.get("metadata") == nil: // such as Chart.yaml
		r.refuse(from, n, fleet.ObjectID{}, "", NotRun, "is not a Kubernetes object: it has no metadata, and not both apiVersion and kind")
		return
	case a != nil && a.form == formString:
		apiVersion = a.text
	}
	if k != nil && k.form == formString {
		kindName = k.text
	}
	switch {
	case apiVersion == "":
		r.refuse(from, n, fleet.ObjectID{}, "apiVersion", Error, "is required and must be a string, such as v1 or apps/v1")
	case kindName == "":
		r.refuse(from, n, fleet.ObjectID{}, "kind", Error, "is required and must be a string, such as Deployment")
	case isList(kindName) && n.get("items") != nil:
		r.list(from, n, apiVersion, kindName)
	default:
		r.object(from, n, apiVersion, kindName)
	}
}

// isList reports whether a kind is a list of objects. Other APIs have kinds that end in List and are none.
func isList(kindName string) bool {
	of, ok := strings.CutSuffix(kindName, "List")
	_, run := kinds[of]
	_, later := later[of]
	return ok && (of == "" || run || later)
}

// list takes the items of a List, or of a list of one kind, whose items need not repeat it.
func (r *reader) list(from origin, n *node, apiVersion, kindName string) {
	items := n.get("items")
	switch {
	case items.form != formList && items.form != formNull:
		r.refuse(from, n, fleet.ObjectID{}, "items", Error, "must be a list, not "+items.form.String())
	case len(items.items) == 0:
		r.refuse(from, n, fleet.ObjectID{}, "items", Warning, "has no effect: the list is empty")
	}
	if kindName == "List" {
		apiVersion, kindName = "", ""
	}
	for _, item := range items.items {
		r.take(from, item, apiVersion, strings.TrimSuffix(kindName, "List"))
	}
}

// refuse reports that a document is not taken.
func (r *reader) refuse(from origin, n *node, id fleet.ObjectID, path string, why FaultKind, text string) {
	r.report(from, n, id, problem{path: path, kind: why, text: text})
	if why == Error {
		r.broken[from.file] = true
	}
}

// report turns a problem of a document into a fault.
func (r *reader) report(from origin, n *node, id fleet.ObjectID, p problem) {
	line := p.line
	if from.rendered || line == 0 {
		line = from.at(n, cmp.Or(p.where, p.path))
	}
	r.fault(Fault{File: from.file, Line: line, Path: p.path, Object: id, Kind: p.kind, Text: p.text})
}

// object takes one object.
func (r *reader) object(from origin, n *node, apiVersion, kindName string) {
	id := fleet.ObjectID{Kind: kindName, Namespace: n.get("metadata").str("namespace"), Name: n.get("metadata").str("name")}
	k, known := kinds[kindName]
	if !known || k.apiVersion != apiVersion {
		if id.Name == "" {
			id = fleet.ObjectID{}
		}
		why, text := unknownKind(apiVersion, kindName)
		r.refuse(from, n, id, "", why, text)
		return
	}
	if k.global {
		id.Namespace = ""
	} else if id.Namespace == "" {
		id.Namespace = "default"
	}
	if kindName == kindController {
		id.Kind = fleet.KindReplicaSet
	}
	value, problems := decode(n, k, id)
	if id.Name == "" {
		id = fleet.ObjectID{}
	}
	lost := false
	for _, p := range problems {
		r.report(from, n, id, p)
		lost = lost || p.kind != Warning
	}
	if lost {
		r.broken[from.file] = true
	}
	at := &found{file: from.file, line: from.at(n, "")}
	if r.keep(value, lost, at, id); at.object != nil {
		r.placed = append(r.placed, placed{from, n, at})
	}
}

// keep adds an object unless its ID is there already. An ID that stands twice is a mistake that has no
// right answer; the first one stays, so that what runs does not depend on what was added behind it.
func (r *reader) keep(value runtime.Object, lost bool, at *found, id fleet.ObjectID) {
	if id.Name == "" {
		return
	}
	if before, ok := r.first[id]; ok {
		r.fault(Fault{File: at.file, Line: at.line, Object: id, Kind: Error,
			Text: fmt.Sprintf("already defined in %s:%d: remove or rename one", before.file, before.line)})
		return
	}
	r.first[id] = at
	if n, ok := value.(*corev1.Namespace); ok {
		at.labels = maps.Clone(n.Labels)
	}
	if lost {
		return
	}
	o := &fleet.Object{ID: id, File: at.file, Line: at.line, Value: value, Template: asWritten(value)}
	if o.Template != nil {
		o.Hash = fleet.HashTemplate(o.Template)
	}
	defaultObject(o.Value)
	if s, ok := o.Value.(*corev1.Secret); ok { // kubectl's note to itself quotes the data in plain sight
		delete(s.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	at.object = o
}

// decode reads and validates one object of a known kind.
func decode(n *node, k kind, id fleet.ObjectID) (runtime.Object, []problem) {
	value := k.empty()
	d := decoder{secret: id.Kind == fleet.KindSecret}
	d.decode(n, reflect.ValueOf(value).Elem(), "")
	value.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(k.apiVersion, id.Kind))
	if m, err := meta.Accessor(value); err == nil && !k.global && m.GetNamespace() == "" {
		m.SetNamespace(id.Namespace)
	}
	problems := d.problems
	for _, p := range validate(value, id) {
		if !hidden(p.path, d.problems) {
			problems = append(problems, p)
		}
	}
	wrong := map[string]bool{}
	for _, p := range problems {
		wrong[p.path] = wrong[p.path] || p.kind == Error
	}
	if o, ok := value.(*corev1.ReplicationController); ok {
		value = replicaSetOf(o)
	}
	// What is wrong with a field says enough: that it has no effect either is of no interest.
	return value, slices.DeleteFunc(problems, func(p problem) bool { return p.kind != Error && wrong[p.path] })
}

// hidden reports whether something was said already that explains a problem with a path.
func hidden(path string, said []problem) bool {
	for _, p := range said {
		if p.kind == Error && (path == p.path || path == p.hides || strings.HasPrefix(path, p.path+".") || strings.HasPrefix(path, p.path+"[")) {
			return true
		}
	}
	return false
}
