package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

func at(name, uid string, version int, removed bool) change {
	object := &v1alpha1.ClassRuntime{}
	object.Name, object.UID, object.ResourceVersion = name, types.UID(uid), fmt.Sprint(version)
	return change{object: object, removed: removed}
}

func TestSlowReaderGetsTheLatestOfEach(t *testing.T) {
	h := newHub(2)
	s := h.subscribe()
	defer h.unsubscribe(s)
	for version := range 1000 {
		h.publish(at("a", "1", version, false))
		h.publish(at("b", "2", version, version == 999))
	}
	changes, err := s.take()
	if err != nil || len(changes) != 2 || changes[0].object.ResourceVersion != "999" || !changes[1].removed {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	h.publish(at("a", "1", 1000, false))
	h.publish(at("b", "2", 1000, false))
	h.publish(at("c", "3", 1000, false))
	if _, err := s.take(); !errors.Is(err, errSlow) {
		t.Errorf("err = %v, want errSlow", err)
	}
}

func TestLedgerNeverGoesBack(t *testing.T) {
	l := newLedger()
	for i, step := range []struct {
		change change
		admit  bool
	}{
		{at("a", "new", 10, false), true},  // inventory: the object was made again
		{at("a", "old", 8, false), false},  // the informer is behind
		{at("a", "old", 9, true), false},   // the end of the earlier object
		{at("a", "new", 10, false), false}, // known already
		{at("a", "new", 11, false), true},
		{at("a", "new", 12, true), true},
		{at("a", "third", 13, false), true},
	} {
		if got := l.admit(step.change); got != step.admit {
			t.Errorf("step %d: admit = %v", i, got)
		}
	}
}

// An informer that lags behind the inventory tells of objects that were gone by
// then: to the reader, a unit whose removal it has confirmed would come back.
func TestInventoryIsNotOvertakenByThePast(t *testing.T) {
	l := newLedger()
	l.admit(at("here", "1", 10, false))
	l.listed = 20
	for i, step := range []struct {
		change change
		admit  bool
	}{
		{at("gone", "2", 15, false), false}, // was deleted at 18
		{at("gone", "2", 18, true), true},   // says nothing wrong
		{at("here", "1", 20, false), false},
		{at("here", "1", 10, true), true}, // a deletion that the informer missed has the last known version
		{at("later", "3", 21, false), true},
	} {
		if got := l.admit(step.change); got != step.admit {
			t.Errorf("step %d: admit = %v", i, got)
		}
	}
}

// Whatever is published in whatever interleaving with reads, a reader that reads
// to the end knows the last state of every object.
func TestCoalescingKeepsTheLastState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHub(10)
		s := h.subscribe()
		last, got := map[string]string{}, map[string]string{}
		read := func() {
			changes, err := s.take()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				got[c.object.Name] = c.object.ResourceVersion
			}
		}
		for version := range rapid.IntRange(0, 50).Draw(t, "changes") {
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
			h.publish(at(name, name, version, false))
			last[name] = fmt.Sprint(version)
			if rapid.Bool().Draw(t, "read") {
				read()
			}
		}
		read()
		if diff := cmp.Diff(last, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAgentStateIsBounded(t *testing.T) {
	state, err := decodeState("")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_000_000, 0)
	for i := range maxTombstones + 10 {
		state.add(tombstone{
			UnitID: strings.Repeat("u", 55) + fmt.Sprint(i), ControlPlane: strings.Repeat("c", 36),
			order: order{Epoch: 1, Fence: uint64(i)}, DeletedAt: now.Unix(),
		})
	}
	state.prune(now)
	if len(state.Tombstones) != maxTombstones {
		t.Errorf("%d tombstones", len(state.Tombstones))
	}
	text, err := state.encode()
	if err != nil || len(text) > maxStateBytes {
		t.Errorf("%d bytes (%v)", len(text), err)
	}
	again, err := decodeState(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state, again, cmp.AllowUnexported(agentState{}, tombstone{}, order{})); diff != "" {
		t.Error(diff)
	}
	state.prune(now.Add(tombstoneTTL + time.Second))
	if len(state.Tombstones) != 0 {
		t.Errorf("%d tombstones outlived their time", len(state.Tombstones))
	}
	if high := state.HighWater[strings.Repeat("c", 36)]; high.Fence != maxTombstones+9 {
		t.Errorf("high water %v", high)
	}
	if _, err := decodeState(`{"version":2}`); err == nil {
		t.Error("a state of a later version was read")
	}
}

func TestOlderTombstoneDoesNotReplaceANewer(t *testing.T) {
	state, err := decodeState("")
	if err != nil {
		t.Fatal(err)
	}
	newer := tombstone{UnitID: "u", ControlPlane: "c", order: order{Epoch: 1, Fence: 5}}
	older := tombstone{UnitID: "u", ControlPlane: "c", order: order{Epoch: 1, Fence: 4}}
	if !state.add(newer) || state.add(older) || state.add(newer) {
		t.Error("add reports the wrong changes")
	}
	if got, _ := state.find("u", "c"); got != newer {
		t.Errorf("found %v", got)
	}
	if _, found := state.find("u", "other"); found {
		t.Error("a tombstone of another control plane counts")
	}
}

// Control planes that come and go, each with the longest identity, leave room for
// the tombstones of the others.
func TestControlPlanesDoNotFillTheState(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	state, err := decodeState("")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		plane := fmt.Sprintf("%0*d", maxIdentity, i)
		state.add(tombstone{UnitID: "u", ControlPlane: plane, order: order{Epoch: 1, Fence: 1}, DeletedAt: now.Unix()})
		if i%1000 == 999 {
			state.prune(now)
		}
	}
	text, err := state.encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > maxStateBytes || len(state.Tombstones) < maxTombstones/8 {
		t.Errorf("%d bytes hold %d tombstones", len(text), len(state.Tombstones))
	}
}
