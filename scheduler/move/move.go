package move

import (
	"fmt"
	"slices"
	"strings"
)

// Member is an environment in which the deployment has a unit.
type Member struct {
	Name string
	// Leaving says that it is not in the plan any more. Replacement is the environment that
	// takes its place; empty: any that stays.
	Leaving     bool
	Replacement string
	// Voter says that it holds a vote, where there are votes.
	Voter bool
	// Available says that it runs what it is to run, and its cluster is healthy.
	Available bool
	// Serves says that it may be of use, as far as is known: it runs something, and its
	// cluster is not known to be lost. What is available serves.
	Serves bool
	// Lost says that its cluster cannot be reached.
	Lost bool
	// Detail is why it is not available, in words.
	Detail string
}

// State is a deployment that leaves environments.
type State struct {
	Members []Member
	// Voting says that a majority of the voters has to be up.
	Voting bool
	// Permitted is the probability of not being available that the target permits.
	Permitted float64
	// Loss is the probability of not being available with so many members, or voters, of
	// which only those can be up that are named.
	Loss func(up []string, members int) float64
}

// Kind is what is to be done next.
type Kind int

// The kinds of steps.
const (
	// Wait: nothing can be done now.
	Wait Kind = iota
	// Done: nothing leaves any more.
	Done
	// Withdraw the unit of an environment, which has no vote any more.
	Withdraw
	// Promote gives an environment a vote.
	Promote
	// Demote takes the vote of an environment that is left, and leaves its unit as it is.
	Demote
	// Exchange gives the vote of an environment that is left to its replacement.
	Exchange
)

// Why a move waits.
const (
	// CodeReplacement: what is to take its place is not available.
	CodeReplacement = "ReplacementNotAvailable"
	// CodeNoReplacement: nothing takes its place.
	CodeNoReplacement = "NoReplacement"
	// CodeAvailability: without it the deployment would be less available.
	CodeAvailability = "AvailabilityWouldDrop"
	// CodeUnsettled: environments do not have yet what was sent to them last.
	CodeUnsettled = "NotSettled"
)

// Step is what is to be done next.
type Step struct {
	Kind Kind
	// Env that is withdrawn, promoted or demoted, or that it waits for. With are others that
	// are promoted or demoted with it.
	Env  string
	With []string
	// Replacement is the available environment that takes the place of Env when that is
	// withdrawn, or its vote.
	Replacement string
	// Code and Message are why it waits.
	Code, Message string
}

// Next gives the next step. A deployment without members, or without any that stays, waits.
func Next(s State) Step {
	if !slices.ContainsFunc(s.Members, func(m Member) bool { return m.Leaving || s.Voting && !m.Voter }) {
		return Step{Kind: Done}
	}
	if s.Voting {
		return s.nextVote()
	}
	held := Step{}
	for _, m := range s.leaving() {
		step := s.withdraw(m)
		if step.Kind != Wait {
			return step
		}
		if held.Code == "" {
			held = step
		}
	}
	return held
}

// leaving gives those that are to go, what is of no use first.
func (s *State) leaving() []Member {
	var out []Member
	for _, m := range s.Members {
		if m.Leaving {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Member) int {
		switch {
		case a.Serves == b.Serves:
			return 0
		case b.Serves:
			return -1
		default:
			return 1
		}
	})
	return out
}

// replacement finds the member that takes the place of a leaving one, or says why there is
// none yet.
func (s *State) replacement(m Member) (Member, *Step) {
	var staying []Member
	for _, other := range s.Members {
		if other.Leaving {
			continue
		}
		if other.Name == m.Replacement {
			if !other.Available {
				return other, waitFor(m, other)
			}
			return other, nil
		}
		staying = append(staying, other)
	}
	for _, other := range staying {
		if other.Available {
			return other, nil
		}
	}
	if len(staying) == 0 {
		return Member{}, &Step{Env: m.Name, Code: CodeNoReplacement, Message: m.Name + ": no environment is to take its place"}
	}
	return staying[0], waitFor(m, staying[0])
}

func waitFor(m, other Member) *Step {
	return &Step{Env: m.Name, Code: CodeReplacement, Message: fmt.Sprintf("%s: waits until %s is available", m.Name, describe(other))}
}

func describe(m Member) string {
	if m.Detail == "" {
		return m.Name
	}
	return m.Name + " (" + m.Detail + ")"
}

// withdraw is the step that ends a leaving member, if it is time.
func (s *State) withdraw(m Member) Step {
	by, wait := s.replacement(m)
	if wait != nil {
		return *wait
	}
	votes := s.votes()
	if !s.keeps(votes, without(votes, m.Name)) {
		return Step{Env: m.Name, Code: CodeAvailability, Message: m.Name + ": without it, what is available now would not be enough" + s.missing()}
	}
	return Step{Kind: Withdraw, Env: m.Name, Replacement: by.Name}
}

// votes names those of whom enough have to be up.
func (s *State) votes() []string {
	var out []string
	for _, m := range s.Members {
		if m.Voter || !s.Voting {
			out = append(out, m.Name)
		}
	}
	return out
}

// rounding is relative: equal sets may be summed up in another order.
const rounding = 1e-12

// keeps says whether a change of the votes leaves the deployment as available as it is, or
// as it is to be.
func (s *State) keeps(from, to []string) bool {
	before := s.Loss(s.among(from, func(m Member) bool { return m.Serves }), len(from))
	after := s.Loss(s.among(to, func(m Member) bool { return m.Available || m.Leaving && m.Serves }), len(to))
	return after <= max(before, s.Permitted)*(1+rounding)
}

// among names the members of a set that fit.
func (s *State) among(set []string, fits func(Member) bool) []string {
	var out []string
	for _, m := range s.Members {
		if slices.Contains(set, m.Name) && fits(m) {
			out = append(out, m.Name)
		}
	}
	return out
}

// missing says which of those that stay are not available.
func (s *State) missing() string {
	var out []string
	for _, m := range s.Members {
		if !m.Leaving && !m.Available {
			out = append(out, describe(m))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "; not available: " + strings.Join(out, ", ")
}
