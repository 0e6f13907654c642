package etcd

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// fill gives every field of a struct, and one element of every list, a value that is not zero.
func fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 5, 4, 3, 2, 1, 7, time.UTC)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Type().PkgPath() == reflect.TypeFor[fleet.Slot]().PkgPath() {
				fill(t, v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0), path+"[]")
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, path+"[key]")
		fill(t, value, path+"[]")
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path)
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	default:
		t.Fatalf("%s: a %s; say here how to fill one", path, v.Kind())
	}
}

func roundTrip(t *testing.T, a fleet.Assignment) fleet.Assignment {
	t.Helper()
	keys, err := split(&a)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]*entry{}
	for key, raw := range keys {
		entries[key] = &entry{value: raw}
	}
	got, err := join(a.Epoch, entries)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEveryFieldIsCarried(t *testing.T) {
	var want fleet.Assignment
	fill(t, reflect.ValueOf(&want).Elem(), "Assignment")
	for i := range reflect.TypeOf(want).NumField() {
		if reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("%s was not filled", reflect.TypeOf(want).Field(i).Name)
		}
	}
	if diff := cmp.Diff(want, roundTrip(t, want), compareAddrs); diff != "" {
		t.Fatalf("a field of the assignment gets lost between etcd and here (coord/etcd/split.go, fields):\n%s", diff)
	}
}

// compareAddrs lets cmp look at what it cannot look into.
var compareAddrs = cmp.Exporter(func(reflect.Type) bool { return true })

func TestOrderIsKept(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	var want fleet.Assignment
	want.Epoch = 3
	for i := range 30 {
		want.Slots = append(want.Slots, fleet.Slot{Identity: fleet.Identity{
			Pod: fleet.PodID{Namespace: "a", Name: fmt.Sprintf("p%02d", i/3)}, UID: fmt.Sprintf("u%02d", 90-i), Created: at.Add(time.Duration(i) * time.Second),
		}})
		want.Crons = append(want.Crons, fleet.Cron{ID: fleet.ObjectID{Kind: fleet.KindCronJob, Namespace: "a", Name: fmt.Sprintf("c%02d", i)}})
	}
	want.Slots = append(want.Slots, want.Slots[29]) // of one UID: neither gets lost
	if diff := cmp.Diff(want, roundTrip(t, want)); diff != "" {
		t.Fatal(diff)
	}
}

func TestReportIsKept(t *testing.T) {
	want := fleet.NodeReport{Node: "n", Epoch: 4, Since: 2, At: time.Date(2026, 5, 4, 3, 2, 1, 7, time.UTC), Pending: 2, Trouble: "full", Seen: map[fleet.SourceName]fleet.Revision{"home": "def"},
		Process: 1 << 63, Electorate: fleet.Electorate{Epoch: 3, Voters: []fleet.NodeName{"a"}, Fast: true}, Holding: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		Seeking: []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.10")},
		Images:  []string{"a", "b"}, Revisions: map[fleet.SourceName]fleet.Revision{"home": "abc"},
		Claims: []fleet.ObservedClaim{{PodmanName: "v"}}, Notes: []fleet.Note{{Text: "why"}}}
	for i := range 9 {
		want.Pods = append(want.Pods, fleet.PodReport{
			Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "a", Name: fmt.Sprint("p", i/2)}, UID: fmt.Sprint("u", i), Created: time.Unix(int64(i), 0).UTC()},
			Status:   corev1.PodStatus{Phase: corev1.PodRunning, Message: fmt.Sprint(i)}, Usage: []fleet.Usage{{Container: "c", CPU: 3}},
		})
	}
	keys, _, err := splitReport(want)
	if err != nil {
		t.Fatal(err)
	}
	parts := &nodeKeys{head: &entry{value: keys["head"]}, pods: map[string]*entry{}}
	for key, raw := range keys {
		if key != "head" {
			parts.pods[key] = &entry{value: raw}
		}
	}
	got, err := joinReport(parts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Fatal(diff)
	}
	// A new field of a report that is a list, too, would be in the head, and may be.
	if n := reflect.TypeOf(want).NumField(); n != 16 {
		t.Fatalf("a report has %d fields: does a large list belong into keys of its own (report.go)?", n)
	}
}

func TestLargeReportsAreCut(t *testing.T) {
	long := make([]byte, 2*largest)
	for i := range long {
		long[i] = "ä"[i%2]
	}
	report := fleet.NodeReport{Node: "n", Pods: []fleet.PodReport{{Identity: fleet.Identity{UID: "u", Pod: fleet.PodID{Namespace: "a", Name: "b"}}}}}
	report.Pods[0].Status.Message = string(long)
	report.Pods[0].Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Message: string(long)}}}}
	for range 5000 {
		report.Notes = append(report.Notes, fleet.Note{Text: string(long[:100])})
	}
	keys, plain, err := splitReport(report)
	if err != nil {
		t.Fatal(err)
	}
	for key, raw := range keys {
		if len(raw) > largest {
			t.Errorf("%s has %d bytes", key, len(raw))
		}
	}
	if len(plain) > largest {
		t.Errorf("the head has %d bytes", len(plain))
	}
	if report.Pods[0].Status.Message != string(long) || len(report.Notes) != 5000 {
		t.Error("what the caller has was changed")
	}
}
