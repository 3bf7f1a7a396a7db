package solver

import (
	"fmt"
	"math"

	"oaas.io/control-plane/scheduler/availability"
)

// Rule says when a set is available.
type Rule int

const (
	// Majority wants more than half of the votes up.
	Majority Rule = iota
	// Any wants one of them up.
	Any
)

// Need is the number of votes of n that have to be up.
func (r Rule) Need(n int) int {
	if r == Any {
		return min(1, n)
	}
	return availability.Majority(n)
}

// Candidate is a cluster that may be chosen.
type Candidate struct {
	// Leaf is the cluster's index in the tree.
	Leaf int
	// Cost of having it in the set, in any unit; 0 for all when there are no prices.
	Cost float64
	// Current says that the placement has it now.
	Current bool
}

// Limit bounds the clusters of a set within a domain.
type Limit struct{ Domain, Most int }

// Problem is what is to be solved.
type Problem struct {
	Tree *availability.Tree
	// Candidates are different clusters, in the order of preference among equals.
	Candidates []Candidate
	// Permitted is the highest loss, within 0..1.
	Permitted float64
	Rule      Rule
	// Least and Most bound the size of the set.
	Least, Most int
	Limits      []Limit
	Spreads     []Spread
	// Budget bounds the evaluations of sets; those of many clusters count more. Default
	// 50,000, which is some tens of milliseconds.
	Budget int
}

const defaultBudget = 50_000

// Solution is a set of clusters.
type Solution struct {
	// Chosen are indexes of candidates, in their order. Empty when the limits let no
	// set in.
	Chosen []int
	// Loss and Up are complements, each exact in its small digits.
	Loss, Up float64
	// Met says that the loss is permitted.
	Met  bool
	Cost float64
	// Kept is the number of current clusters among the chosen.
	Kept int
	// Proven is false when the budget ended the search.
	Proven      bool
	Evaluations int
}

// InvalidProblemError names what contradicts the documentation of a Problem.
type InvalidProblemError struct{ Problem string }

func (e *InvalidProblemError) Error() string { return "solver: " + e.Problem }

// Validate reports the first contradiction, as *InvalidProblemError.
func (p *Problem) Validate() error {
	bad := func(format string, args ...any) error { return &InvalidProblemError{fmt.Sprintf(format, args...)} }
	switch {
	case p.Tree == nil:
		return bad("there is no tree")
	case !availability.Valid(p.Permitted):
		return bad("the permitted loss %v is not within 0..1", p.Permitted)
	case p.Least < 1 || p.Most < p.Least:
		return bad("sizes from %d to %d are none", p.Least, p.Most)
	case p.Budget < 0:
		return bad("a budget of %d", p.Budget)
	}
	seen := make(map[int]bool, len(p.Candidates))
	for i := range p.Candidates {
		c := &p.Candidates[i]
		switch {
		case c.Leaf < 0 || c.Leaf >= p.Tree.Leaves():
			return bad("candidate %d is the cluster %d of %d", i, c.Leaf, p.Tree.Leaves())
		case seen[c.Leaf]:
			return bad("candidate %d is the cluster %d, which is one already", i, c.Leaf)
		case math.IsNaN(c.Cost) || math.IsInf(c.Cost, 0) || c.Cost < 0:
			return bad("candidate %d costs %v", i, c.Cost)
		}
		seen[c.Leaf] = true
	}
	for _, l := range p.Limits {
		if l.Domain < 0 || l.Domain >= p.Tree.Domains() || l.Most < 0 {
			return bad("a limit of %d in the domain %d of %d", l.Most, l.Domain, p.Tree.Domains())
		}
	}
	for _, r := range p.Spreads {
		if len(r.Part) != len(p.Candidates) || r.Most < 0 || r.Least < 0 {
			return bad("a spread of %d candidates with %d of a part in %d parts", len(r.Part), r.Most, r.Least)
		}
		for i, part := range r.Part {
			if part < -1 || part >= p.Tree.Leaves() {
				return bad("candidate %d is in the part %d", i, part)
			}
		}
	}
	return nil
}
