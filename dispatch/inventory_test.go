package dispatch

import (
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

func TestFraming(t *testing.T) {
	up := &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Upserted{Upserted: &oaaspb.ClassRuntimeSummary{}}}
	gone := &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Removed{Removed: &oaaspb.RuntimeRemoved{}}}
	beat := &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_Heartbeat{Heartbeat: &oaaspb.Heartbeat{}}}
	newer := &oaaspb.RuntimeEvent{}
	end := func(count uint32) *oaaspb.RuntimeEvent {
		return &oaaspb.RuntimeEvent{Event: &oaaspb.RuntimeEvent_InventoryComplete{InventoryComplete: &oaaspb.InventoryComplete{Count: count}}}
	}
	for name, c := range map[string]struct {
		events []*oaaspb.RuntimeEvent
		breach bool
	}{
		"empty":                       {[]*oaaspb.RuntimeEvent{end(0)}, false},
		"inventory and changes":       {[]*oaaspb.RuntimeEvent{up, up, end(2), up, gone, beat}, false},
		"heartbeat in the inventory":  {[]*oaaspb.RuntimeEvent{beat, up, beat, end(1)}, false},
		"removal in the inventory":    {[]*oaaspb.RuntimeEvent{up, gone, end(1)}, false},
		"event of a newer manager":    {[]*oaaspb.RuntimeEvent{newer, up, newer, end(1), newer}, false},
		"ends twice":                  {[]*oaaspb.RuntimeEvent{up, end(1), up, end(2)}, true},
		"one is missing":              {[]*oaaspb.RuntimeEvent{up, end(2)}, true},
		"one is too many":             {[]*oaaspb.RuntimeEvent{up, up, end(1)}, true},
		"changes do not count for it": {[]*oaaspb.RuntimeEvent{up, end(1), up, up}, false},
	} {
		var f framing
		var err error
		for _, e := range c.events {
			if err = f.next(e); err != nil {
				break
			}
		}
		if (err != nil) != c.breach {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHolding(t *testing.T) {
	hash := strings.Repeat("a", maxHash)
	u := unit(5, hash)
	for name, c := range map[string]struct {
		delivery *oaaspb.Delivery
		want     bool
	}{
		"the wish":                 {&oaaspb.Delivery{Epoch: 1, Fence: 5, ContentHash: hash}, true},
		"without a delivery":       {nil, false},
		"another content":          {&oaaspb.Delivery{Epoch: 1, Fence: 5, ContentHash: "b"}, false},
		"a content without an end": {&oaaspb.Delivery{Epoch: 1, Fence: 5, ContentHash: hash + hash}, false},
		"a later change":           {&oaaspb.Delivery{Epoch: 1, Fence: 6, ContentHash: hash}, false},
		"another epoch":            {&oaaspb.Delivery{Epoch: 2, Fence: 5, ContentHash: hash}, false},
	} {
		if got := holdingOf(c.delivery).carries(u); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, c := range []struct {
		a, b holding
		want bool
	}{
		{holding{epoch: 1, fence: 5}, holding{epoch: 1, fence: 5}, true},
		{holding{epoch: 1, fence: 6}, holding{epoch: 1, fence: 5}, false},
		{holding{epoch: 1, fence: 6}, holding{epoch: 2, fence: 5}, true},
		{holding{epoch: 2, fence: 1}, holding{epoch: 1, fence: 5}, false},
	} {
		if got := c.a.upTo(c.b); got != c.want {
			t.Errorf("%+v up to %+v: %v", c.a, c.b, got)
		}
	}
}

// TestUnknownRuntimesCostNothing: a manager can name any number of runtimes.
func TestUnknownRuntimesCostNothing(t *testing.T) {
	l := &lane{work: newWorklist(), intake: bucket{tokens: 1e6}, opts: &Options{Now: time.Now}}
	l.work.adopt("mine", &pmpb.Unit{Id: "mine", Fence: 1})
	l.arriving = &arrival{inventory: inventory{}}
	for range 10_000 {
		l.take(nil, report{upserted: &oaaspb.ClassRuntimeSummary{DeploymentUnitId: "unknown", CreatedAt: "long"}})
	}
	if len(l.arriving.inventory) != 0 || l.arriving.unknown != 10_000 {
		t.Errorf("%d kept, %d counted", len(l.arriving.inventory), l.arriving.unknown)
	}
}
