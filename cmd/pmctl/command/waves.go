package command

import (
	"fmt"
	"strconv"
	"strings"

	"oaas.io/control-plane/api/client"
)

// undone is the reason of a rollout that somebody wanted to be taken back.
const undone = "Undone"

// status is a rollout for programs.
type status struct {
	*client.Rollout
	Units []client.Unit `json:"units"`
}

// document is what the formats for programs show.
func (p progress) document() status {
	r := p.rollout
	if r == nil {
		r = &client.Rollout{Key: p.key, Phase: client.RolloutNone, Environments: []client.RolloutEnv{}}
	}
	return status{Rollout: r, Units: append([]client.Unit{}, p.units...)}
}

// rolloutFailure is not nil when the rollout has not got where it was to. goesOn says that
// it decides itself what becomes of a cluster that refuses.
func (p progress) rolloutFailure() (goesOn bool, failed error) {
	r := p.rollout
	if r == nil {
		return false, nil
	}
	why := strings.Join(nonEmpty(r.Reason, r.Message), ": ")
	switch r.Phase {
	case client.RolloutFailed:
		return false, &hinted{
			fmt.Errorf("the rollout of %q has failed: %s", p.key, why),
			"'pmctl rollout undo' goes back, 'pmctl rollout resume' tries once more; or apply a change that mends it",
		}
	case client.RolloutRolledBack:
		if r.Reason == undone {
			return false, nil
		}
		return false, &hinted{
			fmt.Errorf("the rollout of %q was taken back: %s", p.key, why),
			"'pmctl events " + p.key + "' tells what has happened",
		}
	default:
		return r.Phase != client.RolloutComplete, nil
	}
}

// rolloutText says in a line how far the rollout is.
func (p progress) rolloutText() string {
	r := p.rollout
	text := fmt.Sprintf("Rollout to revision %d: %s", r.Revision, r.Phase)
	if r.Phase == client.RolloutProgressing || r.Phase == client.RolloutPaused || r.Phase == client.RolloutFailed {
		text += fmt.Sprintf(", wave %d of %d", max(r.Wave, 1), r.Waves)
	}
	if why := strings.Join(nonEmpty(r.Reason, r.Message), ": "); why != "" {
		text += "; " + why
	}
	return text
}

// waves draws the clusters in the order of their turns.
func (p progress) waves() []string {
	t := table{header: []string{" ", "WAVE", "CLUSTER", "REVISION", "STATE", "PHASE", "FUNCTIONS", "DETAIL"}}
	for _, e := range p.rollout.Environments {
		u := p.unit(e.Env)
		t.add(glyphOf(e.Phase), strconv.Itoa(e.Wave), e.Env, strconv.FormatUint(e.Revision, 10), e.State, e.Phase, readiness(u.Runtime), e.Detail)
		for _, f := range functions(u) {
			if f.Ready == nil || !*f.Ready {
				t.add(" ", "", "  "+f.FunctionKey, "", "", functionState(f), "", functionDetail(f))
			}
		}
	}
	for _, u := range p.removed {
		t.add(glyphOf(u.Phase), "", u.Env, "", "", u.Phase, "", detail(u))
	}
	return t.lines()
}

// rolloutTransitions lists what changed of the rollout since before.
func (p progress) rolloutTransitions(before progress) []transition {
	r := p.rollout
	if r == nil {
		return nil
	}
	old := before.rollout
	if old == nil {
		old = &client.Rollout{}
	}
	var out []transition
	if old.Phase != r.Phase || old.Revision != r.Revision {
		out = append(out, transition{env: "rollout", what: fmt.Sprintf("revision %d", r.Revision), from: old.Phase, to: r.Phase, detail: strings.Join(nonEmpty(r.Reason, r.Message), ": ")})
	}
	moves := r.Phase == client.RolloutProgressing
	if moves && r.Wave > 0 && (old.Wave != r.Wave || old.Revision != r.Revision) {
		out = append(out, transition{env: "rollout", what: fmt.Sprintf("wave %d of %d", r.Wave, r.Waves), to: strings.Join(p.members(r.Wave), ", ")})
	}
	for _, e := range r.Environments {
		for _, was := range old.Environments {
			if was.Env == e.Env && was.Revision != e.Revision {
				out = append(out, transition{env: e.Env, what: "revision", from: strconv.FormatUint(was.Revision, 10), to: strconv.FormatUint(e.Revision, 10)})
			}
		}
	}
	return out
}

// members names the clusters of a wave.
func (p progress) members(wave int) []string {
	var out []string
	for _, e := range p.rollout.Environments {
		if e.Wave == wave {
			out = append(out, e.Env)
		}
	}
	return out
}
