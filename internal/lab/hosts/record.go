package hosts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// happening is something that a Checker saw or was told.
type happening struct {
	at   time.Time
	host string
	what what
	// Of a container: Podman's ID, its pod's UID, and its name in the pod, empty for the one that holds the pod together.
	id, uid, container string
	pod                fleet.Identity // of the pod; of a container that was seen before its pod, the zero one
	code               int            // of one that ended
	// Of a cause: which pods, and why.
	pods, why string
}

type what string

const (
	started  what = "started"
	ended    what = "ended"
	removed  what = "removed" // after its end, unless Podman did not hear of that
	powerCut what = "power cut"
	powerOn  what = "power on"
	cause    what = "cause" // from here on there is one
	over     what = "over"  // of the cause with that why
)

func (h happening) String() string {
	text := h.at.UTC().Format("15:04:05.000") + " " + h.host + " " + string(h.what)
	switch h.what {
	case cause, over:
		return fmt.Sprintf("%s for %q: %s", text, h.pods, h.why)
	case started, ended, removed:
		name := h.container
		if name == "" {
			name = "(the pod)"
		}
		text += fmt.Sprintf(" %s %s of %s hash %s uid %.8s", h.pod.Pod, name, h.pod.Owner, h.pod.Want, h.uid)
		if h.what == ended {
			text += fmt.Sprintf(" code %d", h.code)
		}
	}
	return text
}

// promise is what a violation is of.
type promise string

const (
	onePod     promise = "a pod of a StatefulSet never lives twice"
	oneRun     promise = "a tick of a CronJob runs once"
	noRestarts promise = "what is as it should be is not restarted"
)

// violation is a promise that was broken by the last of some happenings.
type violation struct {
	promise promise
	by      []happening
}

func (v violation) String() string {
	text := "broken: " + string(v.promise)
	for _, h := range v.by {
		text += "\n\t" + h.String()
	}
	return text
}

// judge finds the broken promises in all that happened, in order of time.
func judge(all []happening) []violation {
	j := &judgement{
		running: map[string]happening{}, lost: map[pods]happening{}, stopped: map[name]happening{},
		runs: map[fleet.ObjectID][]*run{},
	}
	for _, h := range all {
		j.take(h)
	}
	return j.found
}

// fewest is the smallest number of containers of some pods that ran at one time since a moment.
func fewest(all []happening, pods string, since time.Time) int {
	running, least := map[string]string{}, -1 // hosts by container
	for _, h := range all {
		if least < 0 && h.at.After(since) {
			least = len(running)
		}
		switch h.what {
		case started:
			if h.container != "" && strings.HasPrefix(h.pod.Pod.String(), pods) {
				running[h.id] = h.host
			}
		case ended, removed:
			delete(running, h.id)
		case powerCut:
			maps.DeleteFunc(running, func(_, host string) bool { return host == h.host })
		case powerOn, cause, over:
		}
		if least >= 0 {
			least = min(least, len(running))
		}
	}
	if least < 0 {
		return len(running)
	}
	return least
}

// judgement is what is to be known of the past for judging what comes next.
type judgement struct {
	running map[string]happening // containers by ID, as they started
	causes  []happening
	lost    map[pods]happening        // pods that ended without a cause and have no successor yet
	stopped map[name]happening        // containers, likewise
	runs    map[fleet.ObjectID][]*run // pods of a CronJob's Jobs
	found   []violation
}

// pods are alike: any of them may come for another.
type pods struct {
	owner fleet.ObjectID
	hash  fleet.Hash
	stamp string
}

type name struct{ uid, container string }

// run is a pod of a Job.
type run struct {
	first   happening
	index   string
	label   string
	running int
	broken  bool // it failed, or the power went: another has to do it
}

func alike(h happening) pods { return pods{h.pod.Owner, h.pod.Want, h.pod.Stamp.String()} }

func (j *judgement) take(h happening) {
	switch h.what {
	case started:
		j.start(h)
	case ended:
		j.end(h)
	case removed:
		h.code = 137
		j.end(h)
	case powerCut:
		for id, r := range j.running {
			if r.host == h.host {
				delete(j.running, id)
				j.leave(r, true)
			}
		}
	case cause:
		j.causes = append(j.causes, h)
	case over:
		j.causes = slices.DeleteFunc(j.causes, func(c happening) bool { return c.pods == h.pods && c.why == h.why })
	case powerOn:
	}
}

func (j *judgement) start(h happening) {
	if h.container == "" {
		if before, is := j.lost[alike(h)]; is {
			delete(j.lost, alike(h))
			j.broke(noRestarts, before, h)
		}
		j.running[h.id] = h
		return
	}
	if before, is := j.stopped[name{h.uid, h.container}]; is {
		delete(j.stopped, name{h.uid, h.container})
		j.broke(noRestarts, before, h)
	}
	if h.pod.Owner.Kind == "StatefulSet" {
		for _, other := range j.running {
			if other.container != "" && other.pod.Owner.Kind == h.pod.Owner.Kind && other.pod.Pod == h.pod.Pod &&
				(other.host != h.host || other.uid != h.uid) {
				j.broke(onePod, other, h)
			}
		}
	}
	if h.pod.Controller.Kind == "CronJob" {
		j.run(h)
	}
	j.running[h.id] = h
}

// run looks for another pod that does or did the same: of the same Job, which has the tick in its name.
func (j *judgement) run(h happening) {
	index := ""
	if h.pod.Index != nil {
		index = fmt.Sprint(*h.pod.Index)
	}
	var mine *run
	for _, r := range j.runs[h.pod.Owner] {
		switch {
		case r.first.uid == h.uid && r.first.host == h.host:
			mine = r
		case r.label != h.pod.Label: // another Job of that name
			j.broke(oneRun, r.first, h)
		case r.index == index && (r.running > 0 || !r.broken):
			j.broke(oneRun, r.first, h)
		}
	}
	if mine == nil {
		mine = &run{first: h, index: index, label: h.pod.Label}
		j.runs[h.pod.Owner] = append(j.runs[h.pod.Owner], mine)
	}
	mine.running++
}

// leave is the end of a container of a run.
func (j *judgement) leave(r happening, broken bool) {
	for _, run := range j.runs[r.pod.Owner] {
		if run.first.uid == r.uid && run.first.host == r.host && r.container != "" {
			run.running--
			run.broken = run.broken || broken
		}
	}
}

func (j *judgement) end(h happening) {
	r, is := j.running[h.id]
	if !is {
		return
	}
	delete(j.running, h.id)
	j.leave(r, h.code != 0)
	// A Job's pods come to an end by themselves. So do containers that crash; that one was told to end, or was killed, looks
	// like one of these three.
	own := h.container != "" && h.code != 0 && h.code != 137 && h.code != 143
	if own || r.pod.Owner.Kind == "Job" || j.excused(h) {
		return
	}
	if h.container == "" {
		j.lost[alike(r)] = h
	} else {
		j.stopped[name{h.uid, h.container}] = h
	}
}

// excused says whether there is a cause for the end of a pod or container.
func (j *judgement) excused(h happening) bool {
	return slices.ContainsFunc(j.causes, func(c happening) bool {
		return (c.host == "" || c.host == h.host) && strings.HasPrefix(h.pod.Pod.String(), c.pods)
	})
}

func (j *judgement) broke(p promise, by ...happening) {
	j.found = append(j.found, violation{p, by})
}
