package solver

import (
	"cmp"
	"slices"
)

// Spread is how a set has to be spread over parts of the candidates: over the values of
// a label, whether clusters with the same value fail together or not.
type Spread struct {
	// Part is that of each candidate, from 0 to the number of clusters; -1 for those that are in none, which are
	// not limited and do not count.
	Part []int
	// Most bounds the candidates of one part; 0: they are not limited.
	Most int
	// Least is the number of different parts that the set has to have.
	Least int
}

// partsOf gives the part of a candidate in every spread.
func (p *Problem) partsOf(candidate int) []int {
	if len(p.Spreads) == 0 {
		return nil
	}
	out := make([]int, len(p.Spreads))
	for k := range p.Spreads {
		out[k] = p.Spreads[k].Part[candidate]
	}
	return out
}

// spreading is how the partial set is spread.
type spreading struct {
	Spread
	// held counts the members by part, and parts those that have any.
	held  []int
	parts int
}

func newSpreading(s Spread) spreading {
	parts := 0
	for _, part := range s.Part {
		parts = max(parts, part+1)
	}
	return spreading{Spread: s, held: make([]int, parts)}
}

// admits says whether a member of the part may be added, when so many more can come
// after it.
func (s *spreading) admits(part, after int) bool {
	if part >= 0 && s.Most > 0 && s.held[part] >= s.Most {
		return false
	}
	parts := s.parts
	if part >= 0 && s.held[part] == 0 {
		parts++
	}
	return parts+after >= s.Least
}

func (s *spreading) add(part int) {
	if part < 0 {
		return
	}
	if s.held[part]++; s.held[part] == 1 {
		s.parts++
	}
}

func (s *spreading) remove(part int) {
	if part < 0 {
		return
	}
	if s.held[part]--; s.held[part] == 0 {
		s.parts--
	}
}

// compareKind orders options by all but how often they are up and what they cost. Of
// those that are equal in it, a better one can stand in the place of another in every
// set.
func (s *search) compareKind(a, b *option) int {
	return cmp.Or(s.p.Tree.CompareKind(a.leaf, b.leaf), compareBool(b.current, a.current), slices.Compare(a.parts, b.parts))
}
