package place

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
)

// The filters once more, as semantics section 16 and Kubernetes' documentation word them, without a thought for speed: each
// question looks at all pods and all nodes.

// soul is a pod of the naive world.
type soul struct {
	uid, namespace string
	labels         map[string]string
	spec           *corev1.PodSpec
	node           fleet.NodeName
	leaving        bool
}

// world is a fleet without any memory of what was counted.
type world struct {
	nodes      []fleet.Node
	pods       []soul
	born       int
	namespaces map[string]labels.Set
}

func (w *world) fits(p soul, n fleet.Node) bool {
	return p.spec.NodeName == "" || p.spec.NodeName == string(n.Name)
}

func (w *world) allows(p soul, n fleet.Node) bool {
	return w.fits(p, n) && w.tolerated(p, n, true) && w.wants(p, n) && w.portsFree(p, n) && w.roomFor(p, n) && w.even(p, n) &&
		w.together(p, n) && w.keptApart(p, n)
}

func naiveTolerates(t corev1.Toleration, key, value string, effect corev1.TaintEffect) bool {
	if t.Effect != "" && t.Effect != effect {
		return false
	}
	if t.Operator == corev1.TolerationOpExists {
		return t.Key == "" || t.Key == key
	}
	return t.Key == key && t.Value == value
}

func (w *world) tolerated(p soul, n fleet.Node, cordons bool) bool {
	taints := slices.Clone(n.Taints)
	if n.Unschedulable && cordons {
		taints = append(taints, corev1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: corev1.TaintEffectNoSchedule})
	}
	for _, taint := range taints {
		ok := taint.Effect == corev1.TaintEffectPreferNoSchedule
		for _, t := range p.spec.Tolerations {
			ok = ok || naiveTolerates(t, taint.Key, taint.Value, taint.Effect)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (w *world) wants(p soul, n fleet.Node) bool {
	for key, value := range p.spec.NodeSelector {
		if got, has := n.Labels[key]; !has || got != value {
			return false
		}
	}
	a := p.spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		all := len(term.MatchExpressions)+len(term.MatchFields) > 0
		for _, e := range term.MatchExpressions {
			value, has := n.Labels[e.Key]
			all = all && naiveHolds(e, value, has)
		}
		for _, e := range term.MatchFields {
			all = all && naiveHolds(e, string(n.Name), true)
		}
		if all {
			return true
		}
	}
	return false
}

func naiveHolds(e corev1.NodeSelectorRequirement, value string, has bool) bool {
	switch e.Operator {
	case corev1.NodeSelectorOpIn:
		return has && slices.Contains(e.Values, value)
	case corev1.NodeSelectorOpNotIn:
		return !has || !slices.Contains(e.Values, value)
	case corev1.NodeSelectorOpExists:
		return has
	case corev1.NodeSelectorOpDoesNotExist:
		return !has
	}
	is, err := strconv.Atoi(value)
	than, bad := strconv.Atoi(e.Values[0])
	if !has || err != nil || bad != nil {
		return false
	}
	if e.Operator == corev1.NodeSelectorOpGt {
		return is > than
	}
	return is < than
}

func (w *world) portsFree(p soul, n fleet.Node) bool {
	wild := func(ip string) bool { return ip == "" || ip == "0.0.0.0" }
	for _, mine := range hostPorts(p.spec) {
		for _, other := range w.pods {
			if other.node != n.Name {
				continue
			}
			for _, theirs := range hostPorts(other.spec) {
				if mine.HostPort == theirs.HostPort && mine.Protocol == theirs.Protocol && (mine.HostIP == theirs.HostIP || wild(mine.HostIP) || wild(theirs.HostIP)) {
					return false
				}
			}
		}
	}
	return true
}

func hostPorts(spec *corev1.PodSpec) (list []corev1.ContainerPort) {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				list = append(list, p)
			}
		}
	}
	return list
}

// naiveAsks is the largest that a pod's containers ask for at any moment of its life: while each init container runs, with the sidecars
// that were started before it, and afterwards.
func naiveAsks(spec *corev1.PodSpec, name corev1.ResourceName) int64 {
	ask := func(c corev1.Container) int64 {
		if q, ok := c.Resources.Requests[name]; ok {
			return q.MilliValue()
		}
		q := c.Resources.Limits[name]
		return q.MilliValue()
	}
	var sidecars, peak int64
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil {
			sidecars += ask(c)
			peak = max(peak, sidecars)
		} else {
			peak = max(peak, sidecars+ask(c))
		}
	}
	all := sidecars
	for _, c := range spec.Containers {
		all += ask(c)
	}
	extra := spec.Overhead[name]
	return max(peak, all) + extra.MilliValue()
}

func (w *world) roomFor(p soul, n fleet.Node) bool {
	count := int64(1)
	for _, other := range w.pods {
		if other.node == n.Name {
			count++
		}
	}
	if limit, ok := n.Allocatable[corev1.ResourcePods]; ok && count > limit.Value() || count > 110 {
		return false
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "example.com/gpu"} {
		ask := naiveAsks(p.spec, name)
		room, said := n.Allocatable[name]
		if ask == 0 || !said && name != "example.com/gpu" { // a machine that says nothing of the usual ones is not out of them
			continue
		}
		for _, other := range w.pods {
			if other.node == n.Name {
				ask += naiveAsks(other.spec, name)
			}
		}
		if ask > room.MilliValue() {
			return false
		}
	}
	return true
}

func naiveSelects(s *metav1.LabelSelector, match, mismatch []string, own, other map[string]string) bool {
	if s == nil {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || !selector.Matches(labels.Set(other)) {
		return false
	}
	for _, key := range match {
		if value, has := own[key]; has {
			if got, ok := other[key]; !ok || got != value {
				return false
			}
		}
	}
	for _, key := range mismatch {
		if value, has := own[key]; has && other[key] == value {
			return false
		}
	}
	return true
}

func (w *world) even(p soul, n fleet.Node) bool {
	for _, c := range p.spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		here, has := n.Labels[c.TopologyKey]
		if !has {
			return false
		}
		counts := map[string]int{}
		eligible := map[fleet.NodeName]bool{}
		for _, m := range w.nodes {
			ok := c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore || w.wants(p, m)
			ok = ok && (c.NodeTaintsPolicy == nil || *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyIgnore || w.tolerated(p, m, false))
			for _, other := range p.spec.TopologySpreadConstraints {
				if _, labelled := m.Labels[other.TopologyKey]; other.WhenUnsatisfiable == corev1.DoNotSchedule && !labelled {
					ok = false
				}
			}
			if ok {
				eligible[m.Name] = true
				counts[m.Labels[c.TopologyKey]] += 0
			}
		}
		matches := func(other soul) bool {
			return other.namespace == p.namespace && naiveSelects(c.LabelSelector, c.MatchLabelKeys, nil, p.labels, other.labels)
		}
		for _, m := range w.nodes {
			for _, other := range w.pods {
				if other.node == m.Name && eligible[m.Name] && !other.leaving && matches(other) {
					counts[m.Labels[c.TopologyKey]]++
				}
			}
		}
		least := -1
		for _, count := range counts {
			if least < 0 || count < least {
				least = count
			}
		}
		if c.MinDomains != nil && len(counts) < int(*c.MinDomains) {
			least = 0
		}
		self := 0
		if matches(p) {
			self = 1
		}
		if counts[here]+self-max(least, 0) > int(c.MaxSkew) {
			return false
		}
	}
	return true
}

// about reports whether a term of one pod is about another.
func (w *world) about(p soul, t corev1.PodAffinityTerm, other soul) bool {
	inside := slices.Contains(t.Namespaces, other.namespace)
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		inside = other.namespace == p.namespace
	}
	if t.NamespaceSelector != nil {
		set := labels.Set{"kubernetes.io/metadata.name": other.namespace}
		for key, value := range w.namespaces[other.namespace] {
			set[key] = value
		}
		selector, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		inside = inside || err == nil && selector.Matches(set)
	}
	return inside && naiveSelects(t.LabelSelector, t.MatchLabelKeys, t.MismatchLabelKeys, p.labels, other.labels)
}

func (w *world) labelOf(name fleet.NodeName, key string) (string, bool) {
	for _, n := range w.nodes {
		if n.Name == name {
			value, has := n.Labels[key]
			return value, has
		}
	}
	return "", false
}

func (w *world) together(p soul, n fleet.Node) bool {
	if p.spec.Affinity == nil || p.spec.Affinity.PodAffinity == nil {
		return true
	}
	terms := p.spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	all := func(other soul) bool {
		for _, t := range terms {
			if !w.about(p, t, other) {
				return false
			}
		}
		return true
	}
	holds, anywhere := true, false
	for _, t := range terms {
		here, has := n.Labels[t.TopologyKey]
		if !has {
			return false
		}
		found := false
		for _, other := range w.pods {
			if value, labelled := w.labelOf(other.node, t.TopologyKey); labelled && all(other) {
				anywhere = true
				found = found || value == here
			}
		}
		holds = holds && found
	}
	return holds || !anywhere && all(p)
}

func (w *world) keptApart(p soul, n fleet.Node) bool {
	clash := func(who soul, whom soul, other fleet.NodeName) bool {
		if who.spec.Affinity == nil || who.spec.Affinity.PodAntiAffinity == nil {
			return false
		}
		for _, t := range who.spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			here, has := n.Labels[t.TopologyKey]
			there, labelled := w.labelOf(other, t.TopologyKey)
			if has && labelled && here == there && w.about(who, t, whom) {
				return true
			}
		}
		return false
	}
	for _, other := range w.pods {
		if clash(p, other, other.node) || clash(other, p, other.node) {
			return false
		}
	}
	return true
}

// The drawing of fleets.

func maybe(t *rapid.T, what string, oneIn int) bool {
	return rapid.IntRange(1, oneIn).Draw(t, what) == 1
}

// option is one of several values; empty for none.
type option struct {
	name   string
	values []string
}

func (o option) draw(t *rapid.T) string { return rapid.SampledFrom(o.values).Draw(t, o.name) }

func drawNodes(t *rapid.T) []fleet.Node {
	var nodes []fleet.Node
	for i := range rapid.IntRange(1, 5).Draw(t, "nodes") {
		n := fleet.Node{Name: fleet.NodeName(fmt.Sprintf("n%d", i)), Labels: map[string]string{}, Allocatable: corev1.ResourceList{}}
		if !maybe(t, "no host", 8) {
			n.Labels[corev1.LabelHostname] = string(n.Name)
		}
		for _, o := range []option{{"zone", []string{"", "a", "b"}}, {"size", []string{"", "1", "5", "x"}}} {
			if value := o.draw(t); value != "" {
				n.Labels[o.name] = value
			}
		}
		for range rapid.IntRange(0, 2).Draw(t, "taints") {
			n.Taints = append(n.Taints, corev1.Taint{
				Key: rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key"), Value: rapid.SampledFrom([]string{"", "v"}).Draw(t, "value"),
				Effect: rapid.SampledFrom([]corev1.TaintEffect{"NoSchedule", "NoExecute", "PreferNoSchedule"}).Draw(t, "effect"),
			})
		}
		n.Unschedulable = maybe(t, "cordoned", 6)
		for _, o := range []option{{"cpu", []string{"", "1", "2"}}, {"memory", []string{"", "1Gi"}}, {"pods", []string{"", "2", "4"}}, {"example.com/gpu", []string{"", "1"}}} {
			if amount := o.draw(t); amount != "" {
				n.Allocatable[corev1.ResourceName(o.name)] = resource.MustParse(amount)
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func drawSelector(t *rapid.T) *metav1.LabelSelector {
	switch rapid.IntRange(0, 5).Draw(t, "selector") {
	case 0:
		return nil
	case 1:
		return &metav1.LabelSelector{}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}}}
	default:
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app")}}
	}
}

func drawTerms(t *rapid.T) (terms []corev1.PodAffinityTerm) {
	for range rapid.IntRange(1, 2).Draw(t, "terms") {
		term := corev1.PodAffinityTerm{LabelSelector: drawSelector(t), TopologyKey: rapid.SampledFrom([]string{"zone", corev1.LabelHostname}).Draw(t, "topology")}
		if maybe(t, "in namespaces", 4) {
			term.Namespaces = []string{rapid.SampledFrom([]string{"x", "y"}).Draw(t, "namespace")}
		}
		switch rapid.IntRange(0, 6).Draw(t, "namespaces by label") {
		case 0:
			term.NamespaceSelector = &metav1.LabelSelector{}
		case 1:
			term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "one"}}
		case 2:
			term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "y"}}
		}
		if term.LabelSelector != nil && maybe(t, "keys", 4) {
			term.MatchLabelKeys = []string{"version"}
		} else if term.LabelSelector != nil && maybe(t, "other keys", 4) {
			term.MismatchLabelKeys = []string{"version"}
		}
		terms = append(terms, term)
	}
	return terms
}

func drawAffinity(t *rapid.T) *corev1.Affinity {
	a := &corev1.Affinity{}
	if maybe(t, "node affinity", 4) {
		a.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}
		for range rapid.IntRange(1, 2).Draw(t, "terms") {
			var term corev1.NodeSelectorTerm
			for range rapid.IntRange(0, 2).Draw(t, "expressions") {
				e := corev1.NodeSelectorRequirement{Key: rapid.SampledFrom([]string{"zone", "size"}).Draw(t, "key")}
				e.Operator = rapid.SampledFrom([]corev1.NodeSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}).Draw(t, "operator")
				switch e.Operator {
				case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
					e.Values = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "1", "x"}), 1, 2, rapid.ID).Draw(t, "values")
				case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
					e.Values = []string{rapid.SampledFrom([]string{"1", "3", "5"}).Draw(t, "than")}
				}
				term.MatchExpressions = append(term.MatchExpressions, e)
			}
			if maybe(t, "by name", 4) {
				term.MatchFields = []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"n1"}}}
			}
			a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms = append(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, term)
		}
	}
	if maybe(t, "near", 4) {
		a.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: drawTerms(t)}
	}
	if maybe(t, "apart", 4) {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: drawTerms(t)}
	}
	return a
}

func drawSpreads(t *rapid.T) (list []corev1.TopologySpreadConstraint) {
	for _, key := range []string{"zone", corev1.LabelHostname} {
		if !maybe(t, "spread", 4) {
			continue
		}
		c := corev1.TopologySpreadConstraint{
			TopologyKey: key, MaxSkew: rapid.Int32Range(1, 2).Draw(t, "skew"), LabelSelector: drawSelector(t),
			WhenUnsatisfiable: rapid.SampledFrom([]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.DoNotSchedule, corev1.ScheduleAnyway}).Draw(t, "when"),
		}
		if c.WhenUnsatisfiable == corev1.DoNotSchedule && maybe(t, "domains", 3) {
			least := rapid.Int32Range(1, 3).Draw(t, "minDomains")
			c.MinDomains = &least
		}
		policies := []corev1.NodeInclusionPolicy{corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore}
		for _, policy := range []**corev1.NodeInclusionPolicy{&c.NodeAffinityPolicy, &c.NodeTaintsPolicy} {
			if maybe(t, "policy", 3) {
				*policy = new(corev1.NodeInclusionPolicy)
				**policy = rapid.SampledFrom(policies).Draw(t, "is")
			}
		}
		if c.LabelSelector != nil && maybe(t, "keys", 4) {
			c.MatchLabelKeys = []string{"version"}
		}
		list = append(list, c)
	}
	return list
}

func drawContainer(t *rapid.T) corev1.Container {
	c := corev1.Container{Image: rapid.SampledFrom([]string{"i:1", "i:2"}).Draw(t, "image"), Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
	for _, o := range []option{{"cpu", []string{"", "", "300m", "700m"}}, {"memory", []string{"", "", "300Mi"}}, {"example.com/gpu", []string{"", "", "", "", "1"}}} {
		if amount := o.draw(t); amount != "" {
			list := c.Resources.Requests
			if maybe(t, "limit alone", 3) {
				list = c.Resources.Limits
			}
			list[corev1.ResourceName(o.name)] = resource.MustParse(amount)
		}
	}
	if maybe(t, "port", 6) {
		c.Ports = []corev1.ContainerPort{{
			HostPort: rapid.SampledFrom([]int32{80, 81}).Draw(t, "number"), HostIP: rapid.SampledFrom([]string{"", "0.0.0.0", "10.0.0.1", "10.0.0.2"}).Draw(t, "address"),
			Protocol: rapid.SampledFrom([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}).Draw(t, "protocol"),
		}}
	}
	return c
}

// drawKind is what pods of one sort look like.
func drawKind(t *rapid.T) soul {
	spec := &corev1.PodSpec{Containers: []corev1.Container{drawContainer(t)}, Affinity: drawAffinity(t), TopologySpreadConstraints: drawSpreads(t)}
	for range rapid.IntRange(0, 2).Draw(t, "init containers") {
		c := drawContainer(t)
		if rapid.Bool().Draw(t, "sidecar") {
			always := corev1.ContainerRestartPolicyAlways
			c.RestartPolicy = &always
		}
		spec.InitContainers = append(spec.InitContainers, c)
	}
	if maybe(t, "overhead", 6) {
		spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("200m")}
	}
	if maybe(t, "selector", 6) {
		spec.NodeSelector = map[string]string{"zone": "a"}
	}
	if maybe(t, "named", 10) {
		spec.NodeName = "n0"
	}
	for range rapid.IntRange(0, 2).Draw(t, "tolerations") {
		spec.Tolerations = append(spec.Tolerations, rapid.SampledFrom([]corev1.Toleration{
			{Operator: corev1.TolerationOpExists}, {Key: "k", Operator: corev1.TolerationOpExists}, {Key: "k", Value: "v"}, {Key: "l", Operator: corev1.TolerationOpEqual},
			{Key: "l", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}, {Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists},
			{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		}).Draw(t, "toleration"))
	}
	set := map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app")}
	if !maybe(t, "no version", 3) {
		set["version"] = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "version")
	}
	return soul{namespace: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "namespace"), labels: set, spec: spec}
}

// drawWorld is a fleet with pods on it, wherever chance has put them, and the same as a board.
func drawWorld(t *rapid.T) (*world, *Board, []soul, []*Kind) {
	w := &world{nodes: drawNodes(t), namespaces: map[string]labels.Set{"x": {"team": "one"}}}
	b := NewBoard(w.nodes, nil, w.namespaces)
	var souls []soul
	var kinds []*Kind
	for i := range rapid.IntRange(1, 3).Draw(t, "kinds") {
		s := drawKind(t)
		souls = append(souls, s)
		kinds = append(kinds, b.Kind(fleet.ObjectID{Kind: "Deployment", Name: fmt.Sprint(i)}, s.namespace, s.labels, s.spec, int32(rapid.IntRange(0, 2).Draw(t, "priority"))))
	}
	for range rapid.IntRange(0, 8).Draw(t, "pods") {
		w.change(t, b, souls, kinds)
	}
	return w, b, souls, kinds
}

// change puts a pod somewhere, takes one away, or looks at one, which has the board count.
func (w *world) change(t *rapid.T, b *Board, souls []soul, kinds []*Kind) {
	at := rapid.IntRange(0, len(souls)-1).Draw(t, "kind")
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		b.Choose(kinds[at], Wish{})
	case 1:
		if len(w.pods) > 0 {
			i := rapid.IntRange(0, len(w.pods)-1).Draw(t, "pod")
			b.Take(w.pods[i].node, w.pods[i].uid)
			w.pods = slices.Delete(w.pods, i, i+1)
		}
	default:
		w.born++
		s := souls[at]
		s.uid, s.node, s.leaving = fmt.Sprint(w.born), rapid.SampledFrom(w.nodes).Draw(t, "node").Name, maybe(t, "leaving", 5)
		w.pods = append(w.pods, s)
		b.Put(s.node, kinds[at], Guest{UID: s.uid, Leaving: s.leaving})
	}
}

// TestFiltersAsWritten holds the filters against the naive world.
func TestFiltersAsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w, b, souls, kinds := drawWorld(t)
		for range 3 {
			for i, k := range kinds {
				l := b.look(k, Wish{})
				any := false
				for at, n := range b.nodes {
					refused := l.refuses(at)
					allowed := w.allows(souls[i], n.Node)
					any = any || allowed
					if allowed != (len(refused) == 0) {
						t.Fatalf("kind %d on %s: the filters say %q, the naive ones %v (name %v, taints %v, labels %v, ports %v, room %v, spread %v, affinity %v, anti-affinity %v)", i, n.Name, refused,
							allowed, w.fits(souls[i], n.Node), w.tolerated(souls[i], n.Node, true), w.wants(souls[i], n.Node), w.portsFree(souls[i], n.Node), w.roomFor(souls[i], n.Node),
							w.even(souls[i], n.Node), w.together(souls[i], n.Node), w.keptApart(souls[i], n.Node))
					}
				}
				if node, why := b.Choose(k, Wish{}); (node != "") != any || (why == "") != any {
					t.Fatalf("kind %d: chosen is %q (%s), and one is possible: %v", i, node, why, any)
				}
			}
			w.change(t, b, souls, kinds)
		}
	})
}

// TestCountingAlong holds a board that has seen pods come and go against one that is made of what is there now, in another order.
func TestCountingAlong(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w, b, souls, kinds := drawWorld(t)
		for range rapid.IntRange(0, 10).Draw(t, "changes") {
			w.change(t, b, souls, kinds)
		}
		nodes, pods := slices.Clone(w.nodes), slices.Clone(w.pods)
		slices.Reverse(nodes)
		slices.Reverse(pods)
		fresh := NewBoard(nodes, nil, w.namespaces)
		var again []*Kind
		for i, s := range souls {
			again = append(again, fresh.Kind(kinds[i].Group, s.namespace, s.labels, s.spec, kinds[i].Priority))
		}
		for _, p := range pods {
			at := slices.IndexFunc(souls, func(s soul) bool { return s.spec == p.spec })
			fresh.Put(p.node, again[at], Guest{UID: p.uid, Leaving: p.leaving})
		}
		for i := range kinds {
			node, why := b.Choose(kinds[i], Wish{})
			if other, because := fresh.Choose(again[i], Wish{}); node != other || why != because {
				t.Fatalf("kind %d: %q (%s) counted along, %q (%s) counted anew", i, node, why, other, because)
			}
			guarded := func() func(string) bool { return func(string) bool { return false } }
			if why == "" {
				continue
			}
			node, victims := b.Preempt(kinds[i], Wish{}, guarded)
			if other, others := fresh.Preempt(again[i], Wish{}, guarded); node != other || !slices.Equal(victims, others) {
				t.Fatalf("kind %d: preempts %v on %q counted along, %v on %q counted anew", i, victims, node, others, other)
			}
		}
	})
}
