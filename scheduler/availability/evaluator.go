package availability

import (
	"cmp"
	"math"
	"slices"
)

// Vote is the part that a cluster has in a set: one vote of a quorum or several, or
// the load that it can carry.
type Vote struct {
	// Leaf is the index of the cluster.
	Leaf int
	// Weight is at least 1.
	Weight int
}

// Evaluator calculates what sets of clusters achieve. It keeps its buffers, so that
// it does not allocate once they have grown, and must not be used by two goroutines
// at a time.
//
// The distribution of the votes that are up is the product of polynomials along the
// tree: a cluster is (1-a) + a·x^w, and a domain is (1-a) + a·(product of what is
// within it). This is exact for clusters that fail independently of each other but
// for their domains (Barlow and Heidtmann, Computing k-out-of-n system reliability,
// IEEE Transactions on Reliability 33, 1984, for the flat case). The time is in
// proportion to the square of the votes that are needed.
type Evaluator struct {
	t     *Tree
	votes []Vote
	// stack is the domains around the present cluster, the outermost first; its
	// first entry is the world.
	stack []frame
	spare []float64
	// more are votes outside of all domains, for the present evaluation.
	more []float64
}

type frame struct {
	domain int
	// mass[k] is the probability that k votes are up within the domain while it is
	// up; the last one stands for all above it.
	mass []float64
}

// Evaluator makes one for the tree.
func (t *Tree) Evaluator() *Evaluator { return &Evaluator{t: t} }

// Loss is the probability that votes of less than need are up. It keeps its relative
// precision however small it is. It is 1 without votes, and 0 when nothing is needed
// of some.
func (e *Evaluator) Loss(votes []Vote, need int) float64 {
	loss, _ := e.both(votes, need)
	return loss
}

// LossWith is Loss of a set with further single votes, which are up with the
// probabilities of more, independently of all else.
func (e *Evaluator) LossWith(votes []Vote, more []float64, need int) float64 {
	if len(votes)+len(more) == 0 {
		return 1
	}
	e.more = more
	loss, _ := e.average(votes, need)
	e.more = nil
	return loss
}

// AtLeast is the probability that votes of at least need are up, the complement of
// Loss, calculated by itself.
func (e *Evaluator) AtLeast(votes []Vote, need int) float64 {
	_, up := e.both(votes, need)
	return up
}

func (e *Evaluator) both(votes []Vote, need int) (loss, up float64) {
	if len(votes) == 0 {
		return 1, 0
	}
	return e.average(votes, need)
}

// average is over the states of what the clusters share beside their domains.
func (e *Evaluator) average(votes []Vote, need int) (loss, up float64) {
	if need <= 0 {
		return 0, 1
	}
	var factors uint8
	for _, v := range votes {
		factors |= e.t.leaves[v.Leaf].factors
	}
	for state := factors; ; state = (state - 1) & factors {
		p := e.stateOf(factors, state)
		e.votes = e.votes[:0]
		for _, v := range votes {
			if e.t.leaves[v.Leaf].factors&^state == 0 {
				e.votes = append(e.votes, v)
			}
		}
		l, u := e.given(need)
		loss, up = loss+float64(p*l), up+float64(p*u)
		if state == 0 {
			return math.Min(loss, 1), math.Min(up, 1)
		}
	}
}

// stateOf is the probability that of some factors exactly those of state are up.
func (e *Evaluator) stateOf(factors, state uint8) float64 {
	p := 1.0
	for i, f := range e.t.factors {
		switch bit := uint8(1) << i; {
		case factors&bit == 0:
		case state&bit != 0:
			p *= f.Up
		default:
			p *= 1 - f.Up
		}
	}
	return p
}

// given calculates with the votes that can be up at all.
func (e *Evaluator) given(need int) (loss, up float64) {
	t := e.t
	slices.SortFunc(e.votes, func(a, b Vote) int { return cmp.Compare(t.leaves[a.Leaf].visit, t.leaves[b.Leaf].visit) })
	e.stack = e.stack[:0]
	e.push(-1)
	for _, v := range e.votes {
		l := &t.leaves[v.Leaf]
		for !t.within(l, e.stack[len(e.stack)-1].domain) {
			e.pop(need)
		}
		e.enter(e.stack[len(e.stack)-1].domain, l.domain)
		top := &e.stack[len(e.stack)-1]
		top.mass = addVote(top.mass, l.up, v.Weight, need)
	}
	for len(e.stack) > 1 {
		e.pop(need)
	}
	for _, p := range e.more {
		e.stack[0].mass = addVote(e.stack[0].mass, p, 1, need)
	}
	mass := e.stack[0].mass
	for _, m := range mass[:min(need, len(mass))] {
		loss += m
	}
	if len(mass) > need {
		up = mass[need]
	}
	return loss, up
}

// enter pushes the domains between two of which the first is around the second.
func (e *Evaluator) enter(from, to int) {
	if to == from {
		return
	}
	e.enter(from, e.t.domains[to].parent)
	e.push(to)
}

func (e *Evaluator) push(domain int) {
	if n := len(e.stack); n < cap(e.stack) {
		e.stack = e.stack[:n+1] // with the buffer that it had
	} else {
		e.stack = append(e.stack, frame{})
	}
	top := &e.stack[len(e.stack)-1]
	top.domain, top.mass = domain, append(top.mass[:0], 1)
}

// pop makes the innermost domain a part of the one around it.
func (e *Evaluator) pop(need int) {
	inner, outer := &e.stack[len(e.stack)-1], &e.stack[len(e.stack)-2]
	up := e.t.domains[inner.domain].up
	for k := range inner.mass {
		inner.mass[k] *= up
	}
	inner.mass[0] += 1 - up
	product := e.spare[:0]
	for range min(len(inner.mass)+len(outer.mass)-2, need) + 1 {
		product = append(product, 0)
	}
	for i, a := range outer.mass {
		for j, b := range inner.mass {
			product[min(i+j, need)] += float64(a * b)
		}
	}
	e.spare, outer.mass = outer.mass, product
	e.stack = e.stack[:len(e.stack)-1]
}

// addVote multiplies mass by (1-p) + p·x^weight, where all powers from need on are
// one. The conversions forbid a fused multiply-add, which would give other last
// digits on other processors.
func addVote(mass []float64, p float64, weight, need int) []float64 {
	have := len(mass)
	full := 0.0
	for k := max(need-weight, 0); k < have; k++ {
		full += mass[k]
	}
	full *= p
	if have > need {
		full += float64(mass[need] * (1 - p))
	}
	for len(mass) < min(have-1+weight, need)+1 {
		mass = append(mass, 0)
	}
	for k := min(len(mass), need) - 1; k >= 0; k-- {
		mass[k] *= 1 - p
		if k >= weight {
			mass[k] += float64(mass[k-weight] * p)
		}
	}
	if len(mass) > need {
		mass[need] = full
	}
	return mass
}
