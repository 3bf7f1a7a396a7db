package rollout

import (
	"fmt"
	"strings"
	"time"
)

// Limits are the wishes of a deployment in numbers of environments.
type Limits struct {
	// Canary is the size of the first wave; 0: there are no canaries.
	Canary int
	// MaxUnavailable is how many environments may be unavailable, at least 1. It is the
	// size of the other waves.
	MaxUnavailable int
	// MinHealthy is for how long an environment must be available before others follow.
	MinHealthy time.Duration
	// Deadline is how long a wave may go without anything being changed.
	Deadline time.Duration
	// RollBack says what becomes of a rollout that has failed.
	RollBack bool
}

// State is a rollout that is under way.
type State struct {
	Limits
	// Back is set while it is being taken back.
	Back bool
	// Wave that has its turn, from 0 on. Deadline is zero until it has begun.
	Wave  int
	Until time.Time
	// Envs in the order in which their turn comes.
	Envs []Env
}

// Env is one environment, as it is in the state and as it is seen.
type Env struct {
	Name string
	Wave int
	// Updated says that the environment is to run the new content already.
	Updated bool
	// Unchanged says that the new content is what it had before: it tries nothing out.
	Unchanged bool
	// Available says that it runs what it is to run, and can be reached. Since is since
	// when; zero: from the beginning.
	Available bool
	Since     time.Time
	// Unreachable says that its cluster does not answer.
	Unreachable bool
	// Refused says that its cluster refused the content for good.
	Refused bool
	// Detail is why it is not available, in words.
	Detail string
}

// Outcome is what becomes of a rollout.
type Outcome int

// The outcomes.
const (
	// Wait: nothing is to be done now.
	Wait Outcome = iota
	// Advance: environments are to be changed, or another wave begins.
	Advance
	// Complete: all environments have been changed and are well.
	Complete
	// Fail: it stops, and leaves everything as it is.
	Fail
	// RollBack: it is to be taken back.
	RollBack
)

// The reasons for which a rollout fails.
const (
	ReasonRefused  = "Refused"
	ReasonDeadline = "ProgressDeadlineExceeded"
)

// Step is what is to be done next.
type Step struct {
	Outcome Outcome
	// Wave that has its turn after an Advance, which begins it if it differs from the
	// state's or if that has not begun.
	Wave int
	// Update names the environments that an Advance changes.
	Update []string
	// Reason and Message are why it has failed; while it waits, Message is for what.
	Reason, Message string
	// Next is when to ask again if nothing changes; zero: not at all.
	Next time.Time
}

// Next gives the next step.
func Next(s State, now time.Time) Step {
	if env, refused := refusal(s.Envs); refused && !s.Back {
		return s.failed(ReasonRefused, fmt.Sprintf("%s refused it: %s", env.Name, env.Detail))
	}
	if update := s.turn(s.Wave); len(update) > 0 || s.Until.IsZero() {
		return Step{Outcome: Advance, Wave: s.Wave, Update: update}
	}
	missing, healthyAt := s.missing(now)
	if len(missing) == 0 && !healthyAt.After(now) {
		if s.Wave >= s.last() {
			return Step{Outcome: Complete}
		}
		return Step{Outcome: Advance, Wave: s.Wave + 1, Update: s.turn(s.Wave + 1)}
	}
	why := fmt.Sprintf("waiting until all that have it have been available for %s", s.MinHealthy)
	if len(missing) > 0 {
		why = "waiting for " + strings.Join(missing, "; ")
	}
	if !now.Before(s.Until) {
		return s.failed(ReasonDeadline, "nothing has gone on for "+s.Deadline.String()+": "+why)
	}
	next := s.Until
	if len(missing) == 0 && healthyAt.Before(next) {
		next = healthyAt
	}
	return Step{Outcome: Wait, Wave: s.Wave, Message: why, Next: next}
}

func (s *State) failed(reason, message string) Step {
	step := Step{Outcome: Fail, Wave: s.Wave, Reason: reason, Message: message}
	if s.RollBack && !s.Back {
		step.Outcome = RollBack
	}
	return step
}

func refusal(envs []Env) (Env, bool) {
	for _, e := range envs {
		if e.Updated && e.Refused {
			return e, true
		}
	}
	return Env{}, false
}

func (s *State) last() int {
	last := 0
	for _, e := range s.Envs {
		last = max(last, e.Wave)
	}
	return last
}

// turn names the environments that may be changed now, in a wave and those before it. On
// the way forward there are none while something of an earlier wave is not well.
func (s *State) turn(wave int) []string {
	unavailable, ours := 0, 0
	for _, e := range s.Envs {
		if e.Available || s.Back && e.Unreachable {
			continue
		}
		unavailable++
		if e.Updated {
			ours++
		}
		if e.Updated && e.Wave < wave && !s.Back {
			return nil
		}
	}
	var out []string
	for _, e := range s.Envs {
		if e.Updated || e.Wave > wave {
			continue
		}
		if full := unavailable >= s.MaxUnavailable; e.Available && full || !s.Back && ours >= s.MaxUnavailable {
			continue
		}
		if e.Available {
			unavailable++
		}
		ours++
		out = append(out, e.Name)
	}
	return out
}

// missing says what keeps the wave from being over, and when it will be over if nothing
// does.
func (s *State) missing(now time.Time) (why []string, healthyAt time.Time) {
	healthyAt = now
	pending := 0
	for _, e := range s.Envs {
		switch {
		case e.Wave <= s.Wave && !e.Updated:
			pending++
		case !e.Updated:
		case s.Back && e.Unreachable: // it has its wish; to wait for it would help nobody
		case !e.Available:
			why = append(why, describe(e))
		case !s.Back && e.Since.Add(s.MinHealthy).After(healthyAt):
			healthyAt = e.Since.Add(s.MinHealthy)
		}
	}
	if pending > 0 {
		why = append(why, s.blocked(pending))
	}
	return why, healthyAt
}

// blocked says why environments whose turn it is are not changed.
func (s *State) blocked(pending int) string {
	var others []string
	for _, e := range s.Envs {
		if !e.Updated && !e.Available {
			others = append(others, describe(e))
		}
	}
	text := fmt.Sprintf("room for %d more: at most %d may be unavailable", pending, s.MaxUnavailable)
	if len(others) > 0 {
		text += ", and these are without having been changed: " + strings.Join(others, ", ")
	}
	return text
}

func describe(e Env) string {
	if e.Detail == "" {
		return e.Name
	}
	return e.Name + " (" + e.Detail + ")"
}
