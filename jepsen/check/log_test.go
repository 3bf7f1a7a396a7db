package check

import (
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

func TestLogOrderNamesWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		build func(b *tape) []int
		what  string
	}{
		"an answer from before one that was given": {func(b *tape) []int {
			w := b.did(history.Create, "k", "v1", 9, 0, 1)
			return []int{w, b.read("other", "", 0, 8, 2, 3)}
		}, "went back in the log"},
		"two commands at one index": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 9, 0, 1)
			return []int{b.did(history.Create, "other", "w1", 9, 2, 3)}
		}, "went back in the log"},
		"a write that is gone": {func(b *tape) []int {
			w := b.did(history.Create, "k", "v1", 9, 0, 1)
			return []int{w, b.read("k", "", 0, 10, 2, 3)}
		}, "lost write"},
		"a write that was taken back": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 9, 0, 1)
			w := b.did(history.Write, "k", "v2", 10, 2, 3)
			return []int{w, b.read("k", "v1", 9, 11, 4, 5)}
		}, "lost write"},
		"a deleted object": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 9, 0, 1)
			d := b.did(history.Delete, "k", "", 10, 2, 3)
			return []int{d, b.read("k", "v1", 9, 11, 4, 5)}
		}, "deleted object"},
		"a read of the future": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 9, 0, 10)
			return []int{b.read("k", "v1", 9, 8, 1, 5)}
		}, "read of the future"},
		"a value from nowhere": {func(b *tape) []int {
			return []int{b.read("k", "v7", 9, 9, 1, 5)}
		}, "value from nowhere"},
		"a lost update": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 9, 0, 1)
			w := b.did(history.Write, "k", "v2", 10, 2, 3)
			return []int{w, b.swapped("k", "v3", 9, 11, 4, 5)}
		}, "lost update"},
		"two creations": {func(b *tape) []int {
			w := b.did(history.Create, "k", "v1", 9, 0, 1)
			return []int{w, b.did(history.Create, "k", "v2", 10, 2, 3)}
		}, "created twice"},
		"a change of nothing": {func(b *tape) []int {
			return []int{b.did(history.Write, "k", "v1", 9, 0, 1)}
		}, "changed what is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTape(history.Register)
			ops := tc.build(b)
			found(t, LogOrder(b.h, nil), tc.what, "", ops...)
		})
	}
}

// Reads that may be stale are held to the index that they claim, and to no more.
func TestLogOrderHoldsStaleReadsToTheirIndex(t *testing.T) {
	b := newTape(history.Sessions)
	b.did(history.Create, "k", "v1", 5, 0, 1)
	b.did(history.Write, "k", "v2", 7, 2, 3)
	old := b.read("k", "v1", 5, 6, 10, 11)
	b.h.Operations[old].Input = history.Request{Mode: history.Stale}
	accepted(t, LogOrder(b.h, nil))
	wrong := b.read("k", "v1", 5, 7, 12, 13)
	b.h.Operations[wrong].Input = history.Request{Mode: history.Stale}
	found(t, LogOrder(b.h, nil), "lost write", "k", 1, wrong)
}

func endState(index uint64, packages, deployments []history.Object) *history.Final {
	return &history.Final{Nodes: map[string]history.NodeState{"n1": {
		Index: index, Packages: packages, Deployments: deployments, Hash: "h", HashIndex: index, Peers: map[string]string{"s1": "h"},
	}}}
}

func TestLogOrderJudgesTheEnd(t *testing.T) {
	b := newTape(history.Register)
	b.did(history.Create, "k", "v1", 5, 0, 1)
	accepted(t, LogOrder(b.h, endState(9, []history.Object{{Key: "a"}, {Key: "k", Value: "v1"}, {Key: "z"}}, nil)))
	found(t, LogOrder(b.h, endState(9, []history.Object{{Key: "a"}}, nil)), "lost write", "k", 0)
	b.tried(history.Delete, "k", "", 3)
	accepted(t, LogOrder(b.h, endState(9, []history.Object{{Key: "a"}}, nil)))
}

func TestSet(t *testing.T) {
	b := newTape(history.Set)
	b.did(history.Create, "kept", "v1", 5, 0, 1)
	b.did(history.Create, "gone", "v2", 6, 0, 1)
	gone := b.did(history.Delete, "gone", "", 7, 2, 3)
	b.tried(history.Create, "perhaps", "v3", 4)
	seen := b.read("perhaps", "v3", 8, 8, 6, 7)
	b.tried(history.Create, "never", "v4", 4)
	failed := b.op(history.Operation{Kind: history.Create, Key: "failed", Outcome: history.Failed, Input: history.Request{Value: "v5"}}, 8, 9)
	end := func(objects ...history.Object) *history.Final { return endState(20, nil, objects) }
	kept, perhaps := history.Object{Key: "kept", Value: "v1"}, history.Object{Key: "perhaps", Value: "v3"}

	accepted(t, Set(b.h, end(kept, perhaps)))
	accepted(t, Set(b.h, end(kept, perhaps, history.Object{Key: "never", Value: "v4"})))
	found(t, Set(b.h, end(perhaps)), "acknowledged create lost", "kept", 0)
	found(t, Set(b.h, end(kept)), "acknowledged create lost", "perhaps", seen)
	found(t, Set(b.h, end(kept, perhaps, history.Object{Key: "gone", Value: "v2"})), "deleted object came back", "gone", gone)
	found(t, Set(b.h, end(kept, perhaps, history.Object{Key: "failed", Value: "v5"})), "failed create took effect", "failed", failed)
	found(t, Set(b.h, end(history.Object{Key: "kept", Value: "v9"}, perhaps)), "other content", "kept", 0)
	found(t, Set(b.h, &history.Final{}), "nothing observed", "")

	two := end(kept, perhaps, history.Object{Key: "never", Value: "v4"})
	two.Nodes["n2"] = end(kept, perhaps).Nodes["n1"]
	found(t, Set(b.h, two), "nodes disagree", "never")
	two.Nodes["n2"] = history.NodeState{Error: "it is gone"}
	accepted(t, Set(b.h, two))
}

func TestSessions(t *testing.T) {
	b := newTape(history.Sessions)
	b.did(history.Create, "k", "v1", 50, 0, 1)
	at := func(want history.Request, got history.Answer, index uint64, call int) int {
		got.Exists = true
		return b.op(history.Operation{Kind: history.Read, Key: "k", Outcome: history.OK, Index: index, Input: want, Output: got}, call, call+1)
	}
	index := history.Request{Mode: history.AtIndex, AtIndex: 50}
	stale := history.Request{Mode: history.Stale, MaxStaleness: 2 * time.Second}
	at(index, history.Answer{Mode: history.AtIndex}, 50, 2)
	at(stale, history.Answer{Mode: history.Stale, LastContact: 2 * time.Second}, 40, 2)
	at(history.Request{Mode: history.Stale}, history.Answer{Mode: history.Stale, LastContact: time.Hour}, 2, 90_000)
	at(stale, history.Answer{Mode: history.Stale}, 50, 90_000)
	// It is older than its bound, but nobody can tell that it is older than bound and slack.
	at(stale, history.Answer{Mode: history.Stale}, 49, 6_900)
	accepted(t, Sessions(b.h, 5*time.Second))

	early := at(index, history.Answer{Mode: history.AtIndex}, 49, 3)
	found(t, Sessions(b.h, 0), "read before its index", "k", early)
	silent := at(stale, history.Answer{Mode: history.Stale, LastContact: 2001 * time.Millisecond}, 50, 3)
	found(t, Sessions(b.h, 0), "staler than allowed", "k", silent)
	old := at(stale, history.Answer{Mode: history.Stale}, 49, 7_002)
	found(t, Sessions(b.h, 5*time.Second), "staler than allowed", "k", old)
	claims := at(stale, history.Answer{Mode: history.Linearizable}, 50, 3)
	found(t, Sessions(b.h, 0), "answer of another kind", "k", claims)
}

func TestAnswers(t *testing.T) {
	b := newTape(history.Register)
	b.did(history.Create, "k", "v1", 5, 0, 1)
	b.refused(history.Create, "k", "v2", history.RefusedPrecondition, 0, 2, 3)
	b.op(history.Operation{Kind: history.Write, Key: "k", Outcome: history.Unknown}, 4, 5)
	accepted(t, Answers(b.h))
	for code, what := range map[string]string{"": "refusal without a code", "internal": "fault of the server", "malformed-json": "fault of the server"} {
		id := b.op(history.Operation{Kind: history.Write, Key: "bad", Outcome: history.Unknown, Output: history.Answer{Status: 500, Code: code}}, 6, 7)
		found(t, Answers(b.h), what, "bad", id)
	}
}
