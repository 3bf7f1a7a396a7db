package nemesis

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// some nemeses of any parts, which are never done.
func someNemeses(t *rapid.T) []Nemesis {
	parts := []Part{Network, Nodes, Disks, Clocks, Members, Managers, Snapshots}
	var all []Nemesis
	for i := range rapid.IntRange(1, 12).Draw(t, "nemeses") {
		all = append(all, &kind{
			name:  fmt.Sprintf("n%d", i),
			parts: rapid.SliceOfNDistinct(rapid.SampledFrom(parts), 1, 3, rapid.ID[Part]).Draw(t, "parts"),
			choose: func(context.Context, *Target, *rand.Rand) (*Fault, error) {
				return nil, fmt.Errorf("never done")
			},
		})
	}
	return all
}

func drawSchedule(t *rapid.T) (nemeses []Nemesis, duration time.Duration, again func() []Step) {
	nemeses = someNemeses(t)
	seed := rapid.Uint64().Draw(t, "seed")
	duration = time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second
	o := Options{
		MeanFault: time.Duration(rapid.IntRange(500, 20_000).Draw(t, "fault")) * time.Millisecond,
		MeanPause: time.Duration(rapid.IntRange(500, 20_000).Draw(t, "pause")) * time.Millisecond,
		Overlap:   rapid.Float64Range(0, 1).Draw(t, "overlap"),
	}
	return nemeses, duration, func() []Step { return Schedule(seed, nemeses, duration, o) }
}

func TestScheduleIsAFunctionOfItsSeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, _, schedule := drawSchedule(t)
		var a, b bytes.Buffer
		if err := WriteSchedule(&a, schedule()); err != nil {
			t.Fatal(err)
		}
		if err := WriteSchedule(&b, schedule()); err != nil {
			t.Fatal(err)
		}
		if a.String() != b.String() {
			t.Fatalf("two schedules of one seed:\n%s\n%s", a.String(), b.String())
		}
	})
}

func TestScheduleKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nemeses, duration, schedule := drawSchedule(t)
		byName := map[string]Nemesis{}
		for _, n := range nemeses {
			byName[n.Name()] = n
		}
		steps := schedule()
		for i, s := range steps {
			if s.At <= 0 || s.For <= 0 || s.End() > duration {
				t.Fatalf("step %+v is not within (0, %s]", s, duration)
			}
			if i > 0 && s.At < steps[i-1].At {
				t.Fatalf("step %+v comes after %+v", s, steps[i-1])
			}
			together := 1
			for _, other := range steps[:i] {
				if other.End() <= s.At {
					continue
				}
				together++
				if !compatible(byName[other.Nemesis], byName[s.Nemesis]) {
					t.Fatalf("%+v overlaps %+v", s, other)
				}
			}
			if together > 2 {
				t.Fatalf("%d faults last at %s", together, s.At)
			}
		}
	})
}

func TestScheduleDealsEachNemesisBeforeOneComesTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nemeses, _, schedule := drawSchedule(t)
		times := map[string]int{}
		for _, s := range schedule() {
			times[s.Nemesis]++
			least, most := times[nemeses[0].Name()], 0
			for _, n := range nemeses {
				least, most = min(least, times[n.Name()]), max(most, times[n.Name()])
			}
			if most-least > 1 {
				t.Fatalf("dealt %v", times)
			}
		}
	})
}

func TestSeedsDiffer(t *testing.T) {
	a := Schedule(1, All(), 10*time.Minute, Options{})
	b := Schedule(2, All(), 10*time.Minute, Options{})
	if len(a) < 30 || slices.Equal(a, b) {
		t.Fatalf("%d steps of seed 1, %d of seed 2, the same: %v", len(a), len(b), slices.Equal(a, b))
	}
}

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range All() {
		if seen[n.Name()] {
			t.Errorf("%s is there twice", n.Name())
		}
		seen[n.Name()] = true
		if n.About() == "" || len(n.Parts()) == 0 {
			t.Errorf("%s tells nothing about itself, or has no part for itself", n.Name())
		}
	}
	if _, err := Named("kill-leader", "no-such"); err == nil {
		t.Error("an unknown name is taken")
	}
	if all, err := Named(); err != nil || len(all) != len(seen) {
		t.Errorf("no name gives %d nemeses (%v), want all %d", len(all), err, len(seen))
	}
}
