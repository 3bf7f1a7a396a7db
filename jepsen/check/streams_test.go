package check

import (
	"fmt"
	"testing"

	"oaas.io/control-plane/jepsen/history"
)

// told adds messages that a follower got. Of a change: its index; of others see the types.
func (b *tape) told(follower int, messages ...history.Message) []int {
	var ids []int
	for _, m := range messages {
		m.Follower = follower
		ids = append(ids, b.op(history.Operation{Kind: history.Follow, Outcome: history.OK, Index: m.Index, Output: m}, 0, 0))
	}
	return ids
}

func changed(index uint64, topics ...string) history.Message {
	m := history.Message{Type: history.Change, Index: index, Digest: fmt.Sprint("d", index)}
	for _, topic := range topics {
		m.Events = append(m.Events, history.Row{Topic: topic, Key: "x"})
	}
	return m
}

func bookmark(index uint64) history.Message {
	return history.Message{Type: history.Bookmark, Index: index}
}
func snapshot(index uint64) history.Message {
	return history.Message{Type: history.Snapshot, Index: index}
}

var (
	cut       = history.Message{Type: history.Broken}
	forgotten = history.Message{Type: history.Compacted}
)

func TestStreamsAcceptsCutsAndForgottenPasts(t *testing.T) {
	b := newTape(history.Watch)
	b.told(1, bookmark(4), changed(5), cut, changed(6), bookmark(8), cut, bookmark(8), changed(9), bookmark(10))
	// The second one misses what was forgotten, and knows it.
	b.told(2, changed(5), cut, forgotten, snapshot(3), cut, snapshot(8), snapshot(8), bookmark(8), changed(9), bookmark(9))
	// The third came late and was cut off early.
	b.told(3, changed(9))
	b.workload = history.Register
	b.did(history.Create, "k", "v", 6, 0, 1)
	b.did(history.Create, "l", "v", 99, 0, 1) // after all that anybody was told
	accepted(t, Streams(b.h))
}

func TestStreamsNamesWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		build func(b *tape)
		what  string
		key   string
	}{
		"a gap": {func(b *tape) {
			b.told(1, changed(5), changed(6), changed(7))
			b.told(2, bookmark(4), changed(5), changed(7))
		}, "gap", "follower 2"},
		"a gap over a cut": {func(b *tape) {
			b.told(1, changed(5), changed(6), changed(7))
			b.told(2, changed(5), cut, changed(7))
		}, "gap", "follower 2"},
		"a gap that a bookmark covers": {func(b *tape) {
			b.told(1, changed(5), changed(6))
			b.told(2, changed(5), bookmark(6))
		}, "gap", "follower 2"},
		"a gap between a snapshot and what follows": {func(b *tape) {
			b.told(1, changed(5), changed(6), changed(7))
			b.told(2, snapshot(5), bookmark(6), changed(7))
		}, "gap", "follower 2"},
		"an acknowledged write that nobody is told of": {func(b *tape) {
			b.told(1, changed(5), changed(7))
			b.workload = history.Register
			b.did(history.Create, "k", "v", 6, 0, 1)
		}, "acknowledged write not told of", "follower 1"},
		"a change twice": {func(b *tape) {
			b.told(1, changed(5), changed(6), cut, changed(6))
		}, "change told twice", "follower 1"},
		"a change out of order": {func(b *tape) {
			b.told(1, changed(5), changed(7), changed(6))
		}, "change out of order", "follower 1"},
		"a change below a bookmark": {func(b *tape) {
			b.told(1, changed(5), bookmark(9), changed(8))
		}, "change out of order", "follower 1"},
		"a bookmark that goes back": {func(b *tape) {
			b.told(1, changed(5), bookmark(9), bookmark(8))
		}, "bookmark goes back", "follower 1"},
		"different content": {func(b *tape) {
			b.told(1, changed(5))
			other := changed(5)
			other.Digest = "other"
			b.told(2, other)
		}, "followers were told differently", "index 5"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTape(history.Watch)
			tc.build(b)
			found(t, Streams(b.h), tc.what, tc.key)
		})
	}
}

// Who follows some topics is owed what is about them, and told it in other words.
func TestStreamsOfSomeTopics(t *testing.T) {
	some := func(messages ...history.Message) []history.Message {
		for i := range messages {
			messages[i].Topics = []string{"packages"}
			messages[i].Digest += " in part"
		}
		return messages
	}
	b := newTape(history.Watch)
	b.told(1, bookmark(4), changed(5, "packages", "audit"), changed(6, "units"), changed(7, "packages"))
	b.told(2, some(bookmark(4), changed(5, "packages"), changed(7, "packages"))...)
	b.workload = history.Register
	b.did(history.Create, "k", "v", 5, 0, 1)
	accepted(t, Streams(b.h))
	b.workload = history.Watch
	b.told(3, some(bookmark(4), changed(7, "packages"))...)
	found(t, Streams(b.h), "gap", "follower 3")
}

func TestOneEffect(t *testing.T) {
	build := func() *tape {
		b := newTape(history.Idempotent)
		b.sent(history.Create, "k", "q1", history.Answer{Status: 201, Body: "b"}, 5)
		b.sent(history.Create, "k", "q1", history.Answer{Status: 201, Body: "b", Replayed: true}, 9)
		b.sent(history.Create, "k", "q1", history.Answer{}, 0)
		b.sent(history.Delete, "k", "q2", history.Answer{}, 0)
		b.sent(history.Delete, "k", "q2", history.Answer{Status: 204, Replayed: true}, 9)
		return b
	}
	end := func(effects ...history.Effect) *history.Final {
		f := endState(20, []history.Object{{Key: "other"}}, nil)
		f.Effects = append([]history.Effect{{Index: 1, Action: "member.add", Object: "x"}}, effects...)
		return f
	}
	created, deleted := history.Effect{Index: 5, Action: "package.create", Object: "k"}, history.Effect{Index: 7, Action: "package.delete", Object: "k"}
	b := build()
	accepted(t, OneEffect(b.h, end(created, deleted)))
	// A follower tells of it, too, and the control plane does things by itself.
	b.workload = history.Watch
	b.told(1, history.Message{Type: history.Change, Index: 5, Events: []history.Row{{Topic: "audit", Key: "5", Name: "k", Action: "package.create"}}})
	accepted(t, OneEffect(b.h, end(created, deleted, history.Effect{Index: 6, Action: "deployment.replan", Object: "k"})))

	found(t, OneEffect(build().h, end(created, deleted, history.Effect{Index: 8, Action: "package.create", Object: "k"})), "more effects than requests", "k")
	found(t, OneEffect(build().h, end(created)), "acknowledged request without effect", "k")

	b = build()
	twice := b.sent(history.Create, "k", "q1", history.Answer{Status: 201, Body: "b"}, 6)
	found(t, OneEffect(b.h, end(created, deleted)), "carried out twice", "k", 0, twice)
	b = build()
	other := b.sent(history.Create, "k", "q1", history.Answer{Status: 201, Body: "c", Replayed: true}, 6)
	found(t, OneEffect(b.h, end(created, deleted)), "different answers", "k", 0, other)
	b = build()
	refused := b.sent(history.Create, "k", "q1", history.Answer{Status: 409, Code: history.RefusedExists}, 0)
	b.h.Operations[refused].Outcome = history.Failed
	found(t, OneEffect(b.h, end(created, deleted)), "different answers", "k", 0, refused)

	back := end(created, deleted)
	back.Nodes["n1"] = history.NodeState{Packages: []history.Object{{Key: "k"}}}
	found(t, OneEffect(build().h, back), "deleted object came back", "k", 4)
	b = newTape(history.Idempotent)
	b.sent(history.Create, "k", "q1", history.Answer{Status: 201}, 5)
	found(t, OneEffect(b.h, end(created)), "acknowledged create lost", "k", 0)
	// What was forgotten is not held against anybody.
	forgot := end()
	forgot.Effects[0].Index = 6
	forgot.Nodes["n1"] = history.NodeState{Packages: []history.Object{{Key: "k"}}}
	accepted(t, OneEffect(b.h, forgot))
}

// sent adds an attempt. It is of unknown outcome without a status.
func (b *tape) sent(kind, key, query string, a history.Answer, index uint64) int {
	o := history.Operation{
		Kind: kind, Key: key, Outcome: history.OK, Index: index, Command: !a.Replayed && index > 0,
		Input: history.Request{IdempotencyKey: query}, Output: a,
	}
	if a.Status == 0 {
		o.Outcome = history.Unknown
	}
	at := 10 * len(b.h.Operations)
	return b.op(o, at, at+1)
}
