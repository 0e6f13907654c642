package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// largest is how many bytes one value of a report may have.
const largest = 64 << 10

// pause is between two writes of reports.
const pause = 50 * time.Millisecond

// Report keeps what a node says, and returns; it is told as soon as there is a session. This store's own Reports have it at once.
func (s *Store) Report(_ context.Context, report fleet.NodeReport) error {
	n := &s.session
	n.mu.Lock()
	n.said[report.Node] = report
	n.mu.Unlock()
	n.ring()
	s.watchers.ring()
	return nil
}

// Reports returns what the nodes said last: of this one what it said itself, whether or not that was told already.
func (s *Store) Reports(context.Context) ([]fleet.NodeReport, error) {
	list, err := s.mirror.allReports()
	if err != nil {
		return nil, err
	}
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	if len(s.session.said) == 0 {
		return list, nil
	}
	list = slices.Clone(list)
	for name, r := range s.session.said {
		i, there := slices.BinarySearchFunc(list, name, func(r fleet.NodeReport, n fleet.NodeName) int { return cmp.Compare(r.Node, n) })
		if there {
			list[i] = r
		} else {
			list = slices.Insert(list, i, r)
		}
	}
	return list, nil
}

// segment is a node's name in a key.
func segment(node fleet.NodeName) string { return url.PathEscape(string(node)) }

// told is what of a node's report lies in etcd, under which lease.
type told struct {
	lease clientv3.LeaseID
	keys  map[string][]byte // below reports/<node>/; nil: something that is to be replaced
	plain []byte            // the head, as far as it is compared
	rev   int64             // at which the head was written; 0: it is not there
}

// errOther says that something else lies there than what was told last.
var errOther = errors.New("another report was told meanwhile")

// tell writes reports: the newest, and of that only what changed.
func (s *Store) tell() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.session.bell:
		}
		wrote, err := s.tellAll()
		switch {
		case err != nil: // of which Away tells
			s.session.ring()
			s.rest(s.retry())
		case wrote:
			s.rest(pause)
		}
	}
}

func (s *Store) tellAll() (wrote bool, err error) {
	n := &s.session
	n.telling.Lock()
	defer n.telling.Unlock()
	n.mu.Lock()
	lease, said := n.lease, maps.Clone(n.said)
	n.mu.Unlock()
	if lease == 0 {
		return false, nil
	}
	for name, report := range said {
		if n.told[name] == nil {
			n.told[name] = &told{}
		}
		did, failed := s.tellOne(n.told[name], lease, report)
		wrote = wrote || did
		if failed != nil { // whether it was written is not known
			delete(n.told, name)
			err = failed
		}
	}
	return wrote, err
}

// tellOne writes what changed of one report, the head last: a pod that is missing means something only with the head's epoch.
//
// Each write hangs on the head being the one that is known. A request that nobody waits for any more may be carried out all the same,
// after later ones: what goes to a raft leader that is cut off lies in a connection until the cut is healed. What is told after such
// a request writes the head anew, so that it comes to nothing.
func (s *Store) tellOne(t *told, lease clientv3.LeaseID, report fleet.NodeReport) (bool, error) {
	prefix := s.key(reportsArea + "/" + segment(report.Node) + "/")
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.TTL)
	defer cancel()
	if t.lease != lease { // what lies there hangs on another
		resp, err := s.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return false, err
		}
		*t = told{lease: lease, keys: map[string][]byte{}}
		for _, kv := range resp.Kvs {
			key := strings.TrimPrefix(string(kv.Key), prefix)
			t.keys[key] = nil
			if key == "head" {
				t.rev = kv.ModRevision
			}
		}
	}
	keys, plain, err := splitReport(report)
	if err != nil {
		s.cfg.Log.Error("report is not told", "node", report.Node, "err", err)
		return false, nil
	}
	var ops []op
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if raw := keys[key]; key != "head" && string(t.keys[key]) != string(raw) {
			ops = append(ops, op{key: prefix + key, value: raw, lease: lease})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(t.keys)) {
		if _, stays := keys[key]; !stays {
			ops = append(ops, op{key: prefix + key, gone: true})
		}
	}
	if len(ops) == 0 && string(plain) == string(t.plain) {
		return false, nil
	}
	if string(plain) != string(t.plain) {
		ops = append(ops, op{key: prefix + "head", value: keys["head"], lease: lease})
	}
	known := clientv3.Compare(clientv3.ModRevision(prefix+"head"), "=", t.rev)
	rev := t.rev
	for _, some := range batches(ops) {
		resp, err := s.client.Txn(ctx).If(known).Then(clientOps(some)...).Commit()
		if err == nil && !resp.Succeeded {
			err = errOther
		}
		if err != nil {
			return true, err
		}
		if string(plain) != string(t.plain) {
			rev = resp.Header.Revision // the last one's: the head is in that
		}
	}
	t.keys, t.plain, t.rev = keys, plain, rev
	return true, nil
}

// splitReport makes keys below reports/<node>/ of a report, none larger than etcd and its watchers should be asked to bear. plain is
// the head without what changes with each report.
func splitReport(report fleet.NodeReport) (keys map[string][]byte, plain []byte, err error) {
	keys = map[string][]byte{}
	notes := slices.Clip(report.Notes)
	for _, pod := range report.Pods {
		raw, err := json.Marshal(pod)
		if err != nil {
			return nil, nil, fmt.Errorf("write pod %s: %w", pod.Pod, err)
		}
		if len(raw) > largest {
			notes = append(notes, fleet.Note{About: pod.Pod.Object(), Text: "its messages are told shortened: its status is too large"})
			if raw, err = json.Marshal(shortPod(pod)); err != nil {
				return nil, nil, err
			}
		}
		key := "pod/" + pod.UID
		for keys[key] != nil {
			key += "+"
		}
		keys[key] = raw
	}
	report.Pods, report.Notes = nil, notes
	at := report.At
	report.At = time.Time{}
	if plain, err = json.Marshal(report); err != nil {
		return nil, nil, fmt.Errorf("write report of %s: %w", report.Node, err)
	}
	if len(plain) > largest {
		report.Notes = shortNotes(notes)
		if plain, err = json.Marshal(report); err != nil {
			return nil, nil, err
		}
	}
	report.At = at
	keys["head"], err = json.Marshal(report)
	return keys, plain, err
}

// shortPod cuts a pod's messages.
func shortPod(pod fleet.PodReport) fleet.PodReport {
	const most = 256
	status := pod.Status.DeepCopy()
	status.Message = cut(status.Message, most)
	for i := range status.Conditions {
		status.Conditions[i].Message = cut(status.Conditions[i].Message, most)
	}
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			for _, state := range []*corev1.ContainerState{&list[i].State, &list[i].LastTerminationState} {
				if state.Waiting != nil {
					state.Waiting.Message = cut(state.Waiting.Message, most)
				}
				if state.Terminated != nil {
					state.Terminated.Message = cut(state.Terminated.Message, most)
				}
			}
		}
	}
	pod.Status = *status
	return pod
}

// shortNotes keeps as many notes as half of what a value may have.
func shortNotes(notes []fleet.Note) []fleet.Note {
	var list []fleet.Note
	size := 0
	for i, n := range notes {
		n.Text = cut(n.Text, 1024)
		size += len(n.Text) + len(n.About.String()) + 32
		if size > largest/2 {
			return append(list, fleet.Note{Text: fmt.Sprintf("%d more notes are not told: they are too many", len(notes)-i)})
		}
		list = append(list, n)
	}
	return list
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

// joinReport is the opposite of splitReport. Under the mirror's lock.
func joinReport(keys *nodeKeys) (fleet.NodeReport, error) {
	var r fleet.NodeReport
	if err := json.Unmarshal(keys.head.value, &r); err != nil {
		return r, fmt.Errorf("read a report: %w", err)
	}
	for key, e := range keys.pods {
		if e.decoded == nil {
			v, err := decode[fleet.PodReport](e.value)
			if err != nil {
				return r, fmt.Errorf("read %s of the report of %s: %w", key, r.Node, err)
			}
			e.decoded = v
		}
		r.Pods = append(r.Pods, *e.decoded.(*fleet.PodReport))
	}
	slices.SortFunc(r.Pods, func(a, b fleet.PodReport) int {
		return cmp.Or(a.Pod.Compare(b.Pod), a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
	})
	return r, nil
}
