package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

func updateOf(id string, kind updateKind, serial uint64, padding int) *pmpb.UnitUpdate {
	u := &pmpb.UnitUpdate{Id: id, Fence: serial}
	switch kind {
	case updateAcked:
		u.Update = &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{ContentHash: strings.Repeat("x", padding)}}
	case updateRuntime:
		u.Update = &pmpb.UnitUpdate_Runtime{Runtime: &oaaspb.ClassRuntimeSummary{CreatedAt: strings.Repeat("x", padding)}}
	case updateWaiting:
		u.Update = &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{Message: strings.Repeat("x", padding)}}
	case updateLost:
		u.Update = &pmpb.UnitUpdate_Lost{Lost: &pmpb.Lost{Message: strings.Repeat("x", padding)}}
	case updateGone:
		u.Update = &pmpb.UnitUpdate_Gone{Gone: &pmpb.Gone{}}
	}
	return u
}

// TestBacklog holds the backlog against a plain list of the newest update of each
// kind of each unit: all of them come out once, a unit's in the order in which they
// came, in batches that are small, and no more than there are tokens for.
func TestBacklog(t *testing.T) {
	type slot struct {
		id   string
		kind updateKind
	}
	rapid.Check(t, func(t *rapid.T) {
		b := newBacklog()
		l := limit{burst: float64(rapid.IntRange(1, 60).Draw(t, "burst")), rate: float64(rapid.IntRange(1, 60).Draw(t, "rate"))}
		now := time.Unix(1000, 0)
		pending := map[slot]uint64{}
		given, last := 0.0, map[string]uint64{}
		var serial uint64
		take := func() bool {
			batch, wait := b.offer(l, now)
			again, _ := b.offer(l, now)
			if len(again) != len(batch) {
				t.Fatal("what is offered changes before it is taken")
			}
			if len(batch) == 0 {
				if wait == 0 && len(pending) > 0 {
					t.Fatalf("nothing is offered, nor when, of %v", pending)
				}
				now = now.Add(wait)
				return false
			}
			size := 0
			for _, u := range batch {
				s := slot{u.GetId(), kindOf(u)}
				if pending[s] != u.GetFence() {
					t.Fatalf("%v came out as %d, want %d", s, u.GetFence(), pending[s])
				}
				if u.GetFence() < last[s.id] {
					t.Fatalf("%s: %d after %d", s.id, u.GetFence(), last[s.id])
				}
				last[s.id] = u.GetFence()
				delete(pending, s)
				size += proto.Size(u)
				given++
			}
			// The last unit may have one of each kind.
			if len(batch) >= batchUpdates+5 || size >= batchBytes+5*(3<<10) {
				t.Fatalf("a batch of %d updates and %d bytes", len(batch), size)
			}
			b.handedOver()
			return true
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "ms")) * time.Millisecond)
			case 1:
				take()
			default:
				serial++
				s := slot{fmt.Sprintf("u-%d", rapid.IntRange(0, 40).Draw(t, "unit")), updateKind(rapid.IntRange(0, int(updateGone)).Draw(t, "kind"))}
				b.add(updateOf(s.id, s.kind, serial, rapid.SampledFrom([]int{0, 2 << 10}).Draw(t, "padding")))
				pending[s] = serial
			}
		}
		if most := l.burst + l.rate*now.Sub(time.Unix(1000, 0)).Seconds() + 5; given > most {
			t.Fatalf("%v updates with tokens for %v", given, most)
		}
		for turns := 0; len(pending) > 0; turns++ {
			if turns > 10_000 {
				t.Fatalf("never handed over: %v", pending)
			}
			take()
		}
		if b.bytes != 0 || len(b.waiting) != 0 || b.full() {
			t.Fatalf("empty, but holds %d bytes of %d units", b.bytes, len(b.waiting))
		}
	})
}

// TestBacklogIsBounded: a cluster that changes its mind without end takes no more
// room than one that does so once, and is not listened to when it has filled it.
func TestBacklogIsBounded(t *testing.T) {
	b := newBacklog()
	for i := range 100_000 {
		b.add(updateOf(fmt.Sprintf("u-%d", i%10), updateRuntime, uint64(i), 100))
	}
	if len(b.order) != 10 || b.full() {
		t.Errorf("%d places, %d bytes", len(b.order), b.bytes)
	}
	units := 0
	for ; !b.full(); units++ {
		b.add(updateOf(fmt.Sprintf("v-%d", units), updateRuntime, 1, 60<<10))
	}
	if units > backlogBytes/(60<<10)+1 {
		t.Errorf("full only after %d units", units)
	}
}
