package shard

import "slices"

// Assignment is one partition.
type Assignment struct {
	// Primary is the shard id of the partition's first replica.
	Primary uint64
	// Replica has the node id that owns each replica. It repeats nodes when
	// there are more replicas than members.
	Replica []uint64
	// ShardIDs has the shard id of each replica.
	ShardIDs []uint64
}

// Assign makes the table for a number of partitions with a number of replicas
// each over the members' node ids. It is nil when any of the three is empty.
// It needs memory in proportion to partitions times replicas: callers limit
// what users may ask for.
func Assign(partitions, replicas int, members []uint64) []Assignment {
	if partitions <= 0 || replicas <= 0 || len(members) == 0 {
		return nil
	}
	ring := slices.Clone(members)
	slices.Sort(ring)
	ring = slices.Compact(ring)

	table := make([]Assignment, partitions)
	next := uint64(1)
	for p := range table {
		owners, ids := make([]uint64, replicas), make([]uint64, replicas)
		// Taking turns is what "fewest so far, lowest among equals" amounts to.
		first := p % len(ring)
		for i := range replicas {
			owners[i] = ring[(first+i)%len(ring)]
			ids[i] = next
			next++
		}
		table[p] = Assignment{Primary: ids[0], Replica: owners, ShardIDs: ids}
	}
	return table
}
