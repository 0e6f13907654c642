package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

func TestWriteStatus(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	id := func(kind, name string) fleet.ObjectID {
		return fleet.ObjectID{Kind: kind, Namespace: "shop", Name: name}
	}
	s := api.Status{
		Node: "alpha", Podman: "ok", Version: "1", Epoch: 7,
		Workloads: []reconcile.Workload{
			{ID: id("CronJob", "backup"), Revision: "abcdef123", File: "backup.yaml", State: reconcile.StateFailed, Cron: &reconcile.Schedule{
				Schedule: "5 4 * * *", TimeZone: "Europe/Berlin", Last: now.Add(-9 * time.Hour), Next: now.Add(15 * time.Hour), Succeeded: 3, Failed: 1,
			}},
			{ID: id("Deployment", "web"), Revision: "abcdef123", File: "web.yaml", Desired: 3, Updated: 3, Ready: 3, Available: 3, State: reconcile.StateRolledBack, Note: "bad: abcdef1"},
			{ID: id("Job", "migrate"), Revision: "abcdef123", File: "db.yaml", Desired: 3, State: reconcile.StateProgressing, Job: &reconcile.JobCount{Active: 1, Succeeded: 2}},
			{ID: id("StatefulSet", "db"), Revision: "abcdef123", File: "db.yaml", Desired: 1, Updated: 1, Ready: 1, Available: 1, State: reconcile.StateReady},
		},
		Services: []reconcile.Service{
			{ID: id("Service", "db"), Type: reconcile.TypeHeadless, Ports: []string{"5432/TCP"}, File: "db.yaml", Out: []string{"pod db-0 is not ready"}},
			{
				ID: id("Service", "web"), Type: "LoadBalancer", Addrs: []netip.Addr{netip.MustParseAddr("10.43.0.9")}, External: []string{"192.168.1.240"},
				Ports: []string{"80:30080/TCP", "443/TCP"}, File: "web.yaml", Ready: 2,
				Endpoints: []reconcile.Endpoint{{Pod: "web-a", Ready: true}, {Addr: netip.MustParseAddr("10.0.0.7"), Ready: true}, {Pod: "web-c"}},
			},
		},
		Intents: []api.Intent{{Intent: fleet.Intent{Object: id("Deployment", "web")}, Text: "not in Git: scale to 3, Git says 2 (by ada)"}},
		Waiting: []fleet.Note{{About: id("Job", "migrate"), Text: "2 of 3 pods succeeded, 0 failed"}},
	}
	want := `NODE   PODMAN  VERSION  EPOCH  SETTLED
alpha  ok      1        7      false

WORKLOAD             READY  UPDATED  AVAILABLE  STATE       REVISION  FILE      NOTE
Deployment/shop/web  3/3    3        3          RolledBack  abcdef1   web.yaml  bad: abcdef1
StatefulSet/shop/db  1/1    1        1          Ready       abcdef1   db.yaml   

JOB               SUCCEEDED  ACTIVE  FAILED  STATE        REVISION  FILE
Job/shop/migrate  2/3        1       0       Progressing  abcdef1   db.yaml

CRONJOB              SCHEDULE                 LAST  NEXT    ACTIVE  SUCCEEDED  FAILED  STATE   REVISION  FILE
CronJob/shop/backup  5 4 * * * Europe/Berlin  9h    in 15h  0       3          1       Failed  abcdef1   backup.yaml

SERVICE           TYPE          ADDRESS    EXTERNAL       PORTS                 ENDPOINTS  FILE
Service/shop/db   Headless      -          -              5432/TCP              0 ready    db.yaml
Service/shop/web  LoadBalancer  10.43.0.9  192.168.1.240  80:30080/TCP,443/TCP  2 ready    web.yaml

Not in Git: Deployment/shop/web: scale to 3, Git says 2 (by ada)
Waiting: Job/shop/migrate: 2 of 3 pods succeeded, 0 failed
Out: Service/shop/db: pod db-0 is not ready
`
	var out strings.Builder
	if err := writeStatus(&out, s, false, now); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	out.Reset()
	if err := writeStatus(&out, s, true, now); err != nil {
		t.Fatal(err)
	}
	if want := "2 ready    web.yaml  web-a,10.0.0.7\n"; !strings.Contains(out.String(), want) {
		t.Errorf("wide does not say who is ready:\n%s", out.String())
	}
}

// TestWriteFleet: a server is one whoever keeps the fleet's memory.
func TestWriteFleet(t *testing.T) {
	s := api.Status{Node: "alpha", Epoch: 7, Settled: true, Fleet: &api.FleetStatus{Leader: "alpha", Store: "ok", Nodes: []reconcile.Machine{
		{Name: "alpha", State: "Ready", Server: true, Voter: true},
		{Name: "beta", State: "Ready", Server: true}, // beside somebody else's etcd
		{Name: "gamma", State: "Lost", Pods: 3},
	}}}
	var out strings.Builder
	writeFleet(&out, s, false)
	want := `SEEN FROM	LEADER	STORE	EPOCH	SETTLED
alpha	alpha	ok	7	true

NODE	STATE	ROLE	PODS	REVISIONS	VERSION
alpha	Ready	server	0	-	-
beta	Ready	server	0	-	-
gamma	Lost	agent	3	-	-
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
