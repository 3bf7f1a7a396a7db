package command

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/api/client"
)

// progress is a rollout as one look saw it. Everything about it is a function of
// what the API listed.
type progress struct {
	key string
	// units are the shares that are wanted, by environment; removed are those that
	// an environment is to remove.
	units, removed []client.Unit
	// rollout is nil when changes go to all clusters at once.
	rollout *client.Rollout
}

func newProgress(key string, units []client.Unit, r *client.Rollout) progress {
	p := progress{key: key}
	if r != nil && r.Phase != client.RolloutNone {
		p.rollout = r
	}
	for _, u := range units {
		if u.Tombstone {
			p.removed = append(p.removed, u)
		} else {
			p.units = append(p.units, u)
		}
	}
	byEnv := func(a, b client.Unit) int { return cmp.Compare(a.Env, b.Env) }
	slices.SortFunc(p.units, byEnv)
	slices.SortFunc(p.removed, byEnv)
	return p
}

// ready is true when the environment runs what is wanted now, not what was
// wanted before.
func ready(u client.Unit) bool { return u.Acknowledged && u.Phase == client.PhaseAvailable }

func (p progress) readyCount() int {
	n := 0
	for _, u := range p.units {
		if ready(u) {
			n++
		}
	}
	return n
}

func (p progress) done() bool {
	arrived := p.rollout == nil || p.rollout.Phase == client.RolloutComplete || p.rollout.Phase == client.RolloutRolledBack
	return arrived && len(p.units) > 0 && p.readyCount() == len(p.units)
}

// failure is not nil when waiting cannot help.
func (p progress) failure() error {
	if goesOn, failed := p.rolloutFailure(); failed != nil || goesOn {
		return failed
	}
	var causes []string
	for _, u := range p.units {
		switch {
		case !u.Acknowledged && u.Waiting != nil && u.Waiting.Permanent:
			causes = append(causes, fmt.Sprintf("%s refused it: %s (%s)", u.Env, u.Waiting.Message, u.Waiting.Code))
		case u.Fault != nil && u.Fault.Final && u.Unknown == nil:
			causes = append(causes, fmt.Sprintf("%s gives up: %s (%s)", u.Env, u.Fault.Message, u.Fault.Reason))
		}
	}
	if len(causes) == 0 {
		return nil
	}
	return &hinted{
		fmt.Errorf("deployment %q cannot complete: %s", p.key, strings.Join(causes, "; ")),
		"correct the package or the deployment and apply it again",
	}
}

// timedOut says what the rollout was waiting for.
func (p progress) timedOut(key string, limit time.Duration, now time.Time) error {
	if p.key == "" {
		return &timeoutError{fmt.Sprintf("timed out after %s: no server answered for deployment %q", limit, key)}
	}
	text := fmt.Sprintf("timed out after %s: deployment %q is available in %d of %s", limit, key, p.readyCount(), clusters(len(p.units)))
	if p.rollout != nil {
		text += "; " + p.rolloutText()
	}
	for _, u := range p.units {
		if ready(u) {
			continue
		}
		text += fmt.Sprintf("\n  %s: %s", u.Env, strings.Join(nonEmpty(u.Phase, detail(u)), ", "))
		if u.Waiting != nil && u.Waiting.Since != nil && !u.Acknowledged {
			text += " for " + duration(now.Sub(*u.Waiting.Since))
		}
		if u.Unknown != nil && u.Unknown.Since != nil {
			text += " for " + duration(now.Sub(*u.Unknown.Since))
		}
	}
	return &timeoutError{text}
}

// detail says why a unit is not further on; empty when it is available.
func detail(u client.Unit) string {
	switch {
	case u.Waiting != nil && !u.Acknowledged:
		return strings.Join(nonEmpty(u.Waiting.Code, u.Waiting.Message), ": ")
	case u.Unknown != nil:
		return strings.Join(nonEmpty("was "+u.Unknown.LastPhase, u.Unknown.Message), "; ")
	case u.Fault != nil:
		return strings.Join(nonEmpty(u.Fault.Reason, u.Fault.Message), ": ")
	case ready(u) || u.Runtime == nil || u.Runtime.Status == nil:
		return ""
	default:
		return deref(u.Runtime.Status.Message)
	}
}

// cause is detail without what changes all the time, such as counters.
func cause(u client.Unit) string {
	if u.Waiting != nil && !u.Acknowledged {
		return u.Waiting.Code
	}
	if u.Fault != nil {
		return u.Fault.Reason
	}
	return ""
}

func functions(u client.Unit) []client.FunctionStatus {
	if u.Runtime == nil || u.Runtime.Status == nil {
		return nil
	}
	return u.Runtime.Status.Functions
}

// functionState is one word or reason about a function.
func functionState(f client.FunctionStatus) string {
	switch {
	case f.Ready == nil:
		return "Unknown"
	case *f.Ready:
		return "Ready"
	default:
		return orText(deref(f.Reason), "NotReady")
	}
}

func functionDetail(f client.FunctionStatus) string {
	if f.Ready != nil && *f.Ready {
		return ""
	}
	return deref(f.Message)
}

// transition is a change between two looks.
type transition struct{ env, what, from, to, detail string }

func (t transition) String() string {
	change := t.to
	if t.from != "" {
		change = t.from + " → " + t.to
	}
	return strings.Join(nonEmpty(t.env, t.what, change, t.detail), "  ")
}

// transitions lists what changed since before. With an empty before it lists
// where everything stands.
func (p progress) transitions(before progress) []transition {
	out := p.rolloutTransitions(before)
	for _, u := range p.units {
		old := before.unit(u.Env)
		if old.Phase != u.Phase || cause(old) != cause(u) {
			out = append(out, transition{env: u.Env, from: old.Phase, to: u.Phase, detail: detail(u)})
		}
		states := map[string]string{}
		for _, f := range functions(old) {
			states[f.FunctionKey] = functionState(f)
		}
		for _, f := range functions(u) {
			if was := states[f.FunctionKey]; was != functionState(f) {
				out = append(out, transition{env: u.Env, what: f.FunctionKey, from: was, to: functionState(f), detail: functionDetail(f)})
			}
		}
	}
	for _, u := range p.removed {
		if !slices.ContainsFunc(before.removed, func(o client.Unit) bool { return o.ID == u.ID }) {
			out = append(out, transition{env: u.Env, to: u.Phase, detail: detail(u)})
		}
	}
	for _, o := range before.removed {
		if !slices.ContainsFunc(p.removed, func(u client.Unit) bool { return o.ID == u.ID }) {
			out = append(out, transition{env: o.Env, from: o.Phase, to: "Removed"})
		}
	}
	return out
}

func (p progress) unit(env string) client.Unit {
	for _, u := range p.units {
		if u.Env == env {
			return u
		}
	}
	return client.Unit{}
}

// glyphs show a phase at a glance.
var glyphs = map[string]string{
	client.PhasePending: "·", client.PhaseWaiting: "⧗", client.PhaseRefused: "✘", client.PhaseProgressing: "◐",
	client.PhaseAvailable: "✔", client.PhaseDegraded: "!", client.PhaseDeleting: "−", client.PhaseUnknown: "?",
}

// frame draws the rollout: a line per cluster and, below it, one per function.
// An elapsed time of 0 is left out.
func (p progress) frame(elapsed time.Duration) []string {
	title := fmt.Sprintf("Deployment %s   %d of %s available", p.key, p.readyCount(), clusters(len(p.units)))
	if elapsed > 0 {
		title += "   " + duration(elapsed)
	}
	if p.rollout != nil {
		return append([]string{title, p.rolloutText()}, p.waves()...)
	}
	t := table{header: []string{" ", "CLUSTER", "PHASE", "FUNCTIONS", "DETAIL"}}
	for _, u := range append(slices.Clone(p.units), p.removed...) {
		t.add(glyphOf(u.Phase), u.Env, u.Phase, readiness(u.Runtime), detail(u))
		for _, f := range functions(u) {
			t.add(" ", "  "+f.FunctionKey, functionState(f), "", functionDetail(f))
		}
	}
	return append([]string{title}, t.lines()...)
}

func glyphOf(phase string) string {
	if glyph := glyphs[phase]; glyph != "" {
		return glyph
	}
	return "?"
}

func nonEmpty(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

func hasSlash(s string) bool { return strings.Contains(s, "/") }
