package move

import (
	"fmt"
	"slices"
)

// nextVote is Next for a deployment with a quorum.
func (s *State) nextVote() Step {
	for _, m := range s.Members {
		if !m.Leaving && m.Voter && !m.Available && !m.Lost {
			return Step{Env: m.Name, Code: CodeUnsettled, Message: "waits until " + describe(m) + " is available with the votes as they are"}
		}
	}
	held := Step{}
	for _, next := range []func() Step{s.leavingVote, s.fewerVotes, s.joiningVote, s.moreVotes} {
		step := next()
		if step.Kind != Wait {
			return step
		}
		if held.Code == "" || held.Code == CodeAvailability && step.Code == CodeReplacement {
			held = step
		}
	}
	return held
}

// leavingVote is the next step of what leaves.
func (s *State) leavingVote() (held Step) {
	votes := s.votes()
	for _, m := range s.leaving() {
		by, wait := s.replacement(m)
		step := Step{Env: m.Name, Code: CodeAvailability}
		switch {
		case wait != nil:
			step = *wait
		case by.Voter && m.Voter:
			if step = s.withdraw(m); step.Kind == Withdraw {
				return Step{Kind: Demote, Env: m.Name}
			}
		case by.Voter:
			step = s.withdraw(m)
		case s.keeps(votes, slices.Concat(votes, []string{by.Name})):
			return Step{Kind: Promote, Env: by.Name}
		case m.Voter && !m.Serves && s.keeps(votes, without(votes, m.Name)):
			return Step{Kind: Demote, Env: m.Name}
		default:
			step.Message = fmt.Sprintf("%s: neither a vote more, for %s, nor one less leaves the deployment as available as it is", m.Name, by.Name)
		}
		if step.Kind == Wait && wait == nil && m.Voter {
			step = s.exchange(m, by, votes, step)
		}
		if step.Kind != Wait {
			return step
		}
		if held.Code == "" {
			held = step
		}
	}
	return held
}

// exchange gives the vote of what leaves to its replacement, or to any other that has none,
// if those that stay are a majority before and after; else it is the step given.
func (s *State) exchange(m, by Member, votes []string, otherwise Step) Step {
	rest := without(votes, m.Name)
	if 2*len(rest) <= len(votes) {
		return otherwise
	}
	for _, other := range append([]Member{by}, s.Members...) {
		if !other.Leaving && !other.Voter && other.Available && s.keeps(votes, slices.Concat(rest, []string{other.Name})) {
			return Step{Kind: Exchange, Env: m.Name, Replacement: other.Name}
		}
	}
	return otherwise
}

// fewerVotes takes all votes of what leaves at once, where one less would be worse: an even
// number of votes is no better than the odd one below it. Their holders stay until the others
// have that.
func (s *State) fewerVotes() Step {
	votes := s.votes()
	var gone, rest []string
	for _, m := range s.Members {
		switch {
		case !m.Voter:
		case m.Leaving:
			gone = append(gone, m.Name)
		default:
			rest = append(rest, m.Name)
		}
	}
	if len(gone) < 2 || len(rest) == 0 || !s.keeps(votes, rest) {
		return Step{}
	}
	for _, m := range s.leaving() {
		if by, wait := s.replacement(m); m.Voter && (wait != nil || !by.Voter) {
			return Step{}
		}
	}
	return Step{Kind: Demote, Env: gone[0], With: gone[1:]}
}

// joiningVote is the next step of what joins without taking the place of anything.
func (s *State) joiningVote() (held Step) {
	votes := s.votes()
	for _, m := range s.Members {
		switch {
		case m.Leaving || m.Voter:
		case !m.Available:
			if held.Code != CodeReplacement {
				held = Step{Env: m.Name, Code: CodeReplacement, Message: "waits until " + describe(m) + " is available"}
			}
		case s.keeps(votes, slices.Concat(votes, []string{m.Name})):
			return Step{Kind: Promote, Env: m.Name}
		case held.Code == "":
			held = Step{Env: m.Name, Code: CodeAvailability, Message: m.Name + ": a vote more would make the deployment less available"}
		}
	}
	return held
}

// moreVotes gives all that join their votes at once, where one more would be worse. What a
// user wishes who has nothing left is done even if it is worse, once all of it is there.
func (s *State) moreVotes() Step {
	votes := s.votes()
	var join []string
	leaves, there := false, true
	for _, m := range s.Members {
		switch {
		case m.Leaving:
			leaves = true
		case !m.Available:
			there = false
		case !m.Voter:
			join = append(join, m.Name)
		}
	}
	if len(join) == 0 || !s.keeps(votes, slices.Concat(votes, join)) && (leaves || !there) {
		return Step{}
	}
	step := Step{Kind: Promote, Env: join[0]}
	step.With = append(step.With, join[1:]...)
	return step
}

// without gives a copy of a set without a name.
func without(set []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(set), func(n string) bool { return n == name })
}
