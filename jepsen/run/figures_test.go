package run

import (
	"errors"
	"slices"
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
)

const s = time.Second

func done(name string, from, to time.Duration) nemesis.Done {
	return nemesis.Done{Step: nemesis.Step{Nemesis: name}, Began: from, Ended: to}
}

func TestBrokenAndGaps(t *testing.T) {
	skip := done("c", 1*s, 1*s)
	skip.Skipped = errors.New("no leader")
	stretches := broken([]nemesis.Done{done("b", 12*s, 15*s), done("a", 2*s, 4*s), skip, done("a", 3*s, 6*s), done("b", 6*s, 7*s)})
	if want := []Span{{2 * s, 7 * s}, {12 * s, 15 * s}}; !slices.Equal(stretches, want) {
		t.Fatalf("broken = %v, want %v", stretches, want)
	}
	if got, want := gaps(stretches, Span{0, 20 * s}), []Span{{0, 2 * s}, {7 * s, 12 * s}, {15 * s, 20 * s}}; !slices.Equal(got, want) {
		t.Errorf("gaps = %v, want %v", got, want)
	}
	if got := gaps([]Span{{0, 30 * s}}, Span{0, 20 * s}); got != nil {
		t.Errorf("gaps = %v, want none", got)
	}
}

func TestConvergence(t *testing.T) {
	looks := []look{
		{1 * s, "pm-1", true}, {1 * s, "pm-2", true}, // before the end: they do not count
		{6 * s, "pm-1", true}, {7 * s, "pm-2", false}, {8 * s, "pm-1", false}, {9 * s, "pm-2", true}, {10 * s, "pm-1", true},
		{21 * s, "pm-1", true}, {31 * s, "pm-2", true},
	}
	times, censored := convergence([]Span{{1 * s, 5 * s}, {15 * s, 20 * s}, {25 * s, 30 * s}}, looks, 2)
	if want := []time.Duration{5 * s}; !slices.Equal(times, want) || censored != 2 {
		t.Errorf("convergence = %v and %d censored, want %v and 2", times, censored, want)
	}
}

func TestFirstWrites(t *testing.T) {
	h := history.History{Operations: []history.Operation{
		{Kind: history.Put, Outcome: history.OK, Call: 9 * s, Return: 11 * s}, // sent before
		{Kind: history.Read, Outcome: history.OK, Call: 11 * s, Return: 11 * s},
		{Kind: history.Put, Outcome: history.Unknown, Call: 11 * s},
		{Kind: history.Put, Outcome: history.OK, Call: 11 * s, Return: 14 * s},
		{Kind: history.CAS, Outcome: history.OK, Call: 12 * s, Return: 13 * s},
	}}
	got := firstWrites(h, []nemesis.Done{done(killLeader, 10*s, 20*s), done("pause-leader", 0, 1*s), done(killLeader, 30*s, 31*s)}, killLeader)
	if want := []time.Duration{3 * s}; !slices.Equal(got, want) {
		t.Errorf("first writes = %v, want %v", got, want)
	}
}

func TestShares(t *testing.T) {
	var ops []history.Operation
	for at := range 20 {
		ops = append(ops,
			history.Operation{Kind: history.Put, Outcome: history.OK, Call: time.Duration(at) * s, Return: time.Duration(at)*s + time.Millisecond},
			history.Operation{Kind: history.Look, Outcome: history.OK, Call: time.Duration(at) * s, Return: time.Duration(at) * s})
	}
	ops[10].Outcome, ops[12].Outcome = history.Unknown, history.Failed // at 5 s and 6 s
	got := shares(history.History{Operations: ops}, []nemesis.Done{done("a", 5*s, 10*s)}, Span{0, 20 * s})
	if len(got) != 2 || got[0].OK != 15 || got[0].Rate != 1 || got[1].Name != "a" || got[1].OK != 3 || got[1].Failed != 1 || got[1].Unknown != 1 || got[1].P50 != time.Millisecond {
		t.Errorf("shares = %+v", got)
	}
}
