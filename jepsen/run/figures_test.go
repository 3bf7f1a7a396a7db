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

func TestAlone(t *testing.T) {
	fault := func(name string, from, to time.Duration) history.Event {
		return history.Event{Kind: history.Fault, Name: name, At: from, End: to}
	}
	h := history.History{Events: []history.Event{
		fault(killLeader, 1*s, 2*s), fault("a", 2*s, 5*s), fault(killLeader, 4*s, 6*s), fault(killLeader, 8*s, 9*s), {Kind: history.Note, At: 8 * s},
	}}
	var got []time.Duration
	for _, e := range h.Events {
		if alone(h, killLeader)(e) {
			got = append(got, e.At)
		}
	}
	if want := []time.Duration{1 * s, 8 * s}; !slices.Equal(got, want) {
		t.Errorf("alone at %v, want %v", got, want)
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
