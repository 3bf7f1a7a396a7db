package shard

import (
	"cmp"
	"slices"
)

// Next makes the table that follows the last one of the same deployment. A shard that stays
// keeps its id, its owner and its partition, because that is by what the replicas of a
// partition know each other: a number that changes hands is a replica without its data. A
// shard of a node that is no member any more ends, and what takes its place has a number
// that was never given before; used is the highest one that is known to have been, beside
// those of the last table. Where there is no last table it is that of Assign.
func Next(last []Assignment, partitions, replicas int, members []uint64, used uint64) []Assignment {
	if len(last) == 0 || partitions <= 0 || replicas <= 0 || len(members) == 0 {
		return Assign(partitions, replicas, members)
	}
	ring := slices.Clone(members)
	slices.Sort(ring)
	s := &succession{ring: slices.Compact(ring), used: used, load: map[uint64]int{}, table: make([]Assignment, partitions)}
	for _, a := range last {
		s.used = max(s.used, slices.Max(append([]uint64{0}, a.ShardIDs...)))
	}
	for p := range s.table {
		if p < len(last) {
			s.table[p] = s.keep(last[p], replicas)
		}
	}
	changed := make([]bool, partitions)
	for p := range s.table {
		changed[p] = s.fill(&s.table[p], replicas)
	}
	if replicas > 1 { // the only replica of a partition is all that there is of it
		s.welcome(changed, partitions*replicas/len(s.ring))
	}
	return s.table
}

// succession is a table in the making.
type succession struct {
	ring []uint64
	used uint64
	// load counts the shards of each member.
	load  map[uint64]int
	table []Assignment
}

// keep gives what stays of a partition: the first shard before others, and one of each owner
// before a second one of any.
func (s *succession) keep(a Assignment, replicas int) Assignment {
	n := min(len(a.Replica), len(a.ShardIDs))
	var firsts, repeats []int
	for i := range n {
		owner := a.Replica[i]
		_, member := slices.BinarySearch(s.ring, owner)
		switch same := func(k int) bool { return a.Replica[k] == owner }; {
		case !member:
		case a.ShardIDs[i] == a.Primary:
			k := slices.IndexFunc(firsts, same)
			if k >= 0 {
				repeats, firsts = append(repeats, firsts[k]), slices.Delete(firsts, k, k+1)
			}
			firsts = slices.Insert(firsts, 0, i)
		case slices.ContainsFunc(firsts, same):
			repeats = append(repeats, i)
		default:
			firsts = append(firsts, i)
		}
	}
	stay := append(firsts, repeats...)
	stay = stay[:min(len(stay), replicas)]
	slices.Sort(stay)
	out := Assignment{}
	for _, i := range stay {
		out.Replica, out.ShardIDs = append(out.Replica, a.Replica[i]), append(out.ShardIDs, a.ShardIDs[i])
		s.load[a.Replica[i]]++
	}
	if slices.Contains(out.ShardIDs, a.Primary) {
		out.Primary = a.Primary
	}
	return out
}

// fill gives a partition as many replicas as it is to have, and members that have none of it
// those that others have more than one of. It reports whether that changed anything.
func (s *succession) fill(a *Assignment, replicas int) (changed bool) {
	count := map[uint64]int{}
	for _, owner := range a.Replica {
		count[owner]++
	}
	for len(a.Replica) < replicas {
		owner := s.least(count)
		a.Replica, a.ShardIDs = append(a.Replica, owner), append(a.ShardIDs, s.fresh())
		count[owner]++
		s.load[owner]++
		changed = true
	}
	for owner := s.least(count); count[owner] == 0; owner = s.least(count) {
		i := s.spare(a, func(o uint64) int { return count[o] })
		if i < 0 || count[a.Replica[i]] < 2 {
			break
		}
		count[a.Replica[i]]--
		s.replace(a, i, owner)
		count[owner]++
		changed = true
	}
	if !slices.Contains(a.ShardIDs, a.Primary) {
		a.Primary = a.ShardIDs[0]
	}
	return changed
}

// welcome gives members without any shard their share, out of partitions that have not
// changed otherwise and of each of them one replica only, so that the others can tell the new
// one what there is.
func (s *succession) welcome(changed []bool, share int) {
	for {
		var fresh []uint64
		for _, m := range s.ring {
			if s.load[m] == 0 {
				fresh = append(fresh, m)
			}
		}
		if len(fresh) == 0 || share == 0 || !s.give(changed, fresh, share) {
			return
		}
	}
}

// give gives newcomers up to their share in turn. It reports whether any got something.
func (s *succession) give(changed []bool, fresh []uint64, share int) (gave bool) {
	for p := range s.table {
		a := &s.table[p]
		owner := slices.MinFunc(fresh, func(x, y uint64) int { return cmp.Or(cmp.Compare(s.load[x], s.load[y]), cmp.Compare(x, y)) })
		if s.load[owner] >= share {
			break
		}
		i := s.spare(a, func(o uint64) int { return s.load[o] })
		if changed[p] || i < 0 || slices.Contains(a.Replica, owner) || s.load[a.Replica[i]] <= s.load[owner]+1 {
			continue
		}
		s.replace(a, i, owner)
		changed[p], gave = true, true
	}
	return gave
}

// spare finds the replica whose owner has the most, but for the first one of the partition,
// which leads it; -1 without any.
func (s *succession) spare(a *Assignment, amount func(owner uint64) int) int {
	best := -1
	for i, owner := range a.Replica {
		if a.ShardIDs[i] != a.Primary && (best < 0 || amount(owner) >= amount(a.Replica[best])) {
			best = i
		}
	}
	return best
}

func (s *succession) replace(a *Assignment, i int, owner uint64) {
	s.load[a.Replica[i]]--
	a.Replica[i], a.ShardIDs[i] = owner, s.fresh()
	s.load[owner]++
}

// least is the member with the fewest replicas of a partition, then of all.
func (s *succession) least(count map[uint64]int) uint64 {
	return slices.MinFunc(s.ring, func(x, y uint64) int {
		return cmp.Or(cmp.Compare(count[x], count[y]), cmp.Compare(s.load[x], s.load[y]), cmp.Compare(x, y))
	})
}

func (s *succession) fresh() uint64 {
	s.used++
	return s.used
}
