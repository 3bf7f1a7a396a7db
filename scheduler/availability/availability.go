package availability

import "math"

// Majority is the smallest number of votes out of n that no disjoint group can
// also have: floor(n/2)+1, and 0 for n <= 0.
func Majority(n int) int {
	if n <= 0 {
		return 0
	}
	return n/2 + 1
}

// Valid says whether p can be the probability of being up.
func Valid(p float64) bool {
	// Written so that NaN is refused.
	return p >= 0 && p <= 1
}

// Distribution is the probability distribution of the number of members that
// are up. The zero value is the distribution of no members.
type Distribution struct {
	// mass[k] is the probability that exactly k members are up.
	mass []float64
}

// NewDistribution reserves room for n members, so that adding them does not
// allocate.
func NewDistribution(n int) *Distribution {
	d := &Distribution{mass: make([]float64, 1, max(n, 0)+1)}
	d.mass[0] = 1
	return d
}

// Add accounts for one more independent member that is up with probability p.
func (d *Distribution) Add(p float64) {
	if len(d.mass) == 0 {
		d.mass = append(d.mass, 1)
	}
	d.mass = append(d.mass, 0)
	for k := len(d.mass) - 1; k > 0; k-- {
		// The conversions forbid a fused multiply-add, which would give other
		// last digits on other processors.
		d.mass[k] = float64(d.mass[k]*(1-p)) + float64(d.mass[k-1]*p)
	}
	d.mass[0] *= 1 - p
}

// Len is the number of members.
func (d *Distribution) Len() int {
	return max(len(d.mass)-1, 0)
}

// Loss is the probability that fewer than q members are up. It keeps its
// relative precision however small it is. Without members it is 1.
func (d *Distribution) Loss(q int) float64 {
	n := d.Len()
	if n == 0 {
		return 1
	}
	if q <= 0 {
		return 0
	}
	// Low counts are the unlikely ones where a quorum is worth having, so this
	// order adds the small terms first.
	var sum float64
	for k := 0; k < q && k <= n; k++ {
		sum += d.mass[k]
	}
	return math.Min(sum, 1)
}

// AtLeast is the probability that at least q members are up; 0 without
// members. It is summed by itself rather than taken as 1-Loss, so that small
// availabilities keep their precision as well.
func (d *Distribution) AtLeast(q int) float64 {
	n := d.Len()
	if n == 0 {
		return 0
	}
	var sum float64
	for k := max(q, 0); k <= n; k++ {
		sum += d.mass[k]
	}
	return math.Min(sum, 1)
}
