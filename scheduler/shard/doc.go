// Package shard lays the shards of a collection out over the data nodes of a
// deployment.
//
// # Flow
//
// Every partition gets the same number of replicas. Its first owner is the
// member that is first owner of the fewest partitions so far, the lowest
// member among equals; the others follow in ascending order of node id, and
// wrap around. The effect is a round robin over the members.
//
// # Invariants
//
//   - The table is a pure function of its arguments; the order of the members
//     and repetitions in them do not matter.
//   - Shard ids are 1, 2, 3, … without a gap. They are unique in one
//     collection, not across collections.
//   - The numbers of partitions that two members own first differ by at most
//     one.
package shard
