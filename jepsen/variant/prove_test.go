package variant

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func round(box time.Duration) Round {
	return Round{Variant: Variant{Name: "x-off", Guard: "x", TimeBox: box}, Seed: 7, Length: time.Minute}
}

func TestProveGoesOnUntilItIsCaught(t *testing.T) {
	var seeds []uint64
	p := prove(t.Context(), Proof{}, round(time.Hour), func(_ context.Context, r Round) ([]string, error) {
		seeds = append(seeds, r.Seed)
		switch r.Seed {
		case 8:
			return nil, errors.New("no ports")
		case 9:
			return []string{"set", "replicas"}, nil
		default:
			return nil, nil
		}
	})
	if len(seeds) != 3 || p.Seed != 9 || p.Rounds != 3 || len(p.Caught) != 2 || p.Why != "" {
		t.Errorf("seeds %v, proof %+v", seeds, p)
	}
}

func TestProveGivesUp(t *testing.T) {
	quiet := func(context.Context, Round) ([]string, error) { return nil, nil }
	if p := prove(t.Context(), Proof{}, round(time.Minute), quiet); p.Caught != nil || p.Rounds != 1 || !strings.Contains(p.Why, "within 1m") {
		t.Errorf("not caught: %+v", p)
	}
	broken := func(context.Context, Round) ([]string, error) { return nil, errors.New("no ports") }
	if p := prove(t.Context(), Proof{}, round(time.Hour), broken); p.Rounds != maxFailures || !strings.Contains(p.Why, "no ports") {
		t.Errorf("never run: %+v", p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := func(context.Context, Round) ([]string, error) { cancel(); return nil, ctx.Err() }
	if p := prove(ctx, Proof{}, round(time.Hour), stopped); p.Rounds != 1 || p.Why != "interrupted" {
		t.Errorf("interrupted: %+v", p)
	}
}

func TestProofsAreATable(t *testing.T) {
	var out strings.Builder
	err := WriteProofs(&out, []Proof{
		{Variant: "fsync-off", Guard: "fsync", Caught: []string{"set"}, Took: 90 * time.Second, Rounds: 2, Seed: 4},
		{Variant: "fence-off", Guard: "fence", Why: "no check\nobjects", Rounds: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || strings.Join(strings.Fields(lines[1]), " ") != "fsync fsync-off set 90 s 2 4" || !strings.Contains(lines[2], "NOT CAUGHT: no check; objects") {
		t.Errorf("the table is\n%s", out.String())
	}
}
