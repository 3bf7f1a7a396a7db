package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/scheduler/rollout"
)

var (
	now    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	limits = rollout.Limits{Canary: 1, MaxUnavailable: 1, MinHealthy: 30 * time.Second, Deadline: 10 * time.Minute, RollBack: true}
)

// env is an environment of a wave. Its marks are u (updated), a (available for long), s
// (available since now), x (unreachable), r (refused).
func env(name string, wave int, marks string) rollout.Env {
	e := rollout.Env{Name: name, Wave: wave}
	for _, mark := range marks {
		switch mark {
		case 'u':
			e.Updated = true
		case 'a':
			e.Available, e.Since = true, now.Add(-time.Hour)
		case 's':
			e.Available, e.Since = true, now
		case 'x':
			e.Unreachable, e.Detail = true, "unreachable"
		case 'r':
			e.Refused, e.Detail = true, "no such template"
		}
	}
	return e
}

func TestNext(t *testing.T) {
	begun := now.Add(time.Minute)
	tests := []struct {
		name  string
		state rollout.State
		want  rollout.Step
	}{
		{"the first wave begins",
			rollout.State{Envs: []rollout.Env{env("e1", 0, "a"), env("e2", 1, "a")}},
			rollout.Step{Outcome: rollout.Advance, Update: []string{"e1"}}},
		{"the first wave begins without room",
			rollout.State{Envs: []rollout.Env{env("e1", 0, "a"), env("e2", 1, "x")}},
			rollout.Step{Outcome: rollout.Advance}},
		{"no room",
			rollout.State{Until: begun, Envs: []rollout.Env{env("e1", 0, "a"), env("e2", 1, "x")}},
			rollout.Step{Outcome: rollout.Wait, Next: begun,
				Message: "waiting for room for 1 more: at most 1 may be unavailable, and these are without having been changed: e2 (unreachable)"}},
		{"what is unavailable already costs nothing",
			rollout.State{Until: begun, Envs: []rollout.Env{env("e1", 0, ""), env("e2", 1, "")}},
			rollout.Step{Outcome: rollout.Advance, Update: []string{"e1"}}},
		{"but no more of it than may be unavailable",
			rollout.State{Until: begun, Envs: []rollout.Env{env("e1", 0, "u"), env("e2", 0, ""), env("e3", 1, "")}},
			rollout.Step{Outcome: rollout.Wait, Next: begun,
				Message: "waiting for e1; room for 1 more: at most 1 may be unavailable, and these are without having been changed: e2, e3"}},
		{"the canary is on its way",
			rollout.State{Until: begun, Envs: []rollout.Env{env("e1", 0, "u"), env("e2", 1, "a")}},
			rollout.Step{Outcome: rollout.Wait, Next: begun, Message: "waiting for e1"}},
		{"the canary is not available for long enough",
			rollout.State{Until: begun, Envs: []rollout.Env{env("e1", 0, "us"), env("e2", 1, "a")}},
			rollout.Step{Outcome: rollout.Wait, Next: now.Add(30 * time.Second), Message: "waiting until all that have it have been available for 30s"}},
		{"the canary is well",
			rollout.State{Until: begun, Envs: []rollout.Env{env("e1", 0, "ua"), env("e2", 1, "a"), env("e3", 2, "a")}},
			rollout.Step{Outcome: rollout.Advance, Wave: 1, Update: []string{"e2"}}},
		{"the canary is well as its time ends",
			rollout.State{Until: now, Envs: []rollout.Env{env("e1", 0, "ua"), env("e2", 1, "a")}},
			rollout.Step{Outcome: rollout.Advance, Wave: 1, Update: []string{"e2"}}},
		{"an earlier wave has failed meanwhile",
			rollout.State{Wave: 1, Until: begun, Limits: rollout.Limits{MaxUnavailable: 3}, Envs: []rollout.Env{env("e1", 0, "u"), env("e2", 1, "a"), env("e3", 1, "a")}},
			rollout.Step{Outcome: rollout.Wait, Wave: 1, Next: begun, Message: "waiting for e1; room for 2 more: at most 3 may be unavailable"}},
		{"all are well",
			rollout.State{Wave: 1, Until: begun, Envs: []rollout.Env{env("e1", 0, "ua"), env("e2", 1, "ua")}},
			rollout.Step{Outcome: rollout.Complete}},
		{"one that is complete is not well any more",
			rollout.State{Wave: 1, Until: begun, Envs: []rollout.Env{env("e1", 0, "u"), env("e2", 1, "ua")}},
			rollout.Step{Outcome: rollout.Wait, Wave: 1, Next: begun, Message: "waiting for e1"}},
		{"the canary refuses",
			rollout.State{Until: begun, Envs: []rollout.Env{env("e1", 0, "ur"), env("e2", 1, "a")}},
			rollout.Step{Outcome: rollout.RollBack, Reason: rollout.ReasonRefused, Message: "e1 refused it: no such template"}},
		{"the time is over",
			rollout.State{Until: now, Envs: []rollout.Env{env("e1", 0, "ux"), env("e2", 1, "a")}},
			rollout.Step{Outcome: rollout.RollBack, Reason: rollout.ReasonDeadline, Message: "nothing has gone on for 10m0s: waiting for e1 (unreachable)"}},
		{"canaries that do not fit at once",
			rollout.State{Until: begun, Limits: rollout.Limits{MaxUnavailable: 2}, Envs: []rollout.Env{env("e1", 0, "a"), env("e2", 0, "a"), env("e3", 0, "a")}},
			rollout.Step{Outcome: rollout.Advance, Update: []string{"e1", "e2"}}},
		{"back: what is unavailable at once, the rest as there is room",
			rollout.State{Back: true, Envs: []rollout.Env{env("e1", 0, ""), env("e2", 0, "a"), env("e3", 0, "ua")}},
			rollout.Step{Outcome: rollout.Advance, Update: []string{"e1"}}},
		{"back: what is unreachable keeps nothing",
			rollout.State{Back: true, Envs: []rollout.Env{env("e1", 0, "x"), env("e2", 0, "a"), env("e3", 0, "a")}},
			rollout.Step{Outcome: rollout.Advance, Update: []string{"e1", "e2"}}},
		{"back: nobody has to be well for long",
			rollout.State{Back: true, Until: begun, Envs: []rollout.Env{env("e1", 0, "us"), env("e2", 0, "ua")}},
			rollout.Step{Outcome: rollout.Complete}},
		{"back: there is no way back from there",
			rollout.State{Back: true, Until: now, Envs: []rollout.Env{env("e1", 0, "ur"), env("e2", 0, "ua")}},
			rollout.Step{Outcome: rollout.Fail, Reason: rollout.ReasonDeadline, Message: "nothing has gone on for 10m0s: waiting for e1 (no such template)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.state
			if s.MaxUnavailable == 0 {
				s.Limits = limits
			}
			if diff := cmp.Diff(tt.want, rollout.Next(s, now)); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNextThatKeeps(t *testing.T) {
	kept := limits
	kept.RollBack = false
	s := rollout.State{Limits: kept, Until: now, Envs: []rollout.Env{env("e1", 0, "u")}}
	if got := rollout.Next(s, now); got.Outcome != rollout.Fail || got.Reason != rollout.ReasonDeadline {
		t.Errorf("after its time: %+v", got)
	}
	s.Envs[0] = env("e1", 0, "ur")
	if got := rollout.Next(s, now.Add(-time.Second)); got.Outcome != rollout.Fail || got.Reason != rollout.ReasonRefused {
		t.Errorf("refused: %+v", got)
	}
}

func TestArrange(t *testing.T) {
	tests := []struct {
		name        string
		envs, want  string
		wave        int
		canary, max int
	}{
		{"one", "e1", "0", 0, 1, 1},
		{"a canary, then one by one", "e1 e2 e3 e4", "0 1 2 3", 0, 1, 1},
		{"a canary, then two by two", "e1 e2 e3 e4 e5 e6", "0 1 1 2 2 3", 0, 1, 2},
		{"no canary", "e1 e2 e3 e4 e5", "0 0 1 1 2", 0, 0, 2},
		{"all are canaries", "e1 e2 e3", "0 0 0", 0, 5, 1},
		{"the canary's turn, more come", "e1=0u e2=1 e3 e4", "0 1 2 3", 0, 1, 1},
		{"the canary has gone, so another one is", "e2=1 e3=2 e4", "0 1 2", 0, 1, 1},
		{"the canary has gone after its turn", "e2=1u e3=2 e4", "1 2 3", 1, 1, 1},
		{"more may be unavailable now", "e1=0u e2=1 e3=2 e4=3 e5", "0 1 2 2 3", 1, 1, 2},
		{"more canaries now", "e1=0u e2=1 e3=2", "0 0 1", 0, 2, 1},
		{"what does not change is no canary", "e1=0uc e2=1 e3", "0 0 1", 0, 1, 1},
		{"fewer canaries now", "e1=0u e2=0 e3=1", "0 0 1", 0, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var envs []rollout.Env
			for _, text := range strings.Fields(tt.envs) {
				e := rollout.Env{Wave: -1}
				var at string
				if e.Name, at, _ = strings.Cut(text, "="); at != "" {
					e.Wave, e.Updated = int(at[0]-'0'), strings.Contains(at, "u")
					e.Unchanged = strings.Contains(at, "c")
				}
				envs = append(envs, e)
			}
			rollout.Arrange(envs, tt.wave, rollout.Limits{Canary: tt.canary, MaxUnavailable: tt.max})
			var got []string
			for _, e := range envs {
				got = append(got, string(rune('0'+e.Wave)))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("waves are %v, want %s", got, tt.want)
			}
		})
	}
}
