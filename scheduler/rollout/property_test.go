package rollout_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/rollout"
)

// place is an environment of the world, and what of it only the world knows.
type place struct {
	rollout.Env
	// broken: what it runs never becomes available; down: its cluster does not answer.
	broken, down bool
	// readyAt is when what it was given becomes available if nothing is in the way.
	readyAt time.Time
	// byUs is set from when the rollout has changed it while it was available, until it
	// is available again.
	byUs bool
}

// world plays what happens to a rollout: environments become available or do not, clusters
// go away and come back, and plans change. Whoever leads is asked for the next step at any
// time, and knows nothing but the state.
type world struct {
	t     *rapid.T
	state rollout.State
	at    time.Time
	all   []*place
	fresh int
	// bad: the new content works in no environment.
	bad  bool
	done rollout.Outcome
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, at: now, bad: rapid.IntRange(0, 3).Draw(t, "bad") == 0}
	w.state.Limits = rollout.Limits{
		Canary: rapid.IntRange(0, 3).Draw(t, "canary"), MaxUnavailable: rapid.IntRange(1, 4).Draw(t, "max unavailable"),
		MinHealthy: time.Duration(rapid.IntRange(0, 60).Draw(t, "min healthy")) * time.Second, Deadline: 5 * time.Minute,
		RollBack: rapid.Bool().Draw(t, "roll back"),
	}
	for range rapid.IntRange(1, 8).Draw(t, "environments") {
		w.join(rapid.IntRange(0, 5).Draw(t, "unavailable") == 0)
	}
	w.arrange()
	return w
}

func (w *world) join(unavailable bool) {
	w.fresh++
	p := &place{broken: unavailable, readyAt: w.at}
	p.Name, p.Wave = fmt.Sprintf("e%d", w.fresh), -1
	w.all = append(w.all, p)
}

func (w *world) arrange() {
	envs := make([]rollout.Env, len(w.all))
	for i, p := range w.all {
		envs[i] = p.Env
	}
	rollout.Arrange(envs, w.state.Wave, w.state.Limits)
	for i, p := range w.all {
		p.Wave = envs[i].Wave
	}
	w.see()
}

// see lets the rollout see the world as it is.
func (w *world) see() {
	w.state.Envs = nil
	for _, p := range w.all {
		available := !p.broken && !p.down && !p.readyAt.After(w.at)
		if available && !p.Available {
			p.Since = w.at
		}
		p.Available, p.Unreachable = available, p.down
		if available || p.down { // that its cluster is away is nobody's doing
			p.byUs = false
		}
		w.state.Envs = append(w.state.Envs, p.Env)
	}
}

// change is what the world does by itself.
func (w *world) change() {
	p := rapid.SampledFrom(w.all).Draw(w.t, "environment")
	switch rapid.IntRange(0, 9).Draw(w.t, "change") {
	case 0:
		p.down = true
	case 1, 2, 3:
		p.down = false
	case 4:
		w.join(false) // the plan has changed
		w.arrange()
	case 5:
		if len(w.all) > 1 {
			for i, other := range w.all {
				if other == p {
					w.all = append(w.all[:i], w.all[i+1:]...)
					break
				}
			}
			w.arrange()
		}
	case 6:
		if p.Updated && !w.state.Back && w.bad {
			p.Refused = true
		}
	}
	w.at = w.at.Add(time.Duration(rapid.IntRange(0, 90).Draw(w.t, "seconds")) * time.Second)
	w.see()
}

// act asks for the next step and carries it out.
func (w *world) act() {
	step := rollout.Next(w.state, w.at)
	if again := rollout.Next(w.state, w.at); fmt.Sprint(again) != fmt.Sprint(step) {
		w.t.Fatalf("two leaders decide differently: %+v and %+v", step, again)
	}
	switch step.Outcome {
	case rollout.Advance:
		w.check(step)
		for _, name := range step.Update {
			w.update(name)
		}
		w.state.Wave, w.state.Until = step.Wave, w.at.Add(w.state.Deadline)
		w.see()
		w.count()
	case rollout.RollBack:
		w.state.Back, w.state.Wave, w.state.Until = true, 0, time.Time{}
		for _, p := range w.all {
			// What was not changed has what all are to have again.
			p.Updated, p.Wave, p.Refused = !p.Updated, 0, false
		}
		w.see()
	case rollout.Complete, rollout.Fail:
		w.done = step.Outcome
	case rollout.Wait:
		if !step.Next.After(w.at) {
			w.t.Fatalf("%+v does not say when to ask again after %s", step, w.at)
		}
	}
}

func (w *world) update(name string) {
	for _, p := range w.all {
		if p.Name != name {
			continue
		}
		if p.Updated || p.Wave > max(w.state.Wave, 0)+1 {
			w.t.Fatalf("%s is changed in wave %d: %+v", name, w.state.Wave, p)
		}
		p.byUs = p.Available
		p.Updated, p.Available = true, false
		p.broken = w.bad && !w.state.Back
		p.readyAt = w.at.Add(time.Duration(rapid.IntRange(0, 100).Draw(w.t, "takes")) * time.Second)
	}
}

// check holds a step against what must never be done.
func (w *world) check(step rollout.Step) {
	for _, e := range w.state.Envs {
		if !w.state.Back && e.Updated && e.Wave == 0 && !e.Available && step.Wave > 0 && len(step.Update) > 0 {
			w.t.Fatalf("%v are changed past %s, which is not available", step.Update, e.Name)
		}
		if !w.state.Back && step.Wave > w.state.Wave && e.Updated && (!e.Available || w.at.Sub(e.Since) < w.state.MinHealthy) {
			w.t.Fatalf("wave %d begins before %s was available for %s", step.Wave, e.Name, w.state.MinHealthy)
		}
	}
}

// count holds how many environments are unavailable because of the rollout against what is
// permitted.
func (w *world) count() {
	byUs := 0
	for _, p := range w.all {
		if p.byUs {
			byUs++
		}
	}
	if byUs > w.state.MaxUnavailable {
		w.t.Fatalf("%d environments are unavailable because of us, %d may be: %+v", byUs, w.state.MaxUnavailable, w.state)
	}
}

// settle lets time pass without anything else happening, until the rollout has ended.
func (w *world) settle() {
	for range 10_000 {
		if w.done != rollout.Wait {
			return
		}
		w.see()
		w.act()
		w.at = w.at.Add(7 * time.Second)
	}
	w.t.Fatalf("it never ends: %+v", w.state)
}

// Whatever happens, the rules hold, and when nothing happens any more, it ends.
func TestAnyWorld(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			if w.done != rollout.Wait {
				break
			}
			if rapid.Bool().Draw(rt, "the leader is asked") {
				w.act()
			} else {
				w.change()
			}
		}
		w.settle()
		updated := 0
		for _, e := range w.state.Envs {
			if e.Updated {
				updated++
			}
		}
		if w.done == rollout.Complete && updated != len(w.state.Envs) {
			rt.Fatalf("complete with %d of %d environments", updated, len(w.state.Envs))
		}
		if w.done == rollout.Complete && w.bad && !w.state.Back {
			rt.Fatal("what works nowhere is complete")
		}
	})
}

// A world in which nothing fails gets there.
func TestGoodWorldCompletes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.bad = false
		for _, p := range w.all {
			p.broken = false
		}
		w.see()
		w.settle()
		if w.done != rollout.Complete || w.state.Back {
			rt.Fatalf("it has ended as %d (back: %v)", w.done, w.state.Back)
		}
	})
}

// What works nowhere is in the canaries at most, and nowhere in the end if it is taken back.
func TestBadChangeStaysInTheFirstWave(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.bad = true
		for _, p := range w.all {
			p.broken = false
		}
		w.see()
		most := w.state.MaxUnavailable
		for w.done == rollout.Wait && !w.state.Back {
			w.act()
			changed := 0
			for _, p := range w.all {
				if p.Updated {
					changed++
				}
			}
			if changed > most && !w.state.Back {
				rt.Fatalf("%d environments have what works nowhere, %d may", changed, most)
			}
			w.at = w.at.Add(5 * time.Second)
			w.see()
		}
		w.settle()
		want := rollout.Fail
		if w.state.RollBack {
			want = rollout.Complete
		}
		if w.done != want || w.state.Back != w.state.RollBack {
			rt.Fatalf("it has ended as %d (back: %v), want %d", w.done, w.state.Back, want)
		}
	})
}
