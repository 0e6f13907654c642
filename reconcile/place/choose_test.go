package place

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// nodeOf is a machine; change says what is special about it.
func nodeOf(name, zone string, change ...func(*fleet.Node)) fleet.Node {
	n := fleet.Node{Name: fleet.NodeName(name), Labels: map[string]string{corev1.LabelHostname: name}, Allocatable: corev1.ResourceList{
		"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"),
	}}
	if zone != "" {
		n.Labels[corev1.LabelTopologyZone] = zone
	}
	for _, f := range change {
		f(&n)
	}
	return n
}

func tainted(key string, effect corev1.TaintEffect) func(*fleet.Node) {
	return func(n *fleet.Node) { n.Taints = append(n.Taints, corev1.Taint{Key: key, Value: "yes", Effect: effect}) }
}

func specOf(cpu string, change ...func(*corev1.PodSpec)) *corev1.PodSpec {
	s := &corev1.PodSpec{Containers: []corev1.Container{{Image: "web:1"}}}
	if cpu != "" {
		s.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse(cpu)}
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// game is a board with kinds by name.
type game struct {
	*Board
	kinds map[string]*Kind
	born  int
}

func newGame(nodes ...fleet.Node) *game {
	return &game{Board: NewBoard(nodes, nil, nil), kinds: map[string]*Kind{}}
}

func (g *game) kind(app string, spec *corev1.PodSpec, priority ...int32) *Kind {
	if g.kinds[app] == nil {
		value := int32(0)
		for _, p := range priority {
			value = p
		}
		g.kinds[app] = g.Kind(fleet.ObjectID{Kind: "Deployment", Name: app}, "shop", map[string]string{"app": app}, spec, value)
	}
	return g.kinds[app]
}

// put puts a pod of a kind somewhere, and returns its UID.
func (g *game) put(k *Kind, node string, change ...func(*Guest)) string {
	g.born++
	who := Guest{UID: fmt.Sprintf("%s-%d", k.labels["app"], g.born), Since: time.Unix(int64(g.born), 0)}
	for _, f := range change {
		f(&who)
	}
	g.Put(fleet.NodeName(node), k, who)
	return who.UID
}

// run places n pods of a kind one after the other, and says where.
func (g *game) run(k *Kind, n int) (nodes []string) {
	for range n {
		node, _ := g.Choose(k, Wish{})
		if node != "" {
			g.put(k, string(node))
		}
		nodes = append(nodes, string(node))
	}
	return nodes
}

func leaving(g *Guest) { g.Leaving = true }

func termOf(app, key string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}
}

func near(terms ...corev1.PodAffinityTerm) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
	}
}

func apart(terms ...corev1.PodAffinityTerm) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
	}
}

func even(app, key string, when corev1.UnsatisfiableConstraintAction) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.TopologySpreadConstraints = append(s.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
		})
	}
}

func onPort(number int32) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Containers[0].Ports = []corev1.ContainerPort{{HostPort: number, Protocol: corev1.ProtocolTCP}}
	}
}

// TestWhyNowhere has kubectl's sentence for every filter.
func TestWhyNowhere(t *testing.T) {
	t.Parallel()
	limited := func(pods string) func(*fleet.Node) {
		return func(n *fleet.Node) { n.Allocatable["pods"] = resource.MustParse(pods) }
	}
	cordoned := func(n *fleet.Node) { n.Unschedulable = true }
	nodes := []fleet.Node{nodeOf("a", "one"), nodeOf("b", "")}
	for name, c := range map[string]struct {
		nodes []fleet.Node
		there *corev1.PodSpec // a pod of the app db that is on each node
		spec  *corev1.PodSpec
		wish  Wish
		want  string
	}{
		"no nodes":  {spec: specOf(""), want: "."},
		"name":      {nodes: nodes, spec: specOf("", func(s *corev1.PodSpec) { s.NodeName = "c" }), want: ": 2 node(s) didn't match the requested node name."},
		"cordon":    {nodes: []fleet.Node{nodeOf("a", "", cordoned)}, spec: specOf(""), want: ": 1 node(s) were unschedulable."},
		"taint":     {nodes: []fleet.Node{nodeOf("a", "", tainted("gpu", corev1.TaintEffectNoSchedule))}, spec: specOf(""), want: ": 1 node(s) had untolerated taint {gpu: yes}."},
		"NoExecute": {nodes: []fleet.Node{nodeOf("a", "", tainted("gpu", corev1.TaintEffectNoExecute))}, spec: specOf(""), want: ": 1 node(s) had untolerated taint {gpu: yes}."},
		"selector":  {nodes: nodes, spec: specOf("", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }), want: ": 2 node(s) didn't match Pod's node affinity/selector."},
		"ports":     {nodes: nodes, there: specOf("", onPort(80)), spec: specOf("", onPort(80)), want: ": 2 node(s) didn't have free ports for the requested pod ports."},
		"cpu":       {nodes: nodes, there: specOf("2"), spec: specOf("2500m"), want: ": 2 Insufficient cpu."},
		"several":   {nodes: nodes, spec: specOf("5", func(s *corev1.PodSpec) { s.Containers[0].Resources.Requests["memory"] = resource.MustParse("9Gi") }), want: ": 2 Insufficient cpu, 2 Insufficient memory."},
		"other": {nodes: nodes, spec: specOf("", func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Limits = corev1.ResourceList{"example.com/gpu": resource.MustParse("1")}
		}), want: ": 2 Insufficient example.com/gpu."},
		"pods":    {nodes: []fleet.Node{nodeOf("a", "", limited("1"))}, there: specOf(""), spec: specOf(""), want: ": 1 Too many pods."},
		"volumes": {nodes: nodes, spec: specOf(""), wish: Wish{Bound: []fleet.NodeName{"c"}}, want: ": 2 node(s) had volume node affinity conflict."},
		"one node alone": {nodes: nodes, there: specOf("2"), spec: specOf("2500m"), wish: Wish{Only: "b"},
			want: ": 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector."},
		"a node that is not there": {nodes: nodes, spec: specOf(""), wish: Wish{Only: "c"}, want: ": 2 node(s) didn't match Pod's node affinity/selector."},
		"volumes apart":            {nodes: nodes, spec: specOf(""), wish: Wish{Bound: []fleet.NodeName{"a", "b"}}, want: ": 2 node(s) had volume node affinity conflict."},
		"spread": {nodes: append(nodes, nodeOf("c", "one"), nodeOf("d", "two", limited("1"))), there: specOf(""), spec: specOf("", even("db", corev1.LabelTopologyZone, corev1.DoNotSchedule), even("web", corev1.LabelTopologyZone, corev1.DoNotSchedule)),
			want: ": 1 Too many pods, 1 node(s) didn't match pod topology spread constraints (missing required label), 2 node(s) didn't match pod topology spread constraints."},
		"affinity":      {nodes: nodes, there: specOf(""), spec: specOf("", near(termOf("cache", corev1.LabelHostname))), want: ": 2 node(s) didn't match pod affinity rules."},
		"anti-affinity": {nodes: nodes, there: specOf(""), spec: specOf("", apart(termOf("db", corev1.LabelHostname))), want: ": 2 node(s) didn't match pod anti-affinity rules."},
		"theirs":        {nodes: nodes, there: specOf("", apart(termOf("web", corev1.LabelHostname))), spec: specOf(""), want: ": 2 node(s) didn't satisfy existing pods anti-affinity rules."},
		"mixed": {nodes: []fleet.Node{nodeOf("a", "", cordoned), nodeOf("b", ""), nodeOf("c", "", tainted("x", corev1.TaintEffectNoSchedule))}, spec: specOf("5"),
			want: ": 1 Insufficient cpu, 1 node(s) had untolerated taint {x: yes}, 1 node(s) were unschedulable."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGame(c.nodes...)
			if c.there != nil {
				for _, n := range c.nodes {
					g.put(g.kind("db", c.there), string(n.Name))
				}
			}
			if name == "spread" { // the zone with room has more than the one without
				g.put(g.kind("db", c.there), "a")
			}
			node, why := g.Choose(g.kind("web", c.spec), c.wish)
			if want := fmt.Sprintf("0/%d nodes are available%s", len(c.nodes), c.want); node != "" || why != want {
				t.Errorf("got %q, %s\nwant %s", node, why, want)
			}
		})
	}
}

// TestTolerationsLetIn: what is tolerated keeps nobody away.
func TestTolerationsLetIn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		toleration corev1.Toleration
		want       bool
	}{
		"any":           {corev1.Toleration{Operator: corev1.TolerationOpExists}, true},
		"key":           {corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists}, true},
		"another key":   {corev1.Toleration{Key: "disk", Operator: corev1.TolerationOpExists}, false},
		"value":         {corev1.Toleration{Key: "gpu", Value: "yes"}, true},
		"another value": {corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpEqual, Value: "no"}, false},
		"effect":        {corev1.Toleration{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}, true},
		"another":       {corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}, false},
	} {
		g := newGame(nodeOf("a", "", tainted("gpu", corev1.TaintEffectNoSchedule)))
		node, why := g.Choose(g.kind("web", specOf("", func(s *corev1.PodSpec) { s.Tolerations = []corev1.Toleration{c.toleration} })), Wish{})
		if (node != "") != c.want {
			t.Errorf("%s: got %q %s", name, node, why)
		}
	}
}

func TestStay(t *testing.T) {
	t.Parallel()
	taint := corev1.Taint{Key: "gone", Effect: corev1.TaintEffectNoExecute}
	lasting := func(seconds int64) corev1.Toleration {
		return corev1.Toleration{Key: "gone", Operator: corev1.TolerationOpExists, TolerationSeconds: &seconds}
	}
	ever := corev1.Toleration{Key: "gone", Operator: corev1.TolerationOpExists}
	for name, c := range map[string]struct {
		tolerations []corev1.Toleration
		limit       time.Duration
		limited     bool
	}{
		"none":          {nil, 0, true},
		"another":       {[]corev1.Toleration{{Key: "other", Operator: corev1.TolerationOpExists}}, 0, true},
		"ever":          {[]corev1.Toleration{ever}, 0, false},
		"a while":       {[]corev1.Toleration{lasting(30)}, 30 * time.Second, true},
		"the shortest":  {[]corev1.Toleration{lasting(30), ever, lasting(10)}, 10 * time.Second, true},
		"less than not": {[]corev1.Toleration{lasting(-5)}, 0, true},
	} {
		if limit, limited := Stay(c.tolerations, taint); limit != c.limit || limited != c.limited {
			t.Errorf("%s: got %s, %v; want %s, %v", name, limit, limited, c.limit, c.limited)
		}
	}
}

// TestScores: among nodes that would all do.
func TestScores(t *testing.T) {
	t.Parallel()
	zoned := []fleet.Node{nodeOf("a1", "a"), nodeOf("a2", "a"), nodeOf("b1", "b"), nodeOf("b2", "b")}
	prefers := func(key, value string) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}},
			}}}}
		}
	}
	drawn := func(app string, by int32) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			terms := []corev1.WeightedPodAffinityTerm{{Weight: max(by, -by), PodAffinityTerm: termOf(app, corev1.LabelHostname)}}
			s.Affinity = &corev1.Affinity{}
			if by > 0 {
				s.Affinity.PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}
			} else {
				s.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}
			}
		}
	}
	for name, c := range map[string]struct {
		nodes []fleet.Node
		board func(g *game)
		spec  *corev1.PodSpec
		n     int
		want  string
	}{
		"hosts and zones":     {nodes: zoned, spec: specOf("100m"), n: 8, want: "[a1 b1 a2 b2 a1 b1 a2 b2]"},
		"hosts":               {nodes: []fleet.Node{nodeOf("a", ""), nodeOf("b", ""), nodeOf("c", "")}, spec: specOf("1"), n: 6, want: "[a b c a b c]"},
		"nothing asked for":   {nodes: []fleet.Node{nodeOf("a", ""), nodeOf("b", "")}, spec: specOf(""), n: 4, want: "[a b a b]"},
		"where there is room": {nodes: []fleet.Node{nodeOf("a", ""), nodeOf("b", "")}, board: func(g *game) { g.put(g.kind("db", specOf("3")), "a") }, spec: specOf("100m"), n: 1, want: "[b]"},
		"soft spread":         {nodes: zoned, spec: specOf("100m", even("web", corev1.LabelTopologyZone, corev1.ScheduleAnyway)), n: 4, want: "[a1 b1 a2 b2]"},
		"soft spread gives in": {nodes: []fleet.Node{nodeOf("a", "a"), nodeOf("b", "b", func(n *fleet.Node) { n.Unschedulable = true })},
			spec: specOf("", even("web", corev1.LabelTopologyZone, corev1.ScheduleAnyway)), n: 3, want: "[a a a]"},
		"hard spread does not": {nodes: []fleet.Node{nodeOf("a", "a"), nodeOf("b", "b", func(n *fleet.Node) { n.Unschedulable = true })},
			spec: specOf("", even("web", corev1.LabelTopologyZone, corev1.DoNotSchedule)), n: 3, want: "[a  ]"},
		"PreferNoSchedule repels": {nodes: []fleet.Node{nodeOf("a", "", tainted("old", corev1.TaintEffectPreferNoSchedule)), nodeOf("b", "")}, spec: specOf("100m"), n: 2, want: "[b b]"},
		"preferred nodes":         {nodes: []fleet.Node{nodeOf("a", "x"), nodeOf("b", "y")}, spec: specOf("100m", prefers(corev1.LabelTopologyZone, "y")), n: 1, want: "[b]"},
		"preferred pods":          {nodes: zoned, board: func(g *game) { g.put(g.kind("db", specOf("100m")), "b2") }, spec: specOf("100m", drawn("db", 10)), n: 1, want: "[b2]"},
		"shunned pods":            {nodes: zoned[:2], board: func(g *game) { g.put(g.kind("db", specOf("100m")), "a1") }, spec: specOf("100m", drawn("db", -10)), n: 1, want: "[a2]"},
		"drawn by others":         {nodes: zoned, board: func(g *game) { g.put(g.kind("db", specOf("100m", drawn("web", 10))), "b2") }, spec: specOf("100m"), n: 1, want: "[b2]"},
		"shunned by others":       {nodes: zoned[:2], board: func(g *game) { g.put(g.kind("db", specOf("100m", drawn("web", -10))), "a1") }, spec: specOf("100m"), n: 1, want: "[a2]"},
		"one a host":              {nodes: zoned[:3], spec: specOf("", apart(termOf("web", corev1.LabelHostname))), n: 4, want: "[a1 b1 a2 ]"},
		"the first of a group":    {nodes: zoned, spec: specOf("", near(termOf("web", corev1.LabelTopologyZone))), n: 3, want: "[a1 a2 a1]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGame(c.nodes...)
			if c.board != nil {
				c.board(g)
			}
			if got := fmt.Sprint(g.run(g.kind("web", c.spec), c.n)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestImagesDraw: of nodes that are alike otherwise, the one is taken that has the image.
func TestImagesDraw(t *testing.T) {
	t.Parallel()
	b := NewBoard([]fleet.Node{nodeOf("a", ""), nodeOf("b", "")}, map[fleet.NodeName][]string{"b": {"docker.io/library/web:1"}, "a": {"docker.io/library/db:1"}}, nil)
	if node, why := b.Choose(b.Kind(fleet.ObjectID{}, "shop", nil, specOf("100m"), 0), Wish{}); node != "b" {
		t.Errorf("got %q %s, want b", node, why)
	}
}

// TestLastDraws: a pod comes back to where one of its name was, unless something stronger speaks against it.
func TestLastDraws(t *testing.T) {
	t.Parallel()
	g := newGame(nodeOf("a", ""), nodeOf("b", ""), nodeOf("c", "", func(n *fleet.Node) { n.Unschedulable = true }))
	k := g.kind("db", specOf("100m"))
	for last, want := range map[fleet.NodeName]fleet.NodeName{"a": "a", "b": "b", "c": "a", "": "a"} {
		if node, why := g.Choose(k, Wish{Last: last}); node != want {
			t.Errorf("last on %q: got %q %s, want %q", last, node, why, want)
		}
	}
}

// TestBoundGoesHome: a pod goes where its volume is, whatever is nicer elsewhere.
func TestBoundGoesHome(t *testing.T) {
	t.Parallel()
	g := newGame(nodeOf("a", ""), nodeOf("b", ""))
	g.put(g.kind("web", specOf("3")), "b")
	if node, why := g.Choose(g.kind("db", specOf("1")), Wish{Bound: []fleet.NodeName{"b"}}); node != "b" {
		t.Errorf("got %q %s, want b", node, why)
	}
}
