// Package fsm is the replicated state machine of the package manager: commands
// go in, state comes out. It does no I/O and knows no clock, no randomness and
// no configuration, so that the same log makes the same state on every node and
// in every build.
//
// # Flow
//
// A Raft log entry is an encoded pmpb.Command. State.Apply decodes it, checks in
// this order its version, the term it was proposed for, its idempotency key and
// its guards, and hands its operation to a handler (one file per group: op_*.go;
// the table is built in newHandlers). A handler only reads; it collects the rows
// to write in its call. They are written when the handler has succeeded, so a
// refused command writes nothing, also in the middle of a batch: ApplyBatch runs
// many commands in one transaction (txn.go).
//
// The rows stand in B-trees that are copied on write, one per order of a table
// (table.go, schema.go). Readers take a Snapshot: an immutable view that costs
// O(1) and never blocks the writer. Its Watch methods (watch.go) give channels
// that are closed when what was seen has changed.
//
// What was written is also remembered for a while, command by command (history.go):
// whoever takes the rows of a view and then the changes after its index has every
// later view. A command may carry a note of who asked for what; it is kept in the
// audit log (audit.go) exactly if the command takes effect.
//
// A deployment has revisions (revisions.go), the present one in its row and the last ones
// in a table of their own, a rollout that says which environment has which (op_rollout.go),
// and a timeline (timeline.go), which is written by the commands that it tells of. All three
// are bounded.
//
// Snapshot.Write streams a view into a file format of its own (snapshot_format.go)
// and State.Restore replaces the contents with one, after all of it was checked:
// that is how a node starts and catches up. An operator's restore is something
// else. It is a command (op_restore.go): the old contents come back as a new wish,
// under a higher epoch and with indexes that go on, the same way on every node.
//
// # Invariants
//
//   - A row that a reader got never changes: a handler makes a new row (with
//     shallow) and never writes into an old one, nor into anything it points to.
//   - Every command that reaches the state machine advances Meta, refused or not:
//     applied index, term, count and the chain hash
//     SHA-256(previous || index || term || command bytes), both numbers as 8 bytes
//     big-endian. Nothing else changes when a command is refused.
//   - The fence of a unit is the index of the command that last changed the wish
//     for it. It never falls, and content never changes under an unchanged
//     (epoch, fence).
//   - A unit that is not a tombstone belongs to a stored deployment. A tombstone
//     belongs to a stored deployment or to a deletion. A deletion has at least
//     one tombstone, a plan has its deployment.
//   - A wish that is withdrawn leaves a tombstone; only the cluster's word about
//     that very tombstone (same epoch and fence) removes it, or somebody who gives it up:
//     then the cluster's row remembers it as a stray (op_stray.go).
//   - A malformed command, or one of a newer version, has a deterministic error
//     as its result. Nothing panics.
//
// # Rules for changes
//
// The limits in this package (replies, key length) are part of the replicated
// semantics: two builds that disagree about one diverge. Changing one, or making
// the decoding of documents stricter, needs a new command version.
package fsm
