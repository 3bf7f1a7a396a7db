package division

import (
	"fmt"
	"math"
)

// MaxTotal bounds what is divided. The work grows with total times shares, and the
// total is what a user asked for.
const MaxTotal = 100_000

// Share is what one cluster may get.
type Share struct {
	// Weight is finite and above zero, in any unit that all shares have in common.
	// A cluster that can take nothing is left out by the caller.
	Weight float64
	// Least and Most bound the replicas: 0 <= Least <= Most.
	Least, Most int
	// Prior is what the cluster has now; it decides ties only.
	Prior int
}

// InvalidError is an argument that contradicts its documentation.
type InvalidError struct {
	// Share is the index of the share, or -1 when it is the total.
	Share   int
	Problem string
}

func (e *InvalidError) Error() string {
	if e.Share < 0 {
		return "division: total: " + e.Problem
	}
	return fmt.Sprintf("division: share %d: %s", e.Share, e.Problem)
}

// ShortageError means that the shares together may not have as many as the total.
type ShortageError struct {
	Total int
	// Capacity is the sum of what the shares may have at most.
	Capacity int
}

// Missing is how many replicas have no place.
func (e *ShortageError) Missing() int { return e.Total - e.Capacity }

func (e *ShortageError) Error() string {
	return fmt.Sprintf("division: %d of %d replicas have no place: the clusters hold %d at most",
		e.Missing(), e.Total, e.Capacity)
}

// FloorError means that the shares together must have more than the total.
type FloorError struct {
	Total int
	// Floor is the sum of what the shares must have at least.
	Floor int
}

// Missing is by how many replicas the total is too small.
func (e *FloorError) Missing() int { return e.Floor - e.Total }

func (e *FloorError) Error() string {
	return fmt.Sprintf("division: %d replicas are %d too few: the clusters need %d at least",
		e.Total, e.Missing(), e.Floor)
}

// Divide gives the number of replicas of every share, in the order of the shares.
// Errors are *InvalidError, *ShortageError and *FloorError.
func Divide(total int, shares []Share) ([]int, error) {
	if total < 0 || total > MaxTotal {
		return nil, &InvalidError{Share: -1, Problem: fmt.Sprintf("%d is not within 0..%d", total, MaxTotal)}
	}
	given := make([]int, len(shares))
	least, most := 0, 0
	for i, s := range shares {
		if problem := s.problem(); problem != "" {
			return nil, &InvalidError{Share: i, Problem: problem}
		}
		given[i] = s.Least
		least, most = plus(least, s.Least), plus(most, s.Most)
	}
	if total > most {
		return nil, &ShortageError{Total: total, Capacity: most}
	}
	if total < least {
		return nil, &FloorError{Total: total, Floor: least}
	}
	for range total - least {
		given[next(shares, given)]++
	}
	return given, nil
}

func (s Share) problem() string {
	switch {
	case math.IsNaN(s.Weight) || math.IsInf(s.Weight, 0) || s.Weight <= 0:
		return fmt.Sprintf("a weight of %v is not a finite number above 0", s.Weight)
	case s.Least < 0:
		return fmt.Sprintf("at least %d is negative", s.Least)
	case s.Most < s.Least:
		return fmt.Sprintf("at most %d is less than at least %d", s.Most, s.Least)
	case s.Prior < 0:
		return fmt.Sprintf("a prior of %d is negative", s.Prior)
	default:
		return ""
	}
}

// plus adds two numbers that are not negative. A share without a bound has the
// greatest int as its bound, and the sum of two of them must not wrap.
func plus(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}

// next is the share that gets the next replica. There is one, as the caller has seen
// that the shares hold the total.
func next(shares []Share, given []int) int {
	best, highest, held := -1, 0.0, false
	for i, s := range shares {
		if given[i] >= s.Most {
			continue
		}
		// Division is rounded correctly, so equal quotients stay equal; products of
		// the cross-multiplied form could overflow.
		quotient := s.Weight / (2*float64(given[i]) + 1)
		holds := given[i] < s.Prior
		if best < 0 || quotient > highest || quotient == highest && holds && !held {
			best, highest, held = i, quotient, holds
		}
	}
	return best
}

// Floor is the number of replicas that each of n clusters needs so that those which
// are left still have demand replicas after any survive of the clusters are lost. It
// is -1, which [Divide] refuses, when no number is enough: when no cluster would be
// left, or survive is negative.
func Floor(demand, n, survive int) int {
	if demand <= 0 {
		return 0
	}
	if survive < 0 || survive >= n {
		return -1
	}
	left := n - survive
	return (demand-1)/left + 1
}
