package dispatch

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// world is a cluster and its lane without I/O: rows that are acknowledged, an
// inventory that obeys, fails and forgets, and a worklist that is told of each
// change as a lane tells it.
type world struct {
	*worklist
	t       *rapid.T
	now     time.Time
	flaky   bool
	indexes uint64
}

func (w *world) set(id string, change func(u *pmpb.Unit)) {
	u := proto.CloneOf(w.units[id])
	change(u)
	w.indexes++
	u.ModifyIndex = w.indexes
	w.adopt(id, u)
	w.tell(id)
}

// tell looks at a unit and does what the lane does at once.
func (w *world) tell(id string) {
	switch w.look(id, w.now) {
	case acknowledge:
		w.set(id, acked)
	case lost:
		w.set(id, func(u *pmpb.Unit) { u.Ack = nil })
	case nothing, deploy, remove, clearFirst:
	}
}

// carryOut makes a call and tells its outcome.
func (w *world) carryOut(s step) {
	id := s.unit.GetId()
	if s.do != deploy && s.do != remove {
		w.t.Fatalf("a call that does %d", s.do)
	}
	defer w.tell(id)
	if w.flaky && rapid.Bool().Draw(w.t, "fails") {
		w.attempts[id] = &attempt{epoch: s.unit.GetEpoch(), fence: s.unit.GetFence(), failures: 1, notBefore: w.now.Add(time.Second)}
		return
	}
	if s.do == remove {
		delete(w.have, id)
		w.adopt(id, nil)
		return
	}
	w.have[id] = holdingOf(deliveryOf(s.unit, ""))
	w.set(id, acked)
}

// disturb changes something that the lane hears of.
func (w *world) disturb() {
	if len(w.units) == 0 {
		return
	}
	ids := make([]string, 0, len(w.units))
	for id := range w.units {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := rapid.SampledFrom(ids).Draw(w.t, "unit")
	switch rapid.IntRange(0, 3).Draw(w.t, "disturbance") {
	case 0:
		delete(w.have, id)
		w.tell(id)
	case 1:
		w.set(id, func(u *pmpb.Unit) { u.Fence++; u.ContentHash += "x" })
	case 2:
		w.set(id, func(u *pmpb.Unit) { u.Tombstone = true; u.Fence++ })
	case 3: // the session broke and came back
		have := w.have
		w.have = nil
		w.tell(id)
		w.have = have
		for id := range w.units {
			w.tell(id)
		}
	}
}

// TestConvergence: whatever happens, once the cluster obeys it ends with exactly
// what is wanted, and a quiet cluster is left alone (I6). The worklist sees only
// what changes, so a change that it forgets would leave something over.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{worklist: newWorklist(), t: t, now: time.Unix(0, 0), flaky: true, indexes: 100}
		w.have = inventory{}
		for i := range rapid.IntRange(0, 8).Draw(t, "units") {
			u := unit(uint64(i+1), "h")
			u.Id = fmt.Sprintf("u-%d", i)
			u.Tombstone = rapid.Bool().Draw(t, "tombstone")
			if rapid.Bool().Draw(t, "there") {
				w.have[u.Id] = holding{fenced: true, epoch: 1, fence: rapid.Uint64Range(0, u.Fence).Draw(t, "fence"), hash: "h"}
			}
			if rapid.Bool().Draw(t, "acked") {
				acked(u)
			}
			w.adopt(u.Id, u)
			w.tell(u.Id)
		}
		for turn := 0; ; turn++ {
			if turn > 200 {
				t.Fatal("no end")
			}
			w.flaky = turn < 20
			if w.flaky && rapid.IntRange(0, 2).Draw(t, "disturbed") == 0 {
				w.disturb()
			}
			room := rapid.IntRange(1, 3).Draw(t, "room")
			repairs := rapid.IntRange(1, room).Draw(t, "room for repairs")
			w.due(w.now)
			steps := w.take(room, repairs)
			if len(steps) > room {
				t.Fatalf("%d calls with room for %d", len(steps), room)
			}
			for _, s := range steps {
				if s.repair {
					repairs--
				}
			}
			if repairs < 0 {
				t.Fatalf("%d repairs too many in %v", -repairs, steps)
			}
			next := w.queue.next()
			for _, s := range steps {
				w.carryOut(s)
			}
			if len(steps) == 0 && next.IsZero() && !w.flaky {
				break
			}
			w.now = w.now.Add(time.Second)
		}
		for _, u := range w.units {
			if u.GetTombstone() || !w.have[u.GetId()].carries(u) {
				t.Fatalf("left over: %v", u)
			}
		}
		if w.open != 0 {
			t.Fatalf("%d units are counted as open", w.open)
		}
	})
}

func TestOneCallPerUnitInTheWorklist(t *testing.T) {
	w := newWorklist()
	w.have = inventory{}
	w.adopt("u-1", unit(5, "h"))
	w.attempts["u-1"] = &attempt{epoch: 1, fence: 5, inFlight: true}
	now := time.Unix(0, 0)
	w.look("u-1", now)
	w.adopt("u-1", unit(6, "i"))
	w.look("u-1", now)
	if steps := w.take(8, 8); len(steps) != 0 || !w.queue.next().IsZero() {
		t.Fatalf("a second call while one is in flight: %v, %v", steps, w.queue.next())
	}
	w.attempts["u-1"].inFlight = false
	w.look("u-1", now)
	if steps := w.take(8, 8); len(steps) != 1 || steps[0].unit.GetFence() != 6 {
		t.Fatalf("after the first call: %v", steps)
	}
}

// TestQueue holds the queue against a plain list of who waits since when.
func TestQueue(t *testing.T) {
	type waiting struct {
		kind  placeKind
		at    time.Time
		since int
	}
	rapid.Check(t, func(t *rapid.T) {
		q, model := newQueue(), map[string]waiting{}
		at := func() time.Time { return time.Unix(rapid.Int64Range(0, 5).Draw(t, "at"), 0) }
		first := func(than func(a, b waiting) bool, of func(waiting) bool) (best string) {
			for id, w := range model {
				if of(w) && (best == "" || than(w, model[best])) {
					best = id
				}
			}
			return best
		}
		passed := 0
		for i := range rapid.IntRange(1, 120).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "id")
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				fresh := rapid.Bool().Draw(t, "fresh")
				kind := placeRepair
				if fresh {
					kind = placeFresh
				}
				if have, ok := model[id]; !ok || have.kind != kind {
					model[id] = waiting{kind: kind, since: i}
				}
				q.put(id, fresh)
			case 2:
				when := at()
				q.putAt(id, when)
				model[id] = waiting{kind: placeLater, at: when, since: i}
			case 3:
				q.remove(id)
				delete(model, id)
			case 4:
				want := first(func(a, b waiting) bool { return a.kind < b.kind || a.kind == b.kind && a.since < b.since }, func(w waiting) bool { return w.kind != placeLater })
				repairs := rapid.Bool().Draw(t, "repairs may start")
				repair := first(func(a, b waiting) bool { return a.since < b.since }, func(w waiting) bool { return w.kind == placeRepair })
				switch {
				case !repairs && model[want].kind == placeRepair:
					want = ""
				case repairs && repair != "" && (want == repair || passed >= passes):
					want, passed = repair, 0
				case repairs && repair != "":
					passed++
				}
				got, isRepair, ok := q.pop(repairs)
				if got != want || ok != (want != "") || isRepair != (ok && model[got].kind == placeRepair) {
					t.Fatalf("pop gives %q, %v, want %q of %v", got, isRepair, want, model)
				}
				delete(model, got)
			}
			earliest := first(func(a, b waiting) bool { return a.at.Before(b.at) }, func(w waiting) bool { return w.kind == placeLater })
			ready := map[placeKind]int{}
			for _, w := range model {
				ready[w.kind]++
			}
			if got, want := q.ready(1), ready[placeFresh]+min(ready[placeRepair], 1); got != want {
				t.Fatalf("%d may start, want %d of %v", got, want, model)
			}
			if want := model[earliest].at; !q.next().Equal(want) {
				t.Fatalf("next is %v, want %v", q.next(), want)
			}
		}
		for {
			id, ok := q.popDue(time.Unix(3, 0))
			if !ok {
				break
			}
			if w := model[id]; w.kind != placeLater || w.at.After(time.Unix(3, 0)) {
				t.Fatalf("%q came due: %v", id, w)
			}
			delete(model, id)
		}
		for id, w := range model {
			if w.kind == placeLater && !w.at.After(time.Unix(3, 0)) {
				t.Fatalf("%q did not come due: %v", id, w)
			}
		}
	})
}

// TestUsersComeFirst: what somebody has changed is sent before what is sent again.
func TestUsersComeFirst(t *testing.T) {
	now := time.Unix(0, 0)
	w := newWorklist()
	w.have = inventory{}
	give := func(id string, edit ...func(*pmpb.Unit)) {
		u := unit(5, "h", edit...)
		u.Id = id
		w.adopt(id, u)
		w.look(id, now)
	}
	failed := func(id string) { w.attempts[id] = &attempt{epoch: 1, fence: 5, failures: 1} }
	outdated := func(u *pmpb.Unit) { u.Ack = &pmpb.Ack{Epoch: 1, Fence: 4, ContentHash: "g"} }
	waiting := func(code string) func(*pmpb.Unit) {
		return func(u *pmpb.Unit) { u.Waiting = &pmpb.Waiting{Code: code, Permanent: code == WaitRefused} }
	}
	failed("again")
	give("again")
	give("lost", waiting(fsm.WaitingLost))
	give("refused", waiting(WaitRefused)) // by an earlier leader's word
	w.have["mismatch"] = holding{fenced: true, epoch: 1, fence: 9}
	give("mismatch", acked)
	give("new")
	give("changed", outdated)
	give("removed", acked, buried)
	give("changed while the cluster was away", outdated, waiting(WaitUnreachable))
	var order []string
	for steps := w.take(4, 1); len(steps) > 0; steps = w.take(4, 1) {
		for _, s := range steps {
			order = append(order, s.unit.GetId())
		}
	}
	want := []string{"new", "changed", "removed", "changed while the cluster was away", "again", "lost", "refused", "mismatch"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// TestRedelivery: a wish that the cluster confirms and loses is sent again at once, and
// then with pauses that grow; a new wish, and a confirmation that held, start afresh.
func TestRedelivery(t *testing.T) {
	const least, most = time.Second, time.Minute
	now := time.Unix(1000, 0)
	a := &attempt{epoch: 1, fence: 5}
	var last time.Duration
	for i := range 12 {
		a.confirm(now, least, most)
		pause := max(a.earliest().Sub(now), 0)
		switch {
		case i == 0 && pause != 0:
			t.Errorf("the first loss waits %s", pause)
		case i > 0 && (pause < min(least<<(i-1), most)/2 || pause > most):
			t.Errorf("loss %d waits %s", i, pause)
		}
		last = pause
		now = now.Add(pause)
	}
	if last < most/2 {
		t.Errorf("in the end %s", last)
	}
	now = now.Add(steady + time.Second)
	if a.confirm(now, least, most); a.earliest().After(now) {
		t.Errorf("after a confirmation that held it waits %s", a.earliest().Sub(now))
	}
	a.notBefore = now.Add(time.Hour)
	if !a.earliest().Equal(a.notBefore) {
		t.Error("the pause after a failure is not kept")
	}
}
