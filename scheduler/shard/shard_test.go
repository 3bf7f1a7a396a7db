package shard_test

import (
	"math/rand"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/shard"
)

func a(primary uint64, replica, ids []uint64) shard.Assignment {
	return shard.Assignment{Primary: primary, Replica: replica, ShardIDs: ids}
}

// The contract's vectors S1 to S6.
func TestVectors(t *testing.T) {
	type ids = []uint64
	for _, tc := range []struct {
		name                 string
		partitions, replicas int
		members              ids
		want                 []shard.Assignment
	}{
		{"S1", 1, 1, ids{7}, []shard.Assignment{a(1, ids{7}, ids{1})}},
		{"S2", 3, 2, ids{10, 20, 30}, []shard.Assignment{
			a(1, ids{10, 20}, ids{1, 2}), a(3, ids{20, 30}, ids{3, 4}), a(5, ids{30, 10}, ids{5, 6}),
		}},
		{"S3", 4, 3, ids{10, 20, 30}, []shard.Assignment{
			a(1, ids{10, 20, 30}, ids{1, 2, 3}), a(4, ids{20, 30, 10}, ids{4, 5, 6}),
			a(7, ids{30, 10, 20}, ids{7, 8, 9}), a(10, ids{10, 20, 30}, ids{10, 11, 12}),
		}},
		{"S4", 5, 2, ids{10, 20, 30}, []shard.Assignment{
			a(1, ids{10, 20}, ids{1, 2}), a(3, ids{20, 30}, ids{3, 4}), a(5, ids{30, 10}, ids{5, 6}),
			a(7, ids{10, 20}, ids{7, 8}), a(9, ids{20, 30}, ids{9, 10}),
		}},
		{"S5", 2, 3, ids{10, 20}, []shard.Assignment{
			a(1, ids{10, 20, 10}, ids{1, 2, 3}), a(4, ids{20, 10, 20}, ids{4, 5, 6}),
		}},
		{"S6 no partition", 0, 1, ids{1}, nil},
		{"S6 no replica", 1, 0, ids{1}, nil},
		{"S6 no member", 1, 1, nil, nil},
		{"negative", -1, -1, ids{1}, nil},
		{"unsorted and repeated members", 2, 1, ids{20, 10, 20}, []shard.Assignment{
			a(1, ids{10}, ids{1}), a(2, ids{20}, ids{2}),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, shard.Assign(tc.partitions, tc.replicas, tc.members)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// literal follows the wording of the rule instead of its effect.
func literal(partitions, replicas int, members []uint64) []shard.Assignment {
	primaries := make([]int, len(members))
	counter := uint64(0)
	var out []shard.Assignment
	for range partitions {
		x := slices.Index(primaries, slices.Min(primaries))
		primaries[x]++
		var entry shard.Assignment
		for i := range replicas {
			counter++
			entry.Replica = append(entry.Replica, members[(x+i)%len(members)])
			entry.ShardIDs = append(entry.ShardIDs, counter)
		}
		entry.Primary = entry.ShardIDs[0]
		out = append(out, entry)
	}
	return out
}

func TestEqualsTheLiteralRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfNDistinct(rapid.Uint64(), 1, 9, rapid.ID).Draw(t, "members")
		slices.Sort(members)
		p := rapid.IntRange(1, 40).Draw(t, "partitions")
		r := rapid.IntRange(1, 12).Draw(t, "replicas")
		want := literal(p, r, members)
		shuffled := slices.Clone(members)
		rand.New(rand.NewSource(int64(p))).Shuffle(len(shuffled), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		before := slices.Clone(shuffled)
		if diff := cmp.Diff(want, shard.Assign(p, r, shuffled)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		if !slices.Equal(before, shuffled) {
			t.Fatal("the caller's members were changed")
		}
	})
}

// What callers rely on, whatever the rule is: ids without a gap, a fair share of the
// partitions for every member, and no member twice before all had a replica.
func TestTableIsFairAndNumberedWithoutAGap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfN(rapid.Uint64Range(0, 20), 1, 12).Draw(t, "members")
		p := rapid.IntRange(1, 60).Draw(t, "partitions")
		r := rapid.IntRange(1, 12).Draw(t, "replicas")
		distinct := map[uint64]bool{}
		for _, m := range members {
			distinct[m] = true
		}
		first := map[uint64]int{}
		next := uint64(1)
		for i, entry := range shard.Assign(p, r, members) {
			if len(entry.Replica) != r || len(entry.ShardIDs) != r || entry.Primary != entry.ShardIDs[0] {
				t.Fatalf("partition %d: %+v", i, entry)
			}
			for _, id := range entry.ShardIDs {
				if id != next {
					t.Fatalf("partition %d: id %d, want %d", i, id, next)
				}
				next++
			}
			first[entry.Replica[0]]++
			around := map[uint64]bool{}
			for _, owner := range entry.Replica[:min(r, len(distinct))] {
				if !distinct[owner] || around[owner] {
					t.Fatalf("partition %d: owners %v of %v", i, entry.Replica, members)
				}
				around[owner] = true
			}
		}
		if next != uint64(p*r)+1 {
			t.Fatalf("%d ids for %d partitions of %d replicas", next-1, p, r)
		}
		for m := range distinct {
			if n := first[m]; n < p/len(distinct) || n > (p+len(distinct)-1)/len(distinct) {
				t.Fatalf("member %d owns %d of %d partitions first, of %d members", m, n, p, len(distinct))
			}
		}
	})
}
