// Package shard lays the shards of a collection out over the data nodes of a
// deployment.
//
// # Flow
//
// [Assign] makes the first table. Every partition gets the same number of replicas. Its first owner is the
// member that is first owner of the fewest partitions so far, the lowest
// member among equals; the others follow in ascending order of node id, and
// wrap around. The effect is a round robin over the members. [Next] makes the table that
// follows another one, when members come or go or the numbers change: with as much of it
// left where it is as can be.
//
// # Invariants
//
//   - A shard has the same number, owner and partition as long as it is there, and no number
//     is given twice.
//   - A table is a pure function of its arguments; the order of the members
//     and repetitions in them do not matter.
//   - The shard ids of the first table are 1, 2, 3, … without a gap. They are unique in one
//     collection, not across collections.
//   - In the first table the numbers of partitions that two members own first
//     differ by at most one.
package shard
