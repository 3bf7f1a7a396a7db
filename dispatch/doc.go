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
//   - the reporter, which commits what the lanes learned in batches;
//   - a driver for each rollout that goes on, which asks the registry for its next step
//     whenever units or clusters have changed, or a deadline has come that is in the state;
//   - the moves, which ask the registry what has to leave a cluster that is drained or lost,
//     have as much of that begun as the rate permits, and go on with what has begun.
//
// A lane has a session: one stream on which the cluster's manager sends its full
// inventory and then every change. Managers that know no such stream (oaas-rs)
// are polled. The lane itself is a single goroutine around parts that know neither
// clock nor channel: the worklist (from units, inventory, earlier attempts and the
// time, the calls to start now and the time to look again), the breaker, and the
// backlog of what was learned. Calls run in workers, so a slow call delays neither
// another unit nor another cluster.
//
// # Order and room
//
// What somebody has changed goes out before what is sent again, and leaves that a
// share (queue.go). At most MaxInFlight calls are under way to a cluster, and to all
// clusters together at most one each and MaxInFlightTotal more. A call has a deadline;
// what fails is tried again with growing pauses, what is refused only much later. After
// some calls in a row that a cluster did not answer its breaker opens, and only probes
// go out until one is answered.
//
// # Clusters that are away
//
// A lane judges its cluster by package liveness: from the session, from the beginning of
// the silence in the state, and from what other nodes find, which it asks one after the
// other while the cluster is away (others.go, prober.go). Only changes of the state and of
// what the others say together are stored.
//
// # Clusters that misbehave
//
// A manager may hang, lie, flood, or send garbage. It is to harm itself only:
//
//   - What it says costs memory only for units that are its own, and of those only
//     what decides (inventory.go). A stream that does not keep to the protocol is
//     ended, and nothing is concluded from it.
//   - It is listened to at a bounded rate (intake.go). What it may make the log take
//     is bounded by a token bucket (backlog.go), in number and in bytes; users' wishes
//     bring tokens of their own. Of every unit only the newest is kept. The reporter
//     takes small batches from all lanes in turn.
//   - What the state keeps of it is bounded: by report, by text, and all together.
//   - A unit that it confirms and then denies is sent again more and more rarely.
//   - What it causes in the log files is bounded; lines that are left out are counted.
//
// # Strays
//
// What a cluster has of this control plane and the state has no unit for is a stray
// (strays.go): it was given up while the cluster was away, came back with a backup of the
// cluster, or was sent by a leader that was none any more. It is remembered with the
// cluster's row, and after a grace it becomes a tombstone like any other.
//
// # Invariants
//
//   - All desired state is in Raft. A new leader knows nothing but the state and
//     the inventories, and sends nothing to a cluster whose reported hash and
//     fence equal the desired ones.
//   - Nothing is decided from an incomplete inventory: a unit is absent only
//     after the cluster said that the inventory is complete, and how many it has.
//   - A tombstone is confirmed only by the cluster's own "not found" to a delete
//     that carried the tombstone's fence, so the cluster has recorded the
//     tombstone before the control plane forgets it.
//   - Every command of these loops carries the term in which the loop was
//     started; a deposed leader's late command has no effect.
//   - Only transitions are committed, never heartbeats.
//   - No lane waits for another: not for its calls, nor for its reports.
package dispatch
