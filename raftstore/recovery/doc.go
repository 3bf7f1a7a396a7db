// Package recovery looks into the data directories of stopped nodes and brings a
// cluster back that has lost its quorum, or everything but a snapshot file.
//
// # Flow
//
// Inspect tells what one directory holds; Compare ranks several and names the
// one to go on with: that with the newest log, in the order in which Raft itself
// compares logs when it elects. Recover makes the servers that are left the whole
// cluster; the others then join again with empty directories. FromSnapshot begins
// a new log in an empty directory with the contents and the identity of a
// snapshot.
//
// # What a recovery means
//
// Every entry of the chosen log counts as committed, also those that never
// reached a quorum, whose writers were told that the outcome is unknown. Entries
// that only the lost servers had are gone, even if they were acknowledged.
// Clusters may have been sent such entries, under fences that the recovered log
// must not give out again for something else; and clients hold the indexes of such
// entries as ETags and as tokens of reads. Therefore the log leaps by
// raftstore.RecoveryLeap, and the epoch rises in the first term after the recovery,
// before the node serves anything, and every unit is sent again. The epoch alone
// would not do: one that a lost restore began may be the next.
//
// # Invariants
//
//   - Nothing is written by Inspect, Compare and dry runs.
//   - The directory is locked while it is changed, and a running node's is refused.
//   - Whoever recovers must repeat the id of the cluster.
//   - No index of a lost entry is given out again.
//   - The raft directory is copied before it is changed, and what was done is
//     recorded in a file beside it.
package recovery
