package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/agent/apply"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/reconcile/pod"
	"github.com/skerry-dev/skerry/runtime/host"
)

// The rhythm of the node loop.
const (
	fullLook  = 30 * time.Second // what events missed is found by then
	blindLook = 5 * time.Second  // while Podman cannot be reached or no events come
	// Looking must not take the machine: in the long run one part in lookShare of the time goes into it. Up to
	// lookCredit may be spent at once, so that a push to a quiet host waits for nothing.
	lookShare  = 4
	lookCredit = 2 * time.Second
	leastRest  = 20 * time.Millisecond
	// mostRest bounds a rest: a look is slow when somebody else holds Podman's locks, too.
	mostRest = 500 * time.Millisecond
	// steadyWatch is how long a stream of events must have lasted to be opened again at once when it ends: a
	// Podman that cannot read its events says so only after it has said that it can.
	steadyWatch = 10 * time.Second
	// lookTimeout is after how long a look is given up: Podman hangs, and a user should be told.
	lookTimeout = time.Minute
)

// worker is the node loop: one goroutine owns all of it.
type worker struct {
	*Agent
	runner   *apply.Runner
	probers  *probers
	pasts    *pasts
	holder   *Holder              // nil where there are no addresses to be had
	turned   time.Time            // when the rules were last as planned
	unheard  []fleet.Note         // of nodes whose datagrams do not arrive
	draining map[string]time.Time // this node's pods that are to go, by UID: since when it knows
	meter    meter
	zone     fleet.Zone // that DNS answers
	announce time.Time  // when pods are told again where others are; zero: not at all
	outcomes chan apply.Outcome
	busy     map[string]underWay
	attempts map[string]pod.Tries // by UID
	vain     map[sought]time.Time // templates that were looked for in vain, and when they may be again; zero: never
	report   fleet.NodeReport
	images   []string  // that were there when they were listed last, of those that the fleet wants
	listed   time.Time // when; zero: something was pulled since

	seen   fleet.Host // the machine at the last look
	seenAt time.Time
	stale  bool // something happened since
}

type underWay struct {
	goal   fleet.Goal
	want   fleet.Hash
	claim  fleet.ClaimID // whose volume is being removed; zero for a pod's chain
	hooks  []string      // containers whose postStart hook is run
	cancel context.CancelFunc
}

// node acts on the assignment and reports, until ctx ends. Chains under way are cut between steps and waited
// for.
func (a *Agent) node(ctx context.Context) error {
	makers := a.Makers
	if makers == 0 {
		makers = max(4, 2*runtime.NumCPU()) // two cores are full at four (podman.md section 3)
	}
	w := &worker{
		Agent: a, outcomes: make(chan apply.Outcome, 16), busy: map[string]underWay{},
		attempts: map[string]pod.Tries{}, vain: map[sought]time.Time{}, stale: true,
	}
	w.runner = &apply.Runner{
		Host: a.Host, Volumes: a.Volumes, Prober: a.Prober, Pulls: &a.pulls, Profiles: filepath.Join(a.DataDir, "seccomp"),
		Outcomes: w.outcomes, Makers: make(chan struct{}, makers),
	}
	w.pasts = newPasts(a.DataDir)
	if a.Fleet != nil {
		w.holder = a.Fleet.Holder
	}
	if w.holder != nil {
		w.holder.tellTo(a.nodeBell.ring)
	}
	w.meter = meter{host: a.Host}
	w.probers = newProbers(a.Prober, a.DataDir, a.nodeBell.ring, a.Log)
	defer w.probers.wait()
	defer w.finish()
	credit := credit{left: lookCredit, at: time.Now()}
	looked := sync.OnceFunc(func() { close(a.looked) })
	for {
		began := time.Now()
		next, err := w.pass(ctx)
		looked()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rest := credit.spend(time.Since(began), time.Now())
		w.podmanIs(err)
		wait := time.Until(next)
		if err != nil || !a.watching.Load() {
			wait = min(wait, blindLook)
		}
		if !w.rest(ctx, rest, wait) {
			return nil
		}
	}
}

// credit is how long may be looked at once. It grows with time, up to lookCredit.
type credit struct {
	left time.Duration
	at   time.Time // when left was true
}

// spend takes a look off the credit and says how long to rest for it.
func (c *credit) spend(took time.Duration, now time.Time) time.Duration {
	c.left = max(min(c.left+now.Sub(c.at)/lookShare, lookCredit)-took, -mostRest/lookShare)
	c.at = now
	return min(max(-c.left*lookShare, leastRest), mostRest)
}

// rest takes outcomes until it is time for the next pass: when a bell rings or an outcome came, but not
// before least, and after at most wait. It is false when ctx ended.
func (w *worker) rest(ctx context.Context, least, wait time.Duration) bool {
	earliest, latest := time.After(least), time.After(max(wait, least))
	rang, rested := false, false
	for !(rang && rested) {
		select {
		case <-ctx.Done():
			return false
		case o := <-w.outcomes:
			w.took(o)
			rang, w.stale = true, true
		case <-w.hostBell:
			rang, w.stale = true, true
		case <-w.nodeBell:
			rang = true
		case <-w.links():
			rang = true
		case <-earliest:
			rested = true
		case <-latest:
			return true
		}
	}
	return true
}

// finish waits for the chains that are under way.
func (w *worker) finish() {
	done := make(chan struct{})
	go func() {
		w.runner.Wait()
		close(done)
	}()
	for {
		select {
		case <-w.outcomes:
		case <-done:
			return
		}
	}
}

// podmanIs logs when Podman goes away and when it comes back.
func (w *worker) podmanIs(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	before := w.podman.Swap(&text)
	switch {
	case *before == text:
		return
	case err != nil:
		w.Log.Error("the machine cannot be looked at: containers run on, nothing is changed", "err", err)
	default:
		w.Log.Info("podman answers")
	}
	w.changed.ring()
}

// pass looks, plans, starts what is to be done and reports. It returns when to look again at the latest.
func (w *worker) pass(ctx context.Context) (time.Time, error) {
	began := time.Now()
	in, err := w.nodeInput(ctx)
	if err != nil {
		w.ail(ctx, err)
		return began.Add(fullLook), err
	}
	plan := reconcile.Plan(in)
	w.probers.tend(ctx, plan.Probes, in.Host)
	w.forget(in.Assignment, in.Host.Volumes)
	if err := w.pasts.forget(in.Host, in.Assignment.Slots); err != nil {
		w.Log.Warn("what pods were before cannot be kept", "err", err)
	}
	w.cut(in)
	chains := plan.Chains
	turned, err := w.serve(ctx, plan)
	if !turned {
		chains = reconcile.InRotation(in, chains)
	}
	w.hold(&plan, turned) //nolint:contextcheck // what is held outlives this agent
	if err != nil {
		plan.WakeAt = fleet.Earliest(plan.WakeAt, time.Now().Add(serveAgain))
		w.Log.Error("the network of Services cannot be made as wanted", "err", err)
		plan.Report.Notes = append(plan.Report.Notes, fleet.Note{
			About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(w.Node.Name)}, Text: "Services are not served as they should be: " + err.Error(),
		})
	}
	plan.WakeAt = fleet.Earliest(plan.WakeAt, w.announce)
	for _, chain := range chains {
		if _, busy := w.busy[chain.UID]; !busy {
			w.begin(ctx, in, chain)
		}
	}
	took := time.Since(began)
	w.Metrics.passed("plan", took)
	w.Log.Debug("pass", "epoch", in.Assignment.Epoch, "chains", len(plan.Chains), "busy", len(w.busy), "took", took.Round(time.Millisecond))
	w.Metrics.pods(plan.Report)
	w.listImages(ctx, in.Desired)
	w.follows(&plan.Report, in.Assignment)
	if err := w.say(ctx, plan.Report); err != nil {
		return began.Add(fullLook), err
	}
	next := fleet.Earliest(plan.WakeAt, w.meter.ask(plan.Measure, time.Now()))
	return fleet.Earliest(w.seenAt.Add(fullLook), next), nil
}

// sought is a template, and a commit that it may be in.
type sought struct {
	hash fleet.Hash
	commit
}

// begin starts a chain.
func (w *worker) begin(ctx context.Context, in reconcile.NodeInput, chain fleet.Chain) {
	work := apply.Work{Chain: chain, Desired: in.Desired, Node: in.Node, Seen: in.Host}
	if at := slices.IndexFunc(in.Assignment.Slots, func(s fleet.Slot) bool { return s.UID == chain.UID }); at >= 0 {
		work.Slot = in.Assignment.Slots[at]
		work.Pod = reconcile.PodOf(work.Slot, in.Templates[work.Slot.Want])
		work.Cluster = w.Network.cluster(in.Desired, in.Assignment, work.Slot.Pod.Namespace)
	}
	if err := w.pasts.keep(chain); err != nil {
		w.Log.Warn("what a pod was before cannot be kept", "pod", chain.Pod.String(), "err", err)
	}
	chainCtx, cancel := context.WithCancel(ctx)
	b := underWay{goal: chain.Goal, want: work.Slot.Want, claim: chain.Steps[0].Claim, cancel: cancel}
	for _, s := range chain.Steps {
		if s.Verb == fleet.Hook {
			b.hooks = append(b.hooks, s.Container)
		}
	}
	w.busy[chain.UID] = b
	w.working.Store(chain.UID, struct{}{})
	w.runner.Go(chainCtx, work)
}

// cut ends chains that start what should stop by now, or be something else: a pull can take long. What removes a volume
// that is claimed again is ended, too, if it is not too late.
func (w *worker) cut(in reconcile.NodeInput) {
	for _, b := range w.busy {
		if b.claim != (fleet.ClaimID{}) && !reconcile.MayGo(in.Assignment, in.Desired, b.claim) {
			b.cancel()
		}
	}
	for i := range in.Assignment.Slots {
		s := &in.Assignment.Slots[i]
		if b, busy := w.busy[s.UID]; busy && b.goal == fleet.Run && (s.Goal == fleet.Drain || s.Want != b.want) {
			b.cancel()
		}
	}
}

// took notes what became of a chain: what failed is not tried again at once.
func (w *worker) took(o apply.Outcome) {
	uid := o.Chain.UID
	w.busy[uid].cancel()
	delete(w.busy, uid)
	w.working.Delete(uid)
	tries := w.attempts[uid]
	for _, done := range o.Steps {
		w.Metrics.stepped(done)
		s := done.Step
		for _, note := range done.Notes {
			w.Log.Warn("step", "step", string(s.Verb), "pod", s.Pod.String(), "note", note)
		}
		switch {
		case done.Err == nil:
			if s.Verb == fleet.Pull {
				w.listed = time.Time{}
			}
			w.Log.Info("step", "step", string(s.Verb), "pod", s.Pod.String(), "container", s.Container, "why", s.Why,
				"took", done.Took.Round(time.Millisecond))
			tries = tries.Worked(s, time.Now())
		case errors.Is(done.Err, context.Canceled), errors.Is(done.Err, host.ErrUnavailable):
			// says nothing about the pod
		default:
			tries = tries.Failed(s, failureOf(done.Err), time.Now())
			w.Log.Warn("step", "step", string(s.Verb), "pod", s.Pod.String(), "container", s.Container,
				"failures", tries[s.Container].Failures, "took", done.Took.Round(time.Millisecond), "err", done.Err)
		}
	}
	if len(tries) == 0 {
		delete(w.attempts, uid)
		return
	}
	w.attempts[uid] = tries
}

// failureOf is what pods have to know of an error.
func failureOf(err error) pod.Failure {
	f := pod.Failure{Text: err.Error(), Conflict: errors.Is(err, host.ErrConflict)}
	switch {
	case errors.Is(err, host.ErrNeverPulled):
		f.Reason = pod.NeverPull
	case errors.Is(err, host.ErrImageName):
		f.Reason = pod.InvalidName
	case errors.Is(err, apply.ErrConfig):
		f.Reason = pod.ConfigError
	}
	return f
}

// forget drops what was remembered of pods that are no more.
func (w *worker) forget(assignment fleet.Assignment, left map[string]fleet.Volumes) {
	if len(w.attempts) == 0 {
		return
	}
	live := map[string]bool{}
	for i := range assignment.Slots {
		live[assignment.Slots[i].UID] = true
	}
	for i := range w.seen.Claims {
		live[reconcile.ClaimKey(w.seen.Claims[i])] = true
	}
	for uid := range w.attempts {
		if _, folder := left[uid]; !live[uid] && !folder {
			delete(w.attempts, uid)
		}
	}
}

// ail tells the fleet that the machine cannot be looked at: what was said of its pods last is the best that is known.
func (w *worker) ail(ctx context.Context, err error) {
	if w.Fleet == nil || ctx.Err() != nil {
		return
	}
	report := w.report
	report.Node, report.Since, report.Trouble, report.At = w.Node.Name, w.since.Load(), err.Error(), time.Now()
	if err := w.say(ctx, report); err != nil {
		w.Log.Warn("the fleet cannot be told", "err", err)
	}
}

// listImages notes which of the images that the fleet wants are here: the leader would rather place a pod where it need not be pulled.
func (w *worker) listImages(ctx context.Context, desired fleet.Desired) {
	if w.Fleet == nil || time.Since(w.listed) < fullLook {
		return
	}
	here, err := w.Host.ImageNames(ctx)
	if err != nil {
		w.Log.Debug("images cannot be listed", "err", err)
		return
	}
	wanted := map[string]bool{}
	for _, o := range desired.Objects {
		if o.Template == nil {
			continue
		}
		for _, c := range slices.Concat(o.Template.Spec.InitContainers, o.Template.Spec.Containers) {
			wanted[fleet.ImageName(c.Image)] = true
		}
	}
	w.images, w.listed = slices.DeleteFunc(here, func(name string) bool { return !wanted[name] }), time.Now()
}

// follows says in a report which commits this node goes by, and why not by those that it should.
func (w *worker) follows(report *fleet.NodeReport, assignment fleet.Assignment) {
	if w.Fleet == nil {
		return
	}
	report.Epoch = max(w.report.Epoch, assignment.EpochOf(w.Node.Name))
	report.Images = w.images
	report.Revisions, report.Seen = map[fleet.SourceName]fleet.Revision{}, map[fleet.SourceName]fleet.Revision{}
	for _, h := range w.held.list() {
		if h.loaded {
			report.Revisions[h.name] = h.revision
		}
		if h.seen != "" && h.seen != h.revision {
			report.Seen[h.name] = h.seen
		}
		if h.misread != "" {
			report.Notes = append(report.Notes, fleet.Note{
				About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(w.Node.Name)},
				Text:  fmt.Sprintf("source %s is held at revision %s: %s", h.name, h.revision.Short(), h.misread),
			})
		}
		if h.err != nil && w.leading.Load() { // all others go by what this node reads, and may well reach the source themselves
			report.Notes = append(report.Notes, fleet.Note{
				About: fleet.ObjectID{Kind: fleet.KindNode, Name: string(w.Node.Name)},
				Text:  fmt.Sprintf("leads, and cannot fetch source %s, so that the fleet stays at revision %s: %s", h.name, h.revision.Short(), h.err),
			})
		}
	}
	slices.SortFunc(report.Notes, fleet.Note.Compare)
}

// say reports, if there is anything new to say.
func (w *worker) say(ctx context.Context, report fleet.NodeReport) error {
	if report.Since == unjoined {
		return nil
	}
	said := w.report
	said.At = report.At
	if reflect.DeepEqual(said, report) {
		return nil
	}
	w.report = report
	return w.Store.Report(ctx, report)
}

// listen rings the node's bell at Podman's events. A stream that ends is opened again: at first at once, then
// at the pace at which the node loop looks without it.
func (a *Agent) listen(ctx context.Context) error {
	for {
		var heard time.Time
		err := a.Host.Watch(ctx, func() {
			heard = time.Now()
			a.watching.Store(true)
			a.hostBell.ring() // what happened before is for a look to find
		}, func(uid string) {
			// What we do to a pod ourselves rings when it is done; a look in the midst of it would only cost.
			if _, ours := a.working.Load(uid); !ours {
				a.hostBell.ring()
			}
		})
		a.watching.Store(false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.Log.Debug("events ended", "err", err)
		wait := blindLook
		if !heard.IsZero() {
			a.hostBell.ring()
			if time.Since(heard) > steadyWatch {
				wait = 0
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
