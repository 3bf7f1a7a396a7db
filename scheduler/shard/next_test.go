package shard_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/scheduler/shard"
)

func TestNext(t *testing.T) {
	type ids = []uint64
	three := shard.Assign(2, 3, ids{10, 20, 30})
	four := []shard.Assignment{a(1, ids{10, 20, 30, 15}, ids{1, 2, 3, 7}), a(4, ids{20, 30, 10, 15}, ids{4, 5, 6, 8})}
	for _, tc := range []struct {
		name                 string
		last                 []shard.Assignment
		partitions, replicas int
		members              ids
		used                 uint64
		want                 []shard.Assignment
	}{
		{"the first", nil, 2, 3, ids{10, 20, 30}, 0, three},
		{"nothing changes", three, 2, 3, ids{30, 20, 10}, 0, three},
		{"one joins", three, 2, 4, ids{10, 15, 20, 30}, 0, four},
		{"then one leaves", four, 2, 3, ids{10, 15, 20}, 0, []shard.Assignment{
			a(1, ids{10, 20, 15}, ids{1, 2, 7}), a(4, ids{20, 10, 15}, ids{4, 6, 8}),
		}},
		{"the first one leaves", four, 2, 3, ids{15, 20, 30}, 0, []shard.Assignment{
			a(2, ids{20, 30, 15}, ids{2, 3, 7}), a(4, ids{20, 30, 15}, ids{4, 5, 8}),
		}},
		{"a number is never given twice", three, 2, 3, ids{10, 20, 40}, 9, []shard.Assignment{
			a(1, ids{10, 20, 40}, ids{1, 2, 10}), a(4, ids{20, 10, 40}, ids{4, 6, 11}),
		}},
		{"one takes the place of one", shard.Assign(3, 2, ids{10, 20, 30}), 3, 2, ids{10, 20, 40}, 0, []shard.Assignment{
			a(1, ids{10, 20}, ids{1, 2}), a(3, ids{20, 40}, ids{3, 7}), a(6, ids{10, 40}, ids{6, 8}),
		}},
		{"one without a share gets one", shard.Assign(3, 2, ids{10, 20}), 3, 2, ids{10, 20, 30}, 0, []shard.Assignment{
			a(1, ids{10, 30}, ids{1, 7}), a(3, ids{20, 30}, ids{3, 8}), a(5, ids{10, 20}, ids{5, 6}),
		}},
		{"the only replica does not move", shard.Assign(3, 1, ids{10}), 3, 1, ids{10, 20}, 0, shard.Assign(3, 1, ids{10})},
		{"no node twice while another has none", shard.Assign(1, 3, ids{10}), 1, 3, ids{10, 20, 30}, 0, []shard.Assignment{
			a(1, ids{10, 30, 20}, ids{1, 5, 4}),
		}},
		{"more partitions", shard.Assign(1, 2, ids{10, 20}), 2, 2, ids{10, 20}, 0, []shard.Assignment{
			a(1, ids{10, 20}, ids{1, 2}), a(3, ids{10, 20}, ids{3, 4}),
		}},
		{"fewer replicas", three, 2, 1, ids{10, 20, 30}, 0, []shard.Assignment{a(1, ids{10}, ids{1}), a(4, ids{20}, ids{4})}},
		{"nobody", three, 2, 1, nil, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, shard.Next(tc.last, tc.partitions, tc.replicas, tc.members, tc.used)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Whatever becomes of the members and the counts: a number stays with its owner and its
// partition until it ends, and is never given again; each partition has what it is to have;
// nobody has two of a partition while a member has none; and what does not change leaves the
// table as it is.
func TestNumbersOfShardsStay(t *testing.T) {
	type place struct {
		partition int
		owner     uint64
	}
	rapid.Check(t, func(t *rapid.T) {
		var last []shard.Assignment
		ever, used := map[uint64]place{}, uint64(0)
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			members := rapid.SliceOfNDistinct(rapid.Uint64Range(1, 9), 1, 7, rapid.ID).Draw(t, "members")
			p, r := rapid.IntRange(1, 6).Draw(t, "partitions"), rapid.IntRange(1, 5).Draw(t, "replicas")
			next := shard.Next(last, p, r, members, used)
			for i, entry := range next {
				checkEntry(t, entry, r, members)
				for k, id := range entry.ShardIDs {
					here := place{i, entry.Replica[k]}
					if before, known := ever[id]; known && (before != here || id > used || !has(last, i, id)) {
						t.Fatalf("shard %d was in %v and is in %v", id, before, here)
					}
					ever[id] = here
				}
			}
			for _, entry := range next {
				used = max(used, slices.Max(entry.ShardIDs))
			}
			for last = next; ; last = next { // newcomers may have to wait for their turn
				if next = shard.Next(last, p, r, members, used); cmp.Equal(last, next) {
					break
				}
				for i := range next {
					if gone := missing(last[i], next[i]); gone > max((r-1)/2, 1) || r == 1 && gone > 0 {
						t.Fatalf("partition %d changes %d of %d for nothing", i, gone, r)
					}
					for k, id := range next[i].ShardIDs {
						ever[id], used = place{i, next[i].Replica[k]}, max(used, id)
					}
				}
			}
		}
	})
}

func checkEntry(t *rapid.T, entry shard.Assignment, replicas int, members []uint64) {
	if len(entry.Replica) != replicas || len(entry.ShardIDs) != replicas || !slices.Contains(entry.ShardIDs, entry.Primary) {
		t.Fatalf("%d replicas are wanted: %+v", replicas, entry)
	}
	count := map[uint64]int{}
	for _, owner := range entry.Replica {
		if count[owner]++; !slices.Contains(members, owner) {
			t.Fatalf("%d is no member of %v: %+v", owner, members, entry)
		}
	}
	for owner, n := range count {
		if n > 1 && len(count) < len(members) {
			t.Fatalf("%d has %d, and others of %v have none: %+v", owner, n, members, entry)
		}
	}
}

func has(table []shard.Assignment, partition int, id uint64) bool {
	return partition < len(table) && slices.Contains(table[partition].ShardIDs, id)
}

func missing(before, after shard.Assignment) (n int) {
	for _, id := range before.ShardIDs {
		if !slices.Contains(after.ShardIDs, id) {
			n++
		}
	}
	return n
}

// A quorum that moves one vote at a time keeps a majority of every partition at each step.
func TestVotesMoveOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.SliceOfNDistinct(rapid.Uint64(), 2, 9, rapid.ID).Draw(t, "nodes")
		votes, p := nodes[:rapid.IntRange(1, len(nodes)).Draw(t, "votes")], rapid.IntRange(1, 5).Draw(t, "partitions")
		table := shard.Assign(p, len(votes), votes)
		for range 10 {
			one := rapid.SampledFrom(nodes).Draw(t, "node")
			next := slices.Clone(votes)
			if i := slices.Index(next, one); i < 0 {
				next = append(next, one)
			} else if next = slices.Delete(next, i, i+1); len(next) == 0 {
				continue
			}
			after := shard.Next(table, p, len(next), next, 0)
			for i := range after {
				if lost, joined := missing(table[i], after[i]), missing(after[i], table[i]); lost+joined != 1 {
					t.Fatalf("%d are lost and %d join: %+v %+v", lost, joined, table[i], after[i])
				}
			}
			votes, table = next, after
		}
	})
}
