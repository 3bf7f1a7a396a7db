package dispatch

import (
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
	return inventory{"u-1": holdingOf(d)}
}

func TestWanted(t *testing.T) {
	same := &oaaspb.Delivery{Epoch: 1, Fence: 5, ContentHash: "h"}
	tests := map[string]struct {
		unit *pmpb.Unit
		have inventory
		mute bool
		want action
	}{
		"new unit":                                {unit(5, "h"), inventory{}, false, deploy},
		"the cluster has it, the state knows":     {unit(5, "h", acked), reported(same), false, nothing},
		"the cluster has it, new leader":          {unit(5, "h"), reported(same), false, acknowledge},
		"older fence in the cluster":              {unit(6, "h"), reported(same), false, deploy},
		"other content under the same fence":      {unit(5, "x"), reported(same), false, deploy},
		"older epoch in the cluster":              {unit(5, "h", func(u *pmpb.Unit) { u.Epoch = 2 }), reported(same), false, deploy},
		"acknowledged but not there":              {unit(5, "h", acked), inventory{}, false, lost},
		"acknowledged, manager without delivery":  {unit(5, "h", acked), reported(nil), false, nothing},
		"not acknowledged, without delivery":      {unit(5, "h"), reported(nil), true, clearFirst},
		"changed since the acknowledgement":       {unit(6, "h", func(u *pmpb.Unit) { u.Ack = &pmpb.Ack{Epoch: 1, Fence: 5, ContentHash: "g"} }), reported(nil), true, clearFirst},
		"tombstone of a runtime that is there":    {unit(5, "h", buried), reported(same), false, remove},
		"tombstone of a runtime that is not here": {unit(5, "h", buried, acked), inventory{}, false, remove},
		"made by hand":                            {unit(5, "h"), reported(nil), false, deploy},
	}
	for name, tc := range tests {
		if got := wanted(tc.unit, tc.have, tc.mute); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
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
