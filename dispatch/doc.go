// Package dispatch holds the loops that only the leader runs: it keeps the
// clusters registered, sends each cluster its share of every deployment, and
// brings back what the clusters report.
//
// # Flow
//
// Manager.Run is started when this node became leader and is ready in its term,
// and is cancelled and joined when it no longer is. It owns
//
//   - the fleet, which turns candidates (static configuration, gossip, agents) into
//     registered clusters after asking each of them who it is;
//   - one lane per registered cluster, which compares what the state wants in
//     that cluster with what the cluster reports and sends the difference;
//   - the reporter, which commits what the lanes learned in batches.
//
// A lane has a session: one stream on which the cluster's manager sends its full
// inventory and then every change. Managers that know no such stream (oaas-rs)
// are polled. The lane itself is a single goroutine around pure functions
// (decide.go): from units, inventory, earlier attempts and the time they make
// the calls to start now and the time to look again. Calls run in workers, so a
// slow call delays neither another unit nor another cluster.
//
// # Invariants
//
//   - All desired state is in Raft. A new leader knows nothing but the state and
//     the inventories, and sends nothing to a cluster whose reported hash and
//     fence equal the desired ones.
//   - Nothing is decided from an incomplete inventory: a unit is absent only
//     after the cluster said that the inventory is complete.
//   - A tombstone is confirmed only by the cluster's own "not found" to a delete
//     that carried the tombstone's fence, so the cluster has recorded the
//     tombstone before the control plane forgets it.
//   - Every command of these loops carries the term in which the loop was
//     started; a deposed leader's late command has no effect.
//   - Only transitions are committed, never heartbeats.
package dispatch
