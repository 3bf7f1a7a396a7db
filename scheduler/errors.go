package scheduler

import (
	"fmt"
	"slices"
	"strings"
)

// InvalidInputError is a Spec or Snapshot that contradicts its documentation.
type InvalidInputError struct {
	Field   string
	Problem string
}

func (e *InvalidInputError) Error() string {
	return fmt.Sprintf("scheduler: %s: %s", e.Field, e.Problem)
}

// UnknownClustersError means that the user named clusters that do not exist.
type UnknownClustersError struct {
	// Unknown in the user's order.
	Unknown []string
	// Known clusters, sorted.
	Known []string
}

func (e *UnknownClustersError) Error() string {
	known := "no environment is known"
	if len(e.Known) > 0 {
		known = "known environments: " + list(e.Known)
	}
	return fmt.Sprintf("unknown environments: %s (%s)", list(e.Unknown), known)
}

// Rejection is why one cluster cannot be used.
type Rejection struct {
	Cluster string `json:"cluster"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// NoCandidatesError means that no cluster at all can be used.
type NoCandidatesError struct {
	// Rejected has every cluster that was considered, sorted by name; empty when
	// no cluster is known.
	Rejected []Rejection
}

func (e *NoCandidatesError) Error() string {
	if len(e.Rejected) == 0 {
		return "no environment is known"
	}
	var reasons []string
	for _, r := range e.Rejected[:min(len(e.Rejected), listed)] {
		reasons = append(reasons, r.Message)
	}
	if more := len(e.Rejected) - listed; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(reasons, "; ")
}

// UnsatisfiableError means that no set of clusters keeps a rule of the deployment.
type UnsatisfiableError struct {
	// Constraint names the rule.
	Constraint string
	Problem    string
}

func (e *UnsatisfiableError) Error() string { return e.Constraint + ": " + e.Problem }

// UnreachableTargetError means that no permitted set of clusters meets the
// target. Decide does not return it: it plans the best set there is and lets
// the caller ask for this error with [Plan.Unreachable].
type UnreachableTargetError struct {
	Target float64
	// Best is the availability of BestSet, the best that is possible.
	Best    float64
	BestSet []string
	Reason  string
}

func (e *UnreachableTargetError) Error() string {
	return fmt.Sprintf("an availability of %s cannot be met: the best possible is %s with %s; %s",
		percent(e.Target), percent(e.Best), list(e.BestSet), e.Reason)
}

// listed bounds the names and reasons in one error text.
const listed = 10

func list(names []string) string {
	if len(names) <= listed {
		return strings.Join(names, ", ")
	}
	head := slices.Clone(names[:listed])
	return strings.Join(append(head, fmt.Sprintf("and %d more", len(names)-listed)), ", ")
}
