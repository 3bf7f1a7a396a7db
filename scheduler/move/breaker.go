package move

import (
	"cmp"
	"fmt"
	"slices"
)

// Cluster is one of the fleet, as the breaker sees it.
type Cluster struct {
	Name, Region string
	// Lost says that it cannot be reached now, or could not a moment ago.
	Lost bool
}

// Verdict says whether the fleet looks as if the observer were cut off.
type Verdict struct {
	// Suspected stops all automatic moves.
	Suspected bool
	// Lost and Total count clusters.
	Lost, Total int
	// Reason says in words why it is suspected; empty when it is not.
	Reason string
}

// leastLost is how many clusters have to be lost before anything is suspected: one alone
// may always fail, however small the fleet is.
const leastLost = 2

// Judge suspects the observer when at least two clusters are lost and these are more than a
// fifth of all, or at least half of one region. So one of two, of three or of four is an
// outage of that cluster, and two of them are not believed. Clusters that say no region are
// in none.
func Judge(clusters []Cluster) Verdict {
	out := Verdict{Total: len(clusters)}
	type count struct{ lost, total int }
	regions := map[string]*count{}
	for _, c := range clusters {
		at := regions[c.Region]
		if at == nil {
			at = &count{}
			regions[c.Region] = at
		}
		at.total++
		if c.Lost {
			at.lost++
			out.Lost++
		}
	}
	if out.Lost >= leastLost && 5*out.Lost > out.Total {
		out.Suspected = true
		out.Reason = fmt.Sprintf("%d of %d clusters cannot be reached, more than a fifth", out.Lost, out.Total)
		return out
	}
	var names []string
	for name, at := range regions {
		if name != "" && at.lost >= leastLost && 2*at.lost >= at.total {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		name := slices.MinFunc(names, cmp.Compare[string])
		out.Suspected = true
		out.Reason = fmt.Sprintf("%d of %d clusters of region %s cannot be reached, at least half", regions[name].lost, regions[name].total, name)
	}
	return out
}
