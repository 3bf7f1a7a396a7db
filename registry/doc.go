// Package registry holds every operation on the replicated state, once: the
// REST API and the leader's background loops both call it, and nothing else
// writes commands, but for those by which package raftstore records the nodes
// of its own cluster.
//
// # Flow of a write
//
//  1. A read barrier, so that a refusal ("package not found") is never based on
//     a state older than a write that was already acknowledged.
//  2. Validation against an immutable snapshot of the state.
//  3. For a deployment: enrichment, a plan by the scheduler, and the units, all
//     as pure functions of the snapshot.
//  4. One command, guarded by the modify indexes of every row that the decision
//     was made from. If one of them moved meanwhile the state machine refuses
//     the command and the operation starts over at 2.
//
// A change of a deployment with a strategy is staged (rollout.go): the command stores it as
// a new revision, and the units that are to have it later keep what they have. The steps of
// the rollout (advance.go) are decided by package scheduler/rollout from the state and the
// time, and committed like any other decision, by whoever leads. What is part of a revision
// and what all environments share is in release.go.
//
// Environments that a plan does not have any more are left make before break (move.go): the
// command stores which they are, and their units stay as they are until others take their
// place (movestep.go), as package scheduler/move decides. What drains, lost clusters and
// their return make of a deployment is in relocate.go.
//
// # Invariants
//
//   - Unit ids are a pure function of (deployment uid, environment), see UnitID.
//     Posting twice, retrying or failing over never makes a second runtime.
//   - Deployment, plan and units are committed by one command: no reader ever
//     sees one without the others.
//   - The fence of a unit rises only when its own content changes: the units of later
//     waves are not touched by a rollout before their turn, nor ever by one that fails
//     before.
//   - No unit is withdrawn unless what takes its place is available, and what is available
//     then is enough, or as much as before; but for deletions, and for updates that take
//     environments away from a deployment that has enough without them.
//   - What the client says about condition, status and timestamps is never
//     trusted; the state machine owns them.
//   - Errors leave this package only as *Error with a Code, or as *Replayed.
package registry
