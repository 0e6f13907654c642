package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/coord/coordtest"
	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/coord/lease/leasetest"
	"github.com/skerry-dev/skerry/fleet"
)

// TestOthers: whose pods are sent to is who is heard, and said what runs there since it was started; and who lives by the store though its
// datagrams do not arrive.
func TestOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		lan, shared := leasetest.NewLAN(), coordtest.NewShared(5*time.Second)
		talk := func(name, other fleet.NodeName) *lease.Node {
			n := lease.NewNode(lease.Config{Self: name, Conn: lan.Plug(name), Now: func() time.Duration { return time.Since(began) + time.Hour }})
			n.SetPeers([]lease.Peer{{Name: other, Addr: leasetest.AddrOf(other), Secret: []byte("of both")}})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = n.Run(ctx)
			}()
			t.Cleanup(func() {
				cancel()
				<-ended
			})
			return n
		}
		here, there := shared.Node("a"), shared.Node("b")
		t.Cleanup(here.Close)
		t.Cleanup(there.Close)
		a := &Agent{Config: Config{Node: fleet.Node{Name: "a"}, Store: here, Fleet: &Fleet{Roll: here, Leases: talk("a", "b")}}}
		says := func(process uint64) {
			t.Helper()
			if err := there.Report(t.Context(), fleet.NodeReport{Node: "b", Process: process}); err != nil {
				t.Fatal(err)
			}
		}
		want := func(what string, silent bool, notes int) {
			t.Helper()
			<-time.After(time.Second)
			reports, who, said, err := a.others(t.Context())
			if err != nil || len(reports) != 1 || who["b"] != silent || len(said) != notes {
				t.Errorf("%s: %d reports, silent %v, notes %v, %v", what, len(reports), who, said, err)
			}
		}
		b := talk("b", "a")
		says(b.Process())
		want("it is heard", false, 0)
		b = talk("b", "a")
		want("it was started anew", true, 0)
		says(b.Process())
		want("it has said what runs there", false, 0)
		lan.Part("b", "a", true)
		want("it is not heard", true, 0)
		<-time.After(deaf)
		want("it lives all the same", false, 1)
		lan.Part("b", "a", false)
		want("it is heard again", false, 0)
	})
}
