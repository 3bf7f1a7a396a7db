package scheduler

import (
	"math/rand"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A change of these would move the data of every deployment.
func TestNodeIDIsStable(t *testing.T) {
	got := map[string]uint64{
		"cloud": NodeID("6f1c", "cloud"),
		"edge":  NodeID("6f1c", "edge"),
		"":      NodeID("", ""),
	}
	want := map[string]uint64{"cloud": 1085453125, "edge": 3563453573, "": 393142149}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNodeIDSeparatesItsFields(t *testing.T) {
	if NodeID("ab", "c") == NodeID("a", "bc") {
		t.Error("the border between the fields does not count")
	}
}

func TestNodeIDsAreDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uid := rapid.String().Draw(t, "uid")
		envs := rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,3}`), 0, 40).Draw(t, "envs")
		ids := NodeIDs(uid, envs)
		seen := map[uint64]bool{}
		for _, env := range envs {
			id, ok := ids[env]
			if !ok || id == 0 || id>>32 != 0 {
				t.Fatalf("%q has id %d", env, id)
			}
			seen[id] = true
		}
		if len(seen) != len(ids) {
			t.Fatalf("ids are not distinct: %v", ids)
		}
		shuffled := slices.Clone(envs)
		rand.New(rand.NewSource(1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(ids, NodeIDs(uid, shuffled)); diff != "" {
			t.Fatalf("the order matters:\n%s", diff)
		}
	})
}

func TestCollisionsAreResolvedInOrderOfNames(t *testing.T) {
	// Everything collides at first, and the second attempt of one with the
	// second of another.
	got := distinct([]string{"c", "a", "b"}, func(_ string, attempt uint32) uint32 { return 7 + attempt })
	want := map[string]uint64{"a": 7, "b": 8, "c": 9}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPercentNeverRoundsUpToCertainty(t *testing.T) {
	for p, want := range map[float64]string{
		0: "0 %", 0.5: "50 %", 0.855: "85.5 %", 0.99: "99 %", 0.9801: "98.01 %", 0.999: "99.9 %", 0.99999: "99.999 %", 1: "100 %",
		0.999999999: "99.9999999 %", 0.9999999999999999: "99.999999999999986 %",
	} {
		if got := percent(p); got != want {
			t.Errorf("percent(%v) = %q, want %q", p, got, want)
		}
	}
}
