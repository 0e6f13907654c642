package agent_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

var (
	simSeeds = flag.Int("sim.seeds", 25, "how many fleets TestSim lives through")
	simFirst = flag.Uint64("sim.seed", 1, "the seed of the first of them")
	simLong  = flag.Int("sim.steps", 40, "how much befalls each")
	simDice  = flag.Uint64("sim.dice", 1, "how chance falls where a seed does not say it (built by scripts/repeatable)")
	simLogs  = flag.Bool("sim.logs", false, "print what became of each fleet, with what its agents logged and which containers came and went")
)

// TestSim lives through what may befall a fleet, drawn by a seed: pushes good and bad, killed agents, power cuts, partitions of one way and
// both (the leader's, too), silent Git servers, dead Podmans, calls to Podman that fail, killed containers, drains, machines that are
// removed and replaced. All the while no name of a StatefulSet lives twice, no run of a CronJob is made twice, and nothing that did not
// change is restarted; a rollout of which nothing but the leader's end comes in the way takes no more than it may; and when all is healed,
// the fleet is what was pushed last. What was on a machine that is removed may be made again, runs too whose end nobody has counted.
//
// A seed that fails prints itself. It says what befalls the fleet; who of several goroutines comes first it says only where the test was
// built by scripts/repeatable, as make sim does: make sim SEEDS=1 SEED=N. There -sim.dice has the same happen with other chances, and
// -sim.logs prints what the agents said.
func TestSim(t *testing.T) {
	for i := range *simSeeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			repeat(seed<<16 + *simDice)
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 0))
				s := &sim{simulated: newFleet(t, 1+2*rng.IntN(2), rng.IntN(5)), rng: rng, began: time.Now(), on: map[fleet.NodeName]map[string]bool{}, mayDiffer: map[string]bool{},
					containers: map[string]string{}, done: map[string]string{}, home: map[string]fleet.NodeName{}}
				for _, m := range s.nodes {
					m.node.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(fmt.Sprint(1 + rng.IntN(4)))}
				}
				s.shared.Slow = time.Duration(rng.IntN(50)) * time.Millisecond
				defer s.end()
				defer func() {
					if t.Failed() || *simLogs {
						t.Logf("seed %d:\n%s", seed, strings.Join(s.journal, "\n"))
					}
				}()
				if *simLogs {
					s.log = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
				}
				s.live()
			})
		})
	}
}

// sim is one fleet and what befell it.
type sim struct {
	*simulated
	rng     *rand.Rand
	began   time.Time
	noting  sync.Mutex
	journal []string
	lived   []string // containers at the last look
	want    scene

	on         map[fleet.NodeName]map[string]bool // UIDs of pods that were ever seen there: Podman may be dead when the power goes
	mayDiffer  map[string]bool                    // UIDs of pods whose containers were killed, or whose machine was
	containers map[string]string                  // by UID and name of the container: its ID when it was seen last
	done       map[string]string                  // by run: the UID of the pod that did it
	home       map[string]fleet.NodeName          // by pod of kv: where its data are
}

// Write notes what an agent logs.
func (s *sim) Write(line []byte) (int, error) {
	_, text, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	s.note("    %s", text)
	return len(line), nil
}

func (s *sim) note(format string, args ...any) {
	s.noting.Lock()
	defer s.noting.Unlock()
	s.journal = append(s.journal, fmt.Sprintf("%8s  %s", time.Since(s.began).Round(time.Second), fmt.Sprintf(format, args...)))
}

// scene is what is pushed.
type scene struct {
	web, api, db, kv   int
	big                int
	webImage, apiImage string
	firm               string // image of a Deployment that is always well
	log                bool
	cron, broken       bool
	settings           string
}

func (c scene) files() fstest.MapFS {
	list := []string{
		spreadOut("web", c.webImage, c.web, ""), spreadOut("api", c.apiImage, c.api, "  progressDeadlineSeconds: 60\n"),
		statefulSet("db", "app:1", c.db), configMap(c.settings),
		withData(statefulSet("kv", "app:1", c.kv)),
		asking(spreadOut("big", "app:1", c.big, ""), "1500m"),
		spreadOut("firm", c.firm, firmPods, "  strategy: {rollingUpdate: {maxUnavailable: 1, maxSurge: 1}}\n"),
	}
	if c.log {
		list = append(list, daemonSet("log", "app:1"))
	}
	if c.cron {
		list = append(list, cronJob("*/2 * * * *", "job:1", ""))
	}
	files := tree(list...)
	if c.broken {
		files["f1.yaml"] = &fstest.MapFile{Data: []byte("kind: Deployment\nmetadata: {name: api\n")}
	}
	return files
}

// firmPods is how many there are of the Deployment firm, of which at most one may be missing.
const firmPods = 4

// withData gives each pod of a StatefulSet a claim.
func withData(stateful string) string {
	mounted := strings.Replace(stateful, "imagePullPolicy: IfNotPresent", "imagePullPolicy: IfNotPresent, volumeMounts: [{name: data, mountPath: /data}]", 1)
	return mounted + "  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]\n"
}

// asking has the pods of a Deployment ask for so much of a processor.
func asking(deployment, cpu string) string {
	return strings.Replace(deployment, "imagePullPolicy: IfNotPresent", "imagePullPolicy: IfNotPresent, resources: {requests: {cpu: "+cpu+"}}", 1)
}

func daemonSet(name, image string) string {
	text := strings.Replace(spreadOut(name, image, 0, ""), "kind: Deployment", "kind: DaemonSet", 1)
	return strings.Replace(text, "  replicas: 0\n", "", 1)
}

// room is how many pods fit that ask for as much as those of big.
func (s *sim) room() int {
	n := 0
	for _, m := range s.nodes {
		cpu := m.node.Allocatable[corev1.ResourceCPU]
		n += int(cpu.MilliValue() / 1500)
	}
	return n
}

func (s *sim) draw() scene {
	images := []string{"app:1", "app:2", "app:2", "bad:1"}
	return scene{
		web: 1 + s.rng.IntN(8), api: s.rng.IntN(4), db: s.rng.IntN(5), kv: s.rng.IntN(4), webImage: images[s.rng.IntN(4)], apiImage: images[s.rng.IntN(4)],
		cron: s.rng.IntN(2) == 0, broken: s.rng.IntN(5) == 0, settings: fmt.Sprint(s.rng.IntN(3)),
		big: s.rng.IntN(s.room() + 3), firm: images[s.rng.IntN(2)], log: s.rng.IntN(3) > 0,
	}
}

func (s *sim) push(c scene) {
	s.want = c
	s.note("push %s %+v", s.origin.push(c.files()).Short()[4:], c)
}

func (s *sim) live() {
	s.all()
	s.push(scene{web: 3, api: 2, db: 2, kv: 2, webImage: "app:1", apiImage: "app:1", cron: true, settings: "0", big: 1, firm: "app:1", log: true})
	s.pass(30)
	quiet := s.rng.IntN(*simLong)
	for i := range *simLong {
		if i == quiet {
			s.roll()
		}
		s.befall()
		s.pass(1 + s.rng.IntN(40))
		if s.t.Failed() {
			return
		}
	}
	s.heal()
}

// befall does one thing to the fleet.
func (s *sim) befall() {
	m := s.nodes[s.rng.IntN(len(s.nodes))]
	name := m.node.Name
	switch s.rng.IntN(21) {
	case 0, 1, 2:
		s.push(s.draw())
	case 3:
		s.note("kill the agent of %s", name)
		m.kill()
	case 4, 5:
		s.note("start the agent of %s", name)
		m.start()
	case 6:
		s.note("power cut at %s", name)
		s.excuse(m)
		m.powerCut()
	case 7:
		deaf, dumb := s.rng.IntN(2) == 0, s.rng.IntN(2) == 0
		s.note("%s hears nothing: %t, is not heard: %t", name, deaf, dumb)
		m.part(deaf, dumb)
	case 8, 9:
		s.note("%s is connected", name)
		m.part(false, false)
	case 10:
		cut := s.rng.IntN(2) == 0
		s.note("Git does not answer %s: %t", name, cut)
		m.clone.mu.Lock()
		m.clone.cut = cut
		m.clone.mu.Unlock()
	case 11:
		if s.rng.IntN(2) == 0 {
			s.note("Podman of %s dies", name)
			m.machine.Down()
		} else {
			s.note("Podman of %s lives", name)
			m.machine.Up()
		}
	case 12:
		s.killContainer(m)
	case 13, 14:
		verb := []fleet.IntentVerb{fleet.Cordon, fleet.DrainNode, fleet.Uncordon, fleet.Uncordon}[s.rng.IntN(4)]
		if m.stop == nil {
			return
		}
		_, err := m.Intend(context.Background(), api.Wish{Intent: fleet.Intent{Object: fleet.ObjectID{Kind: fleet.KindNode, Name: string(s.nodes[s.rng.IntN(len(s.nodes))].node.Name)}, Verb: verb, Author: "ada"}})
		s.note("at %s: %s (%v)", name, verb, err)
	case 15:
		s.note("restart the agent of %s", name)
		if m.stop != nil {
			m.stop()
		}
		m.start()
	case 16, 17:
		for _, m := range s.nodes {
			if m.node.Name == s.shared.Leader() {
				deaf := s.rng.IntN(2) == 0
				s.note("%s leads, and hears nothing: %t, or is not heard", m.node.Name, deaf)
				m.part(deaf, !deaf)
			}
		}
	case 18, 19:
		verb := []string{"CreatePod", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "RemovePod", "Write"}[s.rng.IntN(7)]
		nth := 1 + s.rng.IntN(3)
		s.note("%s of %s fails the %d. time from now on", verb, name, nth)
		m.machine.Fail(verb, nth, errors.New("no space left on device"))
	case 20:
		s.replace(m)
	}
}

// replace ends a machine for good, removes its node, and has another ready that may join under its name.
func (s *sim) replace(m *member) {
	at := slices.IndexFunc(s.nodes, func(o *member) bool { return o != m && o.stop != nil && !o.cut })
	if m.lead || at < 0 {
		return
	}
	s.note("%s burns down and is removed", m.node.Name)
	s.excuse(m)
	m.powerCut()
	m.part(false, false)
	if err := s.shared.Node(s.nodes[at].node.Name).Dismiss(context.Background(), m.node.Name); err != nil {
		s.fault("%v", err)
	}
	m.renew()
	// All that was there is made elsewhere: data are lost, and so are ends of runs that nobody has counted.
	maps.DeleteFunc(s.home, func(_ string, home fleet.NodeName) bool { return home == m.node.Name })
	counted := map[string]bool{}
	for _, j := range s.assignment().Jobs {
		counted[j.ID.Name] = j.Succeeded > 0
	}
	maps.DeleteFunc(s.done, func(run, by string) bool { return s.on[m.node.Name][by] && !counted[run] })
}

// roll has nothing in the way of a rollout but the leader's end, and looks whether ever more is missing than may be.
func (s *sim) roll() {
	s.note("quiet")
	s.mend()
	s.pass(200)
	now := s.want
	now.webImage, now.apiImage, now.firm, now.broken = "app:1", "app:1", map[string]string{"app:1": "app:2", "app:2": "app:1"}[now.firm], false
	s.push(now)
	end := s.rng.IntN(40)
	for i := range 90 {
		if i == end {
			s.endLeader()
		}
		s.pass(1)
		if n := sum(s.simulated.on("firm-")); n < firmPods-1 {
			s.fault("of firm %d pods are there, and %d must be", n, firmPods-1)
		}
	}
	s.note("quiet no more")
}

func (s *sim) endLeader() {
	for _, m := range s.nodes {
		if m.node.Name != s.shared.Leader() {
			continue
		}
		if s.rng.IntN(2) == 0 {
			s.note("kill the agent of %s, which leads", m.node.Name)
			m.kill()
			return
		}
		deaf := s.rng.IntN(2) == 0
		s.note("%s leads, and hears nothing: %t, or is not heard", m.node.Name, deaf)
		m.part(deaf, !deaf)
		return
	}
}

// excuse notes that containers of a machine may be others from now on.
func (s *sim) excuse(m *member) {
	for uid := range s.on[m.node.Name] {
		s.mayDiffer[uid] = true
	}
}

func (s *sim) look(m *member) []fleet.ObservedPod {
	seen, err := m.machine.Look(context.Background())
	if err != nil {
		return nil
	}
	return seen.Pods
}

func (s *sim) killContainer(m *member) {
	for _, p := range s.look(m) {
		for _, c := range p.Containers {
			if c.Lives() {
				s.note("kill %s on %s", c.PodmanName, m.node.Name)
				s.mayDiffer[p.UID] = true
				_ = m.machine.Kill(c.PodmanName, 137) // it may have ended just now
				return
			}
		}
	}
}

// pass lets seconds pass, and looks at each of them.
func (s *sim) pass(seconds int) {
	for range seconds {
		after(time.Second)
		s.check()
	}
}

// check holds the fleet to what it promises at all times.
func (s *sim) check() {
	names := map[string][]string{}
	if lives := s.running(); *simLogs && !slices.Equal(lives, s.lived) {
		s.note("    %v", lives)
		s.lived = lives
	}
	for _, m := range s.nodes {
		for _, p := range s.look(m) {
			if s.on[m.node.Name] == nil {
				s.on[m.node.Name] = map[string]bool{}
			}
			s.on[m.node.Name][p.UID] = true
			for _, c := range p.Containers {
				where := p.Pod.Name + "@" + string(m.node.Name)
				switch p.Owner.Kind {
				case fleet.KindStatefulSet:
					if c.Lives() {
						names[p.Pod.Name] = append(names[p.Pod.Name], where)
						s.atHome(p.Pod.Name, m.node.Name)
					}
				case fleet.KindJob:
					if c.Lives() {
						names[p.Owner.Name] = append(names[p.Owner.Name], where)
						if by := s.done[p.Owner.Name]; by != "" && by != p.UID {
							s.fault("the run %s is made again by %s", p.Owner.Name, where)
						}
					}
					if c.State == fleet.Exited && c.ExitCode == 0 {
						s.done[p.Owner.Name] = p.UID
					}
				}
				s.sameAs(p, c, where)
			}
		}
	}
	for name, where := range names {
		if len(where) > 1 {
			s.fault("%s lives more than once: %v", name, where)
		}
	}
	s.bound()
}

// bound finds data that the fleet has lost sight of: the next pod that wants them would begin without.
func (s *sim) bound() {
	decided := s.assignment()
	if decided.Epoch == 0 {
		return // nobody is there who could say
	}
	bindings := map[string]fleet.NodeName{}
	for _, b := range decided.Bindings {
		bindings[b.Claim.Name] = b.Node
	}
	for pod, home := range s.home {
		if at := bindings["data-"+pod]; at != home {
			s.fault("the fleet takes the data of %s to be on %q, and they are on %s", pod, at, home)
		}
	}
}

// atHome finds pods that run where their data are not.
func (s *sim) atHome(pod string, node fleet.NodeName) {
	if !strings.HasPrefix(pod, "kv-") {
		return
	}
	if home, known := s.home[pod]; known && home != node {
		s.fault("%s is on %s, and its data are on %s", pod, node, home)
	}
	s.home[pod] = node
}

// sameAs finds containers that were made anew without a cause.
func (s *sim) sameAs(p fleet.ObservedPod, c fleet.ObservedContainer, where string) {
	if !c.Lives() || strings.HasPrefix(c.Image, "bad:") {
		return
	}
	key := p.UID + "/" + c.Name
	if before, known := s.containers[key]; known && before != c.ID && !s.mayDiffer[p.UID] {
		s.fault("container %s of %s was restarted without a cause", c.Name, where)
	}
	s.containers[key] = c.ID
}

func (s *sim) fault(format string, args ...any) {
	s.t.Helper()
	text := fmt.Sprintf(format, args...)
	if line := "FAULT " + text; !slices.ContainsFunc(s.journal, func(l string) bool { return strings.HasSuffix(l, line) }) {
		s.note("%s", line)
		s.t.Error(text)
	}
}

// mend mends everything.
func (s *sim) mend() {
	for _, m := range s.nodes {
		m.part(false, false)
		m.clone.mu.Lock()
		m.clone.cut = false
		m.clone.mu.Unlock()
		m.machine.Up()
		m.start()
		after(time.Duration(s.rng.IntN(3)) * time.Millisecond) // decisions are under way meanwhile
	}
	s.pass(20)
	for _, m := range s.nodes {
		wish := api.Wish{Intent: fleet.Intent{Object: fleet.ObjectID{Kind: fleet.KindNode, Name: string(m.node.Name)}, Verb: fleet.Uncordon, Author: "ada"}}
		if _, err := s.nodes[0].Intend(context.Background(), wish); err != nil {
			s.fault("%v", err)
		}
	}
}

// heal mends everything, and expects the fleet to be what is pushed last.
func (s *sim) heal() {
	s.note("all is healed")
	s.mend()
	big := min(2, s.room())
	s.push(scene{web: 6, api: 2, db: 3, kv: 2, big: big, webImage: "app:2", apiImage: "app:1", firm: "app:1", log: true, settings: "9"})
	s.pass(600)
	want := map[string]int{"web": 6, "api": 2, "db": 3, "kv": 2, "big": big, "firm": firmPods, "log": len(s.nodes)}
	all := 0
	for name, n := range want {
		if all += n; n == 0 {
			delete(want, name)
		}
	}
	got := map[string]int{}
	for _, line := range s.running() {
		pod := strings.TrimPrefix(line, "default/")
		for name := range want {
			if strings.HasPrefix(pod, name+"-") {
				got[name]++
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(s.running()) != all {
		s.fault("it does not come to rest as pushed: %v", s.running())
	}
	epoch := s.assignment().Epoch
	for _, m := range s.nodes {
		if status := s.status(m); !status.Settled || status.Sources[0].Revision != s.origin.newest {
			s.fault("from %s: waiting %v, sources %+v", m.node.Name, status.Waiting, status.Sources)
		}
	}
	s.pass(120)
	if now := s.assignment().Epoch; now != epoch {
		s.fault("nothing happens, and epoch %d becomes %d", epoch, now)
	}
}
