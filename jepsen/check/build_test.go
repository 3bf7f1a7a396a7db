package check

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/jepsen/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tape writes histories by hand. Times are milliseconds.
type tape struct {
	workload string
	h        history.History
}

func newTape(workload string) *tape { return &tape{workload: workload} }

// op adds an operation and gives its id.
func (b *tape) op(o history.Operation, call, ret int) int {
	o.ID = len(b.h.Operations)
	o.Workload = b.workload
	if o.Node == "" {
		o.Node = "n1"
	}
	if o.Process == 0 {
		o.Process = o.ID + 1
	}
	o.Call, o.Return = time.Duration(call)*time.Millisecond, time.Duration(ret)*time.Millisecond
	b.h.Operations = append(b.h.Operations, o)
	return o.ID
}

// did adds a write that was acknowledged as the command at index.
func (b *tape) did(kind, key, value string, index uint64, call, ret int) int {
	a := history.Answer{Status: 200}
	if kind != history.Delete {
		a.Version = index
	}
	return b.op(history.Operation{
		Kind: kind, Key: key, Outcome: history.OK, Index: index, Command: true, Input: history.Request{Value: value}, Output: a,
	}, call, ret)
}

// swapped adds a compare and set that was acknowledged.
func (b *tape) swapped(key, value string, expect, index uint64, call, ret int) int {
	id := b.did(history.CAS, key, value, index, call, ret)
	b.h.Operations[id].Input = history.Request{Value: value, Version: expect}
	return id
}

// refused adds a write that the state refused.
func (b *tape) refused(kind, key, value, code string, expect uint64, call, ret int) int {
	return b.op(history.Operation{
		Kind: kind, Key: key, Outcome: history.Failed, Input: history.Request{Value: value, Version: expect},
		Output: history.Answer{Status: 412, Code: code},
	}, call, ret)
}

// tried adds a write of which nobody knows what became of it.
func (b *tape) tried(kind, key, value string, call int) int {
	return b.op(history.Operation{Kind: kind, Key: key, Outcome: history.Unknown, Input: history.Request{Value: value}}, call, call+1)
}

// read adds a linearizable read; an empty value is of nothing.
func (b *tape) read(key, value string, version, index uint64, call, ret int) int {
	return b.op(history.Operation{
		Kind: history.Read, Key: key, Outcome: history.OK, Index: index, Input: history.Request{},
		Output: history.Answer{Exists: value != "", Value: value, Version: version, Mode: history.Linearizable},
	}, call, ret)
}

// accepted fails unless the verdict is OK.
func accepted(t *testing.T, v Verdict) {
	t.Helper()
	if !v.OK {
		t.Errorf("rejected: %v", v)
	}
}

// found fails unless the verdict has a violation of that kind about the key, with those operations.
func found(t *testing.T, v Verdict, what, key string, ops ...int) {
	t.Helper()
	if v.OK {
		t.Errorf("accepted, want %q: %v", what, v)
	}
	for _, one := range v.Violations {
		if one.What == what && strings.Contains(one.Key, key) && contains(one.Operations, ops) {
			return
		}
	}
	t.Errorf("want %q about %q with %v: %v", what, key, ops, v)
}

func contains(have, want []int) bool {
	for _, w := range want {
		ok := false
		for _, h := range have {
			ok = ok || h == w
		}
		if !ok {
			return false
		}
	}
	return true
}
