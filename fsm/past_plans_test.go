package fsm_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// planned commits a deployment with a plan that says so.
func planned(t *testing.T, r *replica, key, plan string) {
	t.Helper()
	op := commit(t, key, "c", "e1")
	op.Plan = []byte(plan)
	r.must(op)
}

func TestPastPlansAreKept(t *testing.T) {
	r := newReplica(t)
	planned(t, r, "d", `{"n":-2}`)
	planned(t, r, "d", `{"n":-1}`)
	if got := r.snap().PastPlans("d"); len(got) != 0 {
		t.Fatalf("kept before all servers know it: %v", got)
	}
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom})
	for n := range 30 {
		planned(t, r, "d", fmt.Sprintf(`{"n":%d}`, n))
	}
	planned(t, r, "d", `{"n":29}`) // the same again is no other plan
	planned(t, r, "e", `{}`)
	past := r.snap().PastPlans("d")
	if len(past) != fsm.MaxPlans-1 || string(r.snap().Plan("d").Document) != `{"n":29}` {
		t.Fatalf("%d past plans, present %s", len(past), r.snap().Plan("d").Document)
	}
	for i, p := range past {
		if want := fmt.Sprintf(`{"n":%d}`, 28-i); string(p.Document) != want {
			t.Errorf("past plan %d is %s, want %s", i, p.Document, want)
		}
	}
	if len(r.snap().PastPlans("e"))+len(r.snap().PastPlans("")) != 0 {
		t.Error("others have past plans")
	}
	sameAfterRestart(t, r)
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	if got := r.snap().PastPlans("d"); len(got) != 0 {
		t.Errorf("left by a deployment that is gone: %v", got)
	}
	sameAfterRestart(t, r)
}

// A key that begins with another one, and goes on with what sorts before a separator,
// is in its place as well.
func TestPastPlansOfKeysThatBeginAlike(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom})
	for _, key := range []string{strings.Repeat("long", 255), "shop", "shop!", "shop-2", "shop.Cart", "shop/x", "shop0"} {
		planned(t, r, key, `{"n":1}`)
		planned(t, r, key, `{"n":2}`)
	}
	if len(r.snap().PastPlans("shop")) != 1 || len(r.snap().PastPlans("shop-2")) != 1 {
		t.Error("not kept")
	}
	sameAfterRestart(t, r)
}

// After a restore many plans have one index.
func TestPastPlansAfterARestore(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.Found{ClusterId: "control-plane"})
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom})
	keys := []string{"a", "b", "c"}
	for _, key := range keys {
		planned(t, r, key, `{"n":1}`)
		planned(t, r, key, `{"n":2}`)
	}
	r.restore(dump(t, r.snap()))
	for _, key := range keys {
		if past := r.snap().PastPlans(key); len(past) != 0 {
			t.Errorf("%s has past plans of another log", key)
		}
		planned(t, r, key, `{"n":3}`)
		if past := r.snap().PastPlans(key); len(past) != 1 || string(past[0].Document) != `{"n":2}` {
			t.Errorf("%s: %v", key, past)
		}
	}
	sameAfterRestart(t, r)
}

// What was once thought of many deployments does not fill the memory.
func TestPastPlansAreBounded(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom})
	long := strings.Repeat("x", fsm.MaxPastPlan-20)
	deployments := fsm.MaxPastPlans/fsm.MaxPastPlan/10 + 1
	for n := range 12 {
		for d := range deployments {
			planned(t, r, fmt.Sprint("d", d), fmt.Sprintf(`{"n":"%02d%s"}`, n, long))
		}
	}
	size := 0
	for d := range deployments {
		for _, p := range r.snap().PastPlans(fmt.Sprint("d", d)) {
			size += len(p.Document)
		}
	}
	if size > fsm.MaxPastPlans || size < fsm.MaxPastPlans*9/10 {
		t.Errorf("%d bytes of %d", size, fsm.MaxPastPlans)
	}
	if past := r.snap().PastPlans("d0"); len(past) == 0 || !strings.HasPrefix(string(past[0].Document), `{"n":"10`) {
		t.Errorf("%d past plans, the newest is not the last but one", len(past))
	}
	planned(t, r, "big", `{"n":"`+strings.Repeat("x", fsm.MaxPastPlan)+`"}`)
	planned(t, r, "big", `{}`)
	if len(r.snap().PastPlans("big")) != 0 {
		t.Error("a plan that is too large was kept")
	}
	sameAfterRestart(t, r)
}

// sameAfterRestart wants the snapshot of the state read and written again equal.
func sameAfterRestart(t *testing.T, r *replica) {
	t.Helper()
	var first, second bytes.Buffer
	if err := r.snap().Write(&first); err != nil {
		t.Fatal(err)
	}
	other, err := fsm.NewState()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Restore(bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := other.WriteSnapshot(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the state differs after a restart")
	}
}
