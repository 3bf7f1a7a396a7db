package move_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/move"
)

// place is an environment of the world: what is true of it, and what the state has.
type place struct {
	name string
	// up is the cluster, ok what runs there, behind is how many looks it takes until the last
	// thing that was sent has arrived.
	up, ok bool
	behind int
	// unit, leaving and voter are what the state has.
	unit, leaving, voter bool
	replacement          string
}

type world struct {
	t      *rapid.T
	places []*place
	voting bool
	state  move.State
	// steps are those since the last plan, without repetition.
	steps map[string]bool
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, voting: rapid.Bool().Draw(t, "voting"), steps: map[string]bool{}}
	w.state.Voting, w.state.Permitted = w.voting, 1-rapid.SampledFrom([]float64{.9, .99, .999, .99999}).Draw(t, "target")
	w.state.Loss = lossOf(w.voting, .99)
	n := rapid.IntRange(3, 7).Draw(t, "places")
	runs := rapid.IntRange(1, n-1).Draw(t, "runs")
	for i := range n {
		w.places = append(w.places, &place{name: fmt.Sprint("e", i), up: true, ok: true, unit: i < runs, voter: i < runs})
	}
	return w
}

// plan gives the deployment other environments: what it does not have any more leaves.
func (w *world) plan() {
	wanted := map[*place]bool{}
	for _, p := range w.places {
		if p.up && rapid.Bool().Draw(w.t, "wanted "+p.name) {
			wanted[p] = true
		}
	}
	if len(wanted) == 0 {
		return
	}
	var joining []string
	for _, p := range w.places {
		if wanted[p] && (!p.unit || w.voting && !p.voter) {
			joining = append(joining, p.name)
		}
	}
	for _, p := range w.places {
		switch {
		case wanted[p]:
			if !p.unit {
				p.ok = true
			}
			p.unit, p.leaving, p.replacement, p.behind = true, false, "", 2
		case p.unit:
			p.leaving, p.replacement = true, ""
			if len(joining) > 0 {
				p.replacement, joining = joining[0], joining[1:]
			}
		}
	}
	w.steps = map[string]bool{}
}

func (w *world) look() {
	w.state.Members = nil
	for _, p := range w.places {
		if p.behind > 0 && p.up {
			p.behind--
		}
		if p.unit {
			w.state.Members = append(w.state.Members, move.Member{
				Name: p.name, Leaving: p.leaving, Replacement: p.replacement, Voter: p.voter,
				Available: p.up && p.ok && p.behind == 0, Serves: p.up && p.ok, Lost: !p.up,
			})
		}
	}
}

// truth is the loss of the deployment as it is, with what serves.
func (w *world) truth() float64 {
	var up []string
	members := 0
	for _, p := range w.places {
		if p.unit && (p.voter || !w.voting) {
			members++
			if p.up && p.ok {
				up = append(up, p.name)
			}
		}
	}
	return w.state.Loss(up, members)
}

func (w *world) find(name string) *place {
	return w.places[slices.IndexFunc(w.places, func(p *place) bool { return p.name == name })]
}

// vote gives an environment a vote, or takes it.
func (w *world) vote(kind move.Kind, p *place) {
	switch {
	case kind == move.Promote && (p.voter || p.leaving || !p.up || !p.ok || p.behind > 0):
		w.t.Fatalf("%+v gets a vote", p)
	case kind == move.Demote && (!p.voter || !p.leaving):
		w.t.Fatalf("%+v loses its vote", p)
	case kind != move.Promote && kind != move.Demote:
		w.t.Fatalf("%+v has no part in step %d", p, kind)
	}
	p.voter = kind == move.Promote
}

func (w *world) votes() (n int) {
	for _, p := range w.places {
		if p.unit && p.voter {
			n++
		}
	}
	return n
}

// wished says that nothing leaves and all is there: it is what somebody wants, as it is.
func (w *world) wished() bool {
	return !slices.ContainsFunc(w.places, func(p *place) bool { return p.unit && (p.leaving || !p.up || !p.ok || p.behind > 0) })
}

// act does the next step and holds it against the invariants.
func (w *world) act() move.Step {
	step := move.Next(w.state)
	if step.Kind == move.Wait || step.Kind == move.Done {
		if step.Kind == move.Wait && (step.Code == "" || step.Message == "") {
			w.t.Fatalf("it waits and does not say why: %+v", step)
		}
		return step
	}
	if what := fmt.Sprint(step.Kind, step.Env); w.steps[what] {
		w.t.Fatalf("step %+v comes again", step)
	} else {
		w.steps[what] = true
	}
	before, env, wished := w.truth(), w.find(step.Env), w.wished()
	for _, name := range step.With {
		w.vote(step.Kind, w.find(name))
	}
	switch step.Kind {
	case move.Withdraw:
		by := w.find(step.Replacement)
		if !env.leaving || !by.unit || by.leaving || !by.up || !by.ok || by.behind > 0 || w.voting && !by.voter {
			w.t.Fatalf("%+v is withdrawn for %+v", env, by)
		}
		if w.voting && env.voter {
			w.t.Fatalf("%+v is withdrawn with its vote", env)
		}
		env.unit, env.leaving, env.voter = false, false, false
	case move.Promote, move.Demote:
		w.vote(step.Kind, env)
	case move.Exchange:
		votes := w.votes()
		w.vote(move.Demote, env)
		if 2*w.votes() <= votes {
			w.t.Fatalf("%+v leaves no majority of %d", step, votes)
		}
		w.vote(move.Promote, w.find(step.Replacement))
	default:
		w.t.Fatalf("step %+v is none", step)
	}
	if after := w.truth(); after > max(before, w.state.Permitted)*(1+1e-9) && !wished {
		w.t.Fatalf("step %+v: loss %v became %v, permitted %v", step, before, after, w.state.Permitted)
	}
	if w.voting {
		for _, p := range w.places { // votes are a change for all that stay
			if p.unit && !p.leaving {
				p.behind = 1
			}
		}
	}
	return step
}

// Whatever happens, no step lowers the availability below what it is and what it is to be,
// and every removal has a replacement that is available at that moment. When nothing happens
// any more it ends, and it never goes back and forth.
func TestMovesAreSafeAndEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for range rapid.IntRange(1, 60).Draw(rt, "events") {
			p := rapid.SampledFrom(w.places).Draw(rt, "place")
			switch rapid.SampledFrom([]string{"look", "look", "look", "plan", "cluster", "app"}).Draw(rt, "event") {
			case "plan":
				w.plan()
			case "cluster":
				p.up = !p.up
			case "app":
				p.ok = !p.ok
			}
			w.look()
			w.act()
		}
		for _, p := range w.places {
			p.up, p.ok = true, true
		}
		var last move.Step
		for range 10 * len(w.places) {
			w.look()
			last = w.act()
		}
		// An even number of votes may be worse than what there is, and than the target.
		if last.Kind != move.Done && (last.Code != move.CodeAvailability || !w.voting && w.enough()) {
			rt.Fatalf("it has not ended: %+v of %+v", last, w.state.Members)
		}
	})
}

// enough says that what stays meets the target.
func (w *world) enough() bool {
	var stay []string
	for _, m := range w.state.Members {
		if !m.Leaving {
			stay = append(stay, m.Name)
		}
	}
	return w.state.Loss(stay, len(stay)) <= w.state.Permitted
}
