// Package raftstore is one node of the replicated log: durable storage, the
// transport between nodes, founding and joining, leadership, writes and
// linearizable reads over the state machine of package fsm.
//
// # Flow
//
// Open takes the data directory, recovers the state machine and starts Raft.
// RegisterServices puts the node's PeerService on the internal gRPC server of
// the process. A node without state then founds a cluster together with the
// other founders, or joins the one that they already have; Open does not wait
// for that.
//
// Apply proposes a command on the leader and returns the state machine's
// verdict. ReadBarrier, on any node, returns once the local state contains all
// that was acknowledged to anyone before the call. RunWhileLeader runs work
// that only one node may do.
//
// # Invariants
//
//   - A nil error from Apply means that the command is committed and applied
//     here. ErrNotLeader, ErrNoLeader, ErrTooLarge and ErrShutdown mean that it
//     was never proposed. ErrOutcomeUnknown is everything in between.
//   - A server id names one disk. It is minted with the data directory, kept in
//     it and never given to another one: a node that lost its disk comes back
//     as a new server and cannot vote a second time in a term.
//   - Nobody acts in the name of a server but the process that holds its disk:
//     connections are refused by whoever is not the server that was meant.
//   - A cluster is founded only when every founder answers, at the same time,
//     that it has no state and expects the same founders; and only by the first
//     of them. Whoever has lost its state joins instead.
//   - Storage that failed once is not used again. The node stops taking part at
//     once and says why on Fatal; the process is expected to end.
//   - The files of the data directory are looked through before they are used.
//     Damage ends the start with a *CorruptError that names the file and says what
//     to do, unless the rest makes up for it without forgetting anything that this
//     server has confirmed.
//   - A server whose history is not that of a majority of the voters marks its
//     directory and ends (*DivergedError); Open refuses the directory from then on.
//     Without a majority, and while a disk is nearly full, the state is read-only.
//   - Time in the log never runs back, and no leader's clock moves it further than
//     maxClockError beyond the middle of all servers' clocks that it has heard of.
//   - The index that WaitApplied and ReadBarrier speak of is that of the last
//     command that the state machine applied, not Raft's: entries that no state
//     machine ever sees (no-ops, barriers) advance the latter only.
//
// # Where this departs from the Raft library's defaults
//
// Heartbeats run through the library's main loop, because its
// shortcut changes term and role concurrently with that loop; and messages are
// for a server, not for whoever has its address now (peerTransport). Reads do not use
// VerifyLeader, which counts replies that were sent before the question and
// replies of servers without a vote; see barrier.go for what is used instead.
// Futures are never waited for without a context. Addresses are texts that are
// resolved when dialled, so that a node may come back with another IP.
package raftstore
