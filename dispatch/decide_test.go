package dispatch

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

func unit(fence uint64, hash string, edit ...func(*pmpb.Unit)) *pmpb.Unit {
	u := &pmpb.Unit{Id: "u-1", Epoch: 1, Fence: fence, ContentHash: hash}
	for _, e := range edit {
		e(u)
	}
	return u
}

func acked(u *pmpb.Unit) {
	u.Ack = &pmpb.Ack{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash()}
}

func buried(u *pmpb.Unit) { u.Tombstone = true }

func reported(d *oaaspb.Delivery) inventory {
	return inventory{"u-1": {DeploymentUnitId: "u-1", Delivery: d}}
}

func TestWanted(t *testing.T) {
	same := &oaaspb.Delivery{Epoch: 1, Fence: 5, ContentHash: "h"}
	tests := map[string]struct {
		unit *pmpb.Unit
		have inventory
		want action
	}{
		"new unit":                                {unit(5, "h"), inventory{}, deploy},
		"the cluster has it, the state knows":     {unit(5, "h", acked), reported(same), nothing},
		"the cluster has it, new leader":          {unit(5, "h"), reported(same), acknowledge},
		"older fence in the cluster":              {unit(6, "h"), reported(same), deploy},
		"other content under the same fence":      {unit(5, "x"), reported(same), deploy},
		"older epoch in the cluster":              {unit(5, "h", func(u *pmpb.Unit) { u.Epoch = 2 }), reported(same), deploy},
		"acknowledged but not there":              {unit(5, "h", acked), inventory{}, lost},
		"acknowledged, manager without delivery":  {unit(5, "h", acked), reported(nil), nothing},
		"not acknowledged, without delivery":      {unit(5, "h"), reported(nil), deploy},
		"changed since the acknowledgement":       {unit(6, "h", func(u *pmpb.Unit) { u.Ack = &pmpb.Ack{Epoch: 1, Fence: 5, ContentHash: "g"} }), reported(nil), deploy},
		"tombstone of a runtime that is there":    {unit(5, "h", buried), reported(same), remove},
		"tombstone of a runtime that is not here": {unit(5, "h", buried, acked), inventory{}, remove},
	}
	for name, tc := range tests {
		if got := wanted(tc.unit, tc.have); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestConvergence plays a cluster that obeys, fails and forgets: whatever
// happens, once it obeys it ends with exactly what is wanted, and a quiet
// cluster is left alone (I6).
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		have := inventory{}
		attempts := map[string]*attempt{}
		var units []*pmpb.Unit
		for i := range rapid.IntRange(0, 8).Draw(t, "units") {
			u := unit(uint64(i+1), "h")
			u.Id = fmt.Sprintf("u-%d", i)
			u.Tombstone = rapid.Bool().Draw(t, "tombstone")
			if rapid.Bool().Draw(t, "there") {
				have[u.Id] = &oaaspb.ClassRuntimeSummary{DeploymentUnitId: u.Id, Delivery: &oaaspb.Delivery{
					Epoch: 1, Fence: rapid.Uint64Range(0, u.Fence).Draw(t, "fence"), ContentHash: "h",
				}}
			}
			if rapid.Bool().Draw(t, "acked") {
				acked(u)
			}
			units = append(units, u)
		}
		for turn := 0; ; turn++ {
			if turn > 100 {
				t.Fatal("no end")
			}
			room := rapid.IntRange(1, 3).Draw(t, "room")
			steps, next := due(units, have, attempts, room, now)
			calls := 0
			for _, s := range steps {
				id := s.unit.GetId()
				switch s.do {
				case nothing:
					t.Fatal("a step that does nothing")
				case acknowledge:
					acked(s.unit)
				case lost:
					s.unit.Ack = nil
				case deploy, remove:
					calls++
					if turn < 20 && rapid.Bool().Draw(t, "fails") {
						attempts[id] = &attempt{epoch: 1, fence: s.unit.GetFence(), failures: 1, notBefore: now.Add(time.Second)}
						continue
					}
					if s.do == remove {
						delete(have, id)
						units = without(units, id)
						continue
					}
					have[id] = &oaaspb.ClassRuntimeSummary{DeploymentUnitId: id, Delivery: deliveryOf(s.unit, "")}
					acked(s.unit)
				}
			}
			if calls > room {
				t.Fatalf("%d calls with room for %d", calls, room)
			}
			if len(steps) == 0 && next.IsZero() {
				break
			}
			now = now.Add(time.Second)
		}
		for _, u := range units {
			if u.GetTombstone() || !carries(have[u.GetId()].GetDelivery(), u) {
				t.Fatalf("left over: %v", u)
			}
		}
	})
}

func without(units []*pmpb.Unit, id string) (out []*pmpb.Unit) {
	for _, u := range units {
		if u.GetId() != id {
			out = append(out, u)
		}
	}
	return out
}

func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1000).Draw(t, "failures")
		got := backoff(n, 200*time.Millisecond, 15*time.Second)
		if got < 100*time.Millisecond || got > 15*time.Second {
			t.Fatalf("backoff(%d) = %s", n, got)
		}
		if n > 10 && got < 7*time.Second {
			t.Fatalf("backoff(%d) = %s did not reach the ceiling", n, got)
		}
	})
}
