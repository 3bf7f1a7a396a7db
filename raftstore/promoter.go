package raftstore

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// candidate is a server as the promoter sees it.
type candidate struct {
	id, zone string
	voter    bool
	leader   bool
	// healthy is what autopilot says now, since is for how long it has said so.
	healthy bool
	since   time.Duration
	// failed servers were silent for longer than the grace for dead servers.
	failed bool
	// pinned servers must not vote.
	pinned bool
	// level is the highest feature level that the server knows.
	level uint32
}

// electorate is what the promoter decides by.
type electorate struct {
	// desired is the number of voters that the operator wants, 0 for automatic.
	desired int
	// spread gives each zone a vote before any zone gets a second one.
	spread bool
	// stabilization is how long a server must be healthy before it gets a vote.
	stabilization time.Duration
	// level is the cluster's feature level.
	level   uint32
	servers []candidate
}

// The bounds of automatic decisions. More than five voters make every write slower
// and lose nothing less; below three, taking a vote away costs more than it gives.
const (
	mostVoters  = 5
	leastVoters = 3
)

// ballot is what is to change. Of promotions and demotions, only one kind is
// carried out at a time.
type ballot struct {
	promote []string
	demote  []string
	// successor is to lead instead of a leader that must not vote.
	successor string
}

// wanted is the number of voters that there should be: what the operator asked
// for, or as many as there are servers to carry a vote, and always an odd number
// that they can reach. An even number tolerates no more failures than the odd one
// below it and needs one more answer for every write.
func (e *electorate) wanted() int {
	able := 0
	for _, c := range e.servers {
		if e.able(c) {
			able++
		}
	}
	n := min(able, mostVoters)
	if e.desired > 0 {
		n = min(able, e.desired)
	}
	if n%2 == 0 {
		n--
	}
	return max(n, 1)
}

// hoped is the number of voters that there are to be once every server has proved
// itself. An operator compares with it: while a server is replaced, one is missing.
func (e *electorate) hoped() int {
	if e.desired > 0 {
		return e.desired
	}
	able, keepers := 0, 0
	for _, c := range e.servers {
		if c.pinned || c.failed {
			continue
		}
		able++
		if c.voter {
			keepers++
		}
	}
	n := min(able, mostVoters)
	if n%2 == 0 {
		n--
	}
	// Nobody takes the vote of the last few, even if one of them is of no use.
	return max(n, min(keepers, leastVoters), 1)
}

// able servers may have a vote: those that have one, unless they are as good as
// lost, and those that have proved themselves.
func (e *electorate) able(c candidate) bool {
	if c.pinned || c.failed {
		return false
	}
	return c.voter || e.proven(c)
}

func (e *electorate) proven(c candidate) bool {
	return c.healthy && c.since >= e.stabilization && c.level >= e.level && !c.pinned
}

// decide is the promotion rule. It is a pure function, so that it can be told
// what every history of failures comes to.
func (e *electorate) decide() ballot {
	// Of the voters, keepers are those that nobody wants to lose their vote, living
	// those that are not as good as lost.
	voters, keepers, living := 0, 0, 0
	zones := map[string]int{}
	var b ballot
	var pinned string
	for _, c := range e.servers {
		if !c.voter {
			continue
		}
		voters++
		switch {
		case c.pinned && c.leader:
			b.successor = e.bestSuccessor(c.id)
		case c.pinned:
			pinned = c.id
		default:
			keepers++
		}
		if !c.failed {
			living++
			zones[c.zone]++
		}
	}
	want := e.wanted()
	spares := e.spares(zones)
	if keepers < want {
		b.promote = e.fill(spares, zones, want-keepers)
	}
	switch {
	case len(b.promote) > 0:
	case pinned != "":
		b.demote = e.ifSafe([]string{pinned})
	case living > want && living == voters && (voters > leastVoters || want == e.desired):
		b.demote = e.ifSafe(e.surplus(zones))
	case e.spread && voters == want && living == voters:
		b.promote = e.exchange(spares, zones)
	}
	return b
}

// ifSafe gives the demotions if a majority of the voters that are left is healthy.
func (e *electorate) ifSafe(demotions []string) []string {
	voters, healthy := 0, 0
	for _, c := range e.servers {
		if c.voter && !slices.Contains(demotions, c.id) {
			voters++
			if c.healthy {
				healthy++
			}
		}
	}
	if healthy <= voters/2 {
		return nil
	}
	return demotions
}

// spares are the servers that can be given a vote, the best first.
func (e *electorate) spares(zones map[string]int) []candidate {
	var out []candidate
	for _, c := range e.servers {
		if !c.voter && !c.failed && e.proven(c) {
			out = append(out, c)
		}
	}
	e.rank(out, zones)
	return out
}

// rank puts servers of zones with few votes first, and the longest healthy among
// equals.
func (e *electorate) rank(servers []candidate, zones map[string]int) {
	slices.SortFunc(servers, func(a, b candidate) int {
		byZone := 0
		if e.spread {
			byZone = cmp.Compare(zones[a.zone], zones[b.zone])
		}
		return cmp.Or(byZone, -cmp.Compare(a.since, b.since), cmp.Compare(a.id, b.id))
	})
}

// fill chooses n servers, one after the other as each changes the zones.
func (e *electorate) fill(spares []candidate, zones map[string]int, n int) []string {
	var out []string
	for len(spares) > 0 && len(out) < n {
		out = append(out, spares[0].id)
		zones[spares[0].zone]++
		spares = spares[1:]
		e.rank(spares, zones)
	}
	return out
}

// surplus chooses one voter to lose its vote: of the most crowded zone, an
// unhealthy one before a healthy one, never the leader.
func (e *electorate) surplus(zones map[string]int) []string {
	var best *candidate
	for i, c := range e.servers {
		if !c.voter || c.leader {
			continue
		}
		if best == nil || e.dispensable(c, *best, zones) {
			best = &e.servers[i]
		}
	}
	if best == nil {
		return nil
	}
	return []string{best.id}
}

func (e *electorate) dispensable(a, b candidate, zones map[string]int) bool {
	if a.healthy != b.healthy {
		return !a.healthy
	}
	if e.spread && zones[a.zone] != zones[b.zone] {
		return zones[a.zone] > zones[b.zone]
	}
	return cmp.Or(cmp.Compare(a.since, b.since), -cmp.Compare(a.id, b.id)) < 0
}

// exchange gives a zone without a vote one, when another zone has two. The vote
// that is then one too many is taken away in the next round, as a surplus.
func (e *electorate) exchange(spares []candidate, zones map[string]int) []string {
	if len(spares) == 0 || zones[spares[0].zone] > 0 {
		return nil
	}
	for _, c := range e.servers {
		if c.voter && !c.leader && zones[c.zone] > 1 {
			return []string{spares[0].id}
		}
	}
	return nil
}

func (e *electorate) bestSuccessor(than string) string {
	var best *candidate
	for i, c := range e.servers {
		if c.voter && c.healthy && !c.pinned && c.id != than && (best == nil || c.since > best.since || c.since == best.since && c.id < best.id) {
			best = &e.servers[i]
		}
	}
	if best == nil {
		return ""
	}
	return best.id
}

// explain says why a server has a vote or has none.
func (e *electorate) explain(c candidate) string {
	switch {
	case c.voter && c.pinned:
		return "it has a vote and is to lose it: an operator does not want it to vote"
	case c.voter && c.failed:
		return "it has a vote and does not answer: it is removed as soon as enough other voters are left"
	case c.voter:
		return "it has a vote"
	case c.pinned:
		return "it has no vote: an operator does not want it to have one"
	case c.level < e.level:
		return fmt.Sprintf("it has no vote: its program knows feature level %d, the cluster uses %d", c.level, e.level)
	case c.failed || !c.healthy:
		return "it has no vote: it is not healthy"
	case c.since < e.stabilization:
		return fmt.Sprintf("it has no vote yet: healthy for %s of %s", c.since.Round(time.Second), e.stabilization)
	default:
		return fmt.Sprintf("it has no vote: %d voters are as many as are wanted, it is a spare", e.wanted())
	}
}
