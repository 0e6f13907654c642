package hostnet

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// generation is the number of the kernel's present rule set, which changes whenever anybody changes anything in it.
func generation() (uint32, error) {
	const getGeneration, genID = 16, 1 // NFT_MSG_GETGEN, NFTA_GEN_ID
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGeneration, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	msgs, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the rules' generation: %w", err)
	}
	for _, msg := range msgs {
		if len(msg) < nl.SizeofNfgenmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(msg[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("ask for the rules' generation: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type&nl.NLA_TYPE_MASK == genID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("ask for the rules' generation: no answer")
}

// count is how much there is of everything in a table; nothing when there is no table.
func count(ctx context.Context, family knftables.Family) (map[string]int, error) {
	cmd := exec.CommandContext(ctx, "nft", "--json", "list", "table", string(family), tableName)
	var wrong strings.Builder
	cmd.Stderr = &wrong
	out, err := cmd.Output()
	if err != nil {
		if strings.Contains(wrong.String(), "No such file or directory") { // nft speaks English, whatever the locale
			return nil, nil
		}
		return nil, fmt.Errorf("list table %s %s: %w: %s", family, tableName, err, strings.TrimSpace(wrong.String()))
	}
	type named struct {
		Name  string            `json:"name"`
		Chain string            `json:"chain"`
		Elem  []json.RawMessage `json:"elem"`
	}
	var list struct {
		All []struct {
			Chain, Rule, Map, Set *named
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("list table %s %s: %w", family, tableName, err)
	}
	n := map[string]int{}
	for _, o := range list.All {
		switch {
		case o.Chain != nil:
			n["chain "+o.Chain.Name]++
		case o.Rule != nil:
			n["rule "+o.Rule.Chain]++
		case o.Map != nil:
			n["element "+o.Map.Name] += len(o.Map.Elem)
			n["map "+o.Map.Name]++
		case o.Set != nil:
			n["element "+o.Set.Name] += len(o.Set.Elem)
			n["set "+o.Set.Name]++
		}
	}
	return n, nil
}

// whole says whether as much is in a table as should be. What is in it is not compared: things get lost, and nobody means
// to forge them.
func whole(t *table, have map[string]int) bool {
	want := contents(t)
	want["element "+setPods] = min(want["element "+setPods], 1) // neighbours may be told as one
	for what, n := range want {
		if have[what] < n {
			return false
		}
	}
	return true
}

// contents is how much there is of everything in a table, as count has it.
func contents(t *table) map[string]int {
	tx := knftables.NewFake("", "").NewTransaction() // for its text
	t.build(tx)
	return tally(tx.String())
}

// tally counts what a text adds to a table.
func tally(text string) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(text) {
		// add WHAT FAMILY TABLE NAME ...
		if w := strings.Fields(line); len(w) > 4 && w[1] != "table" {
			n[w[1]+" "+w[4]]++
		}
	}
	return n
}

// probe has one of everything, to see whether the kernel and nft know all that we write.
var probe = fleet.HostNet{
	Fronts: []fleet.Front{
		{Protocol: corev1.ProtocolTCP, Addr: netip.MustParseAddr("192.0.2.1"), Number: 1, Verdict: fleet.Reject},
		{Protocol: corev1.ProtocolUDP, Addr: netip.MustParseAddr("192.0.2.1"), Number: 1, Ends: []fleet.End{{Addr: netip.MustParseAddr("192.0.2.2"), Port: 1}}},
		{Protocol: corev1.ProtocolTCP, Number: 1, Masquerade: true, Sticky: time.Hour, Ends: []fleet.End{{Addr: netip.MustParseAddr("192.0.2.2"), Port: 1}}},
	},
	Pods:   []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	Tunnel: fleet.Tunnel{Port: 1},
	Fences: []fleet.Fence{{Pod: netip.MustParseAddr("192.0.2.2"), Ingress: fleet.Gate{Closed: true, Passes: []fleet.Pass{
		{Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25")}, Protocol: corev1.ProtocolTCP, First: 80, Last: 90},
	}}}},
}
