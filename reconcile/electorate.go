package reconcile

import (
	"slices"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// electQuiet is how long nothing changes after a majority has gone by an electorate: longer than any lease that was granted before. It is counted
// by the clocks of leaders, and a new one may be ahead of the one before by the difference.
const electQuiet = 2 * time.Second

// elect says who votes on which node has an address. Two electorates that follow one another differ by one voter, or in how fast they are, and the
// next comes only when a majority goes by the one before, and all leases from before have ended: so two majorities always have a voter in
// common. What nodes know that is newer than what the store has is taken over.
func (d *decider) elect() {
	now, agreed := d.in.Previous.Electorate, d.in.Previous.Agreed
	for i := range d.in.Reports {
		if e := d.in.Reports[i].Electorate; e.Epoch > now.Epoch { // the store is of before
			now, agreed = e, time.Time{}
		}
	}
	d.electorate, d.agreed = now, agreed
	want := d.voters()
	if now.Epoch == 0 {
		if len(want) > 0 && d.unheard(true) == "" { // nobody knows of another one
			d.electorate = fleet.Electorate{Epoch: 1, Voters: want, Fast: d.in.Network.Fast}
		}
		return
	}
	if left := slices.DeleteFunc(slices.Clone(now.Voters), func(n fleet.NodeName) bool { return !d.exists[n] }); len(left) <= len(now.Voters)/2 && len(want) > 0 {
		d.electAnew(now, want)
		return
	}
	if agreed.IsZero() || agreed.After(d.in.Now) {
		goBy := 0
		for i := range d.in.Reports {
			r := &d.in.Reports[i]
			if slices.Contains(now.Voters, r.Node) && r.Electorate.Epoch >= now.Epoch {
				goBy++
			}
		}
		if goBy <= len(now.Voters)/2 {
			return
		}
		d.agreed = d.in.Now
	}
	next, changes := following(now, want, d.in.Network.Fast)
	if !changes {
		return
	}
	if at := d.agreed.Add(electQuiet); d.in.Now.Before(at) {
		d.wakeAt = fleet.Earliest(d.wakeAt, at)
		return
	}
	d.electorate, d.agreed = next, time.Time{}
}

// electAnew begins anew where most voters were removed for good, and nobody would ever have a majority again. Nobody votes for a while: what was
// granted has ended then.
func (d *decider) electAnew(now fleet.Electorate, want []fleet.NodeName) {
	next := fleet.Electorate{Epoch: now.Epoch + 1, Fast: d.in.Network.Fast}
	if len(now.Voters) > 0 {
		d.electorate, d.agreed = next, d.in.Now
		return
	}
	if at := d.agreed.Add(electQuiet); d.in.Now.Before(at) && d.agreed.Before(d.in.Now.Add(electQuiet)) {
		d.wakeAt = fleet.Earliest(d.wakeAt, at)
		return
	}
	next.Voters = want
	d.electorate, d.agreed = next, time.Time{}
}

// voters are the nodes that should vote: those that keep a copy of the fleet's memory, or its servers where somebody else keeps that.
func (d *decider) voters() []fleet.NodeName {
	var keepers, servers []fleet.NodeName
	for _, n := range d.in.Nodes { // in the order of their names
		if n.Voter {
			keepers = append(keepers, n.Name)
		}
		if n.Server {
			servers = append(servers, n.Name)
		}
	}
	if len(keepers) > 0 {
		return keepers
	}
	return servers
}

// following is one step from an electorate to what is wanted; false when it is that.
func following(now fleet.Electorate, want []fleet.NodeName, fast bool) (fleet.Electorate, bool) {
	next := fleet.Electorate{Epoch: now.Epoch + 1, Voters: slices.Clone(now.Voters), Fast: now.Fast}
	if len(want) == 0 { // the roll is not known, perhaps
		return now, false
	}
	for i, name := range now.Voters {
		if !slices.Contains(want, name) && len(now.Voters) > 1 {
			next.Voters = slices.Delete(next.Voters, i, i+1)
			return next, true
		}
	}
	for _, name := range want {
		if !slices.Contains(now.Voters, name) {
			next.Voters = append(next.Voters, name)
			slices.Sort(next.Voters)
			return next, true
		}
	}
	if now.Fast != fast {
		next.Fast = fast
		return next, true
	}
	return now, false
}
