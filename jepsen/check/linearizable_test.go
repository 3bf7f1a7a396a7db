package check

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

func judged1(b *tape) Verdict {
	return Linearizable(b.h, LinearizableOptions{Timeout: 5 * time.Second})
}

func TestLinearizableAcceptsWhatARegisterDoes(t *testing.T) {
	b := newTape(history.Register)
	b.read("k", "", 0, 1, 0, 1)
	b.refused(history.Write, "k", "v0", history.RefusedNotFound, 0, 1, 2)
	b.did(history.Create, "k", "v1", 5, 2, 10)
	// Concurrent with the creation, before and after it.
	b.read("k", "", 0, 4, 3, 9)
	b.read("k", "v1", 5, 5, 3, 9)
	b.refused(history.Create, "k", "v2", history.RefusedPrecondition, 0, 11, 12)
	b.swapped("k", "v3", 5, 7, 12, 14)
	b.refused(history.CAS, "k", "v4", history.RefusedPrecondition, 5, 15, 16)
	b.tried(history.Write, "k", "v5", 16)
	// It has not taken effect yet, and then it has.
	b.read("k", "v3", 7, 8, 20, 21)
	b.read("k", "v5", 9, 9, 22, 23)
	b.did(history.Delete, "k", "", 12, 24, 25)
	b.read("k", "", 0, 12, 26, 27)
	b.refused(history.Delete, "k", "", history.RefusedNotFound, 0, 28, 29)
	// What was refused for other reasons says nothing.
	b.op(history.Operation{Kind: history.Write, Key: "k", Outcome: history.Failed, Input: history.Request{Value: "v9"}, Output: history.Answer{Code: "no-leader"}}, 30, 31)
	accepted(t, judged1(b))
	accepted(t, LogOrder(b.h, nil))
}

func TestLinearizableNamesWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		build func(b *tape) []int
		what  string
	}{
		"a read that misses an acknowledged write": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 0, 0, 1)
			b.did(history.Write, "k", "v2", 0, 2, 3)
			stale := b.read("k", "v1", 0, 0, 4, 5)
			b.read("k", "v2", 0, 0, 6, 7)
			return []int{stale}
		}, "not linearizable"},
		"an acknowledged write that is gone": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 0, 0, 1)
			return []int{b.read("k", "", 0, 0, 2, 3)}
		}, "not linearizable"},
		"reads that go back": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 0, 0, 1)
			b.did(history.Write, "k", "v2", 0, 2, 20)
			b.read("k", "v2", 0, 0, 3, 4)
			return []int{b.read("k", "v1", 0, 0, 5, 6)}
		}, "not linearizable"},
		"two creations": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 3, 0, 1)
			return []int{b.did(history.Create, "k", "v2", 4, 2, 3)}
		}, "not linearizable"},
		"a lost update": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 3, 0, 1)
			b.swapped("k", "v2", 3, 4, 2, 3)
			return []int{b.swapped("k", "v3", 3, 5, 4, 5)}
		}, "not linearizable"},
		"a creation that is refused although there is nothing": {func(b *tape) []int {
			return []int{b.refused(history.Create, "k", "v1", history.RefusedPrecondition, 0, 0, 1)}
		}, "not linearizable"},
		"a compare and set that is refused although it matches": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 3, 0, 1)
			return []int{b.refused(history.CAS, "k", "v2", history.RefusedPrecondition, 3, 2, 3)}
		}, "not linearizable"},
		"a deleted object that comes back": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 3, 0, 1)
			b.did(history.Delete, "k", "", 4, 2, 3)
			return []int{b.read("k", "v1", 3, 5, 4, 5)}
		}, "not linearizable"},
		"a value that nobody wrote": {func(b *tape) []int {
			return []int{b.read("k", "v8", 3, 3, 0, 1)}
		}, "value from nowhere"},
		"a refused write that is read": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 3, 0, 1)
			w := b.refused(history.CAS, "k", "v2", history.RefusedPrecondition, 2, 2, 3)
			return []int{w, b.read("k", "v2", 4, 4, 4, 5)}
		}, "failed write took effect"},
		"a write that is carried out twice": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 3, 0, 1)
			b.did(history.Write, "k", "v2", 5, 2, 3)
			return []int{1, b.read("k", "v2", 6, 6, 4, 5)}
		}, "one write, two versions"},
		"an order that is not that of the log": {func(b *tape) []int {
			b.did(history.Create, "k", "v1", 3, 0, 1)
			b.did(history.Write, "k", "v2", 7, 2, 3)
			return []int{b.did(history.Write, "k", "v3", 5, 4, 5)}
		}, "not in the order of the log"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTape(history.Register)
			ops := tc.build(b)
			found(t, judged1(b), tc.what, "k", ops...)
		})
	}
}

// What nobody knows of explains what is seen, at any later time, but only once and only if
// it could have happened.
func TestLinearizableLeavesUnknownWritesOpen(t *testing.T) {
	b := newTape(history.Register)
	b.did(history.Create, "k", "v1", 3, 0, 1)
	b.tried(history.Write, "k", "v2", 2)
	b.tried(history.Delete, "k", "", 3)
	for i := range 5 {
		b.read("k", "v1", 3, 4, 10+2*i, 11+2*i)
	}
	b.read("k", "v2", 6, 6, 30, 31)
	b.read("k", "", 0, 9, 32, 33)
	accepted(t, judged1(b))
	accepted(t, LogOrder(b.h, nil))
	again := b.read("k", "v2", 6, 10, 34, 35)
	found(t, judged1(b), "not linearizable", "k", again)
}

// A key that takes too long is undecided, and that is not OK beyond the given share.
func TestLinearizableSaysWhatItCouldNotDecide(t *testing.T) {
	b := newTape(history.Register)
	b.did(history.Create, "easy", "v0", 1, 0, 1)
	// Very many unknown writes whose values nobody saw, and a contradiction at the end.
	b.did(history.Create, "hard", "w0", 0, 0, 1)
	for i := range 60 {
		b.tried(history.Write, "hard", fmt.Sprint("w", i+1), 2)
		b.tried(history.Delete, "hard", "", 2)
		b.tried(history.Create, "hard", fmt.Sprint("c", i+1), 2)
	}
	b.read("hard", "w3", 0, 0, 1000, 1001)
	b.read("hard", "w4", 0, 0, 1002, 1003)
	b.read("hard", "w3", 0, 0, 1004, 1005)
	o := LinearizableOptions{Timeout: 50 * time.Millisecond}
	v := Linearizable(b.h, o)
	if v.OK || len(v.Violations) > 0 || len(v.Undecided) != 1 || v.Undecided[0] != "hard" || !strings.Contains(v.Detail, "1 undecided") {
		t.Errorf("want undecided: %v %v", v, v.Undecided)
	}
	o.UndecidedShare = 0.5
	if v = Linearizable(b.h, o); !v.OK {
		t.Errorf("half may be undecided: %v", v)
	}
	o.Budget = time.Nanosecond
	o.UndecidedShare = 0
	if v = Linearizable(b.h, o); v.OK || len(v.Undecided) != 2 {
		t.Errorf("without time nothing is decided: %v", v)
	}
}

// Deployments get new versions from the control plane, too: those are not held against users.
func TestLinearizableDoesNotRelyOnVersionsOfDeployments(t *testing.T) {
	b := newTape(history.Lifecycle)
	b.did(history.Put, "d", "v1", 3, 0, 1)
	b.read("d", "v1", 5, 6, 2, 3) // it was planned anew at 5
	b.refused(history.CAS, "d", "v2", history.RefusedPrecondition, 3, 4, 5)
	b.swapped("d", "v3", 5, 7, 6, 7)
	b.read("d", "v3", 9, 9, 8, 9)
	accepted(t, judged1(b))
	stale := b.read("d", "v1", 5, 10, 10, 11)
	found(t, judged1(b), "not linearizable", "d", stale)
}

func TestPictureShowsAViolation(t *testing.T) {
	b := newTape(history.Register)
	b.did(history.Create, "k", "v1", 3, 0, 1)
	b.read("k", "", 0, 4, 2, 3)
	v := judged1(b)
	if len(v.Pictures) != 1 || v.Pictures[0].Key != "k" {
		t.Fatalf("pictures: %v", v.Pictures)
	}
	var page bytes.Buffer
	n, err := v.Pictures[0].WriteTo(&page)
	if err != nil || n != int64(page.Len()) {
		t.Fatalf("%d bytes of %d: %v", n, page.Len(), err)
	}
	for _, want := range []string{"<html", "create v1"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// A history that was kept in a file is judged as it was before.
func TestHistoryIsJudgedAgainFromAFile(t *testing.T) {
	b := newTape(history.Register)
	b.did(history.Create, "k", "v1", 3, 0, 1)
	b.read("k", "v1", 3, 4, 2, 3)
	b.h.Events = []history.Event{{Kind: history.Fault, Name: "kill", Nodes: []string{"n1"}, At: 5, End: 6}}
	again := func() history.History {
		var file bytes.Buffer
		if err := b.h.Write(&file); err != nil {
			t.Fatal(err)
		}
		h, err := history.ReadFrom(&file)
		if err != nil {
			t.Fatal(err)
		}
		if len(h.Operations) != len(b.h.Operations) || len(h.Events) != 1 || h.Events[0].End != 6 {
			t.Fatalf("read %+v", h)
		}
		return h
	}
	accepted(t, Linearizable(again(), LinearizableOptions{}))
	accepted(t, LogOrder(again(), nil))
	lost := b.read("k", "", 0, 5, 4, 5)
	found(t, Linearizable(again(), LinearizableOptions{}), "not linearizable", "k", lost)
	found(t, LogOrder(again(), nil), "lost write", "k", 0, lost)

	b.h.Operations[0].Input = "no request"
	v := Linearizable(again(), LinearizableOptions{})
	found(t, v, "unreadable history", "")
}
