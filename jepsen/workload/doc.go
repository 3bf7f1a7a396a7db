// Package workload is what users do while the control plane is being broken: clients that
// use the REST API through random nodes, and take down all that they asked and were
// answered.
//
// # Flow
//
// New makes an Env of a running cluster. Each Workload runs in it, on its own processes and
// beside the others, until its context ends. Observe then tells the state at the end.
// Package check judges both.
//
//	register    packages as registers: read, write, create, compare and set, delete
//	set         deployments that are created once and perhaps deleted once
//	watch       followers of the stream of changes, over cuts and forgotten pasts
//	idempotent  requests that are sent several times under one key
//	sessions    reads that ask for an index, or for what a node has
//	lifecycle   deployments that come, change and go, over clusters
//	probe       looks at every node: who leads, who is ready, what it uses
//
// # Invariants
//
//   - One request is one attempt at one node. Nothing here tries again by itself, so an
//     outcome is that of what was recorded.
//   - A write is Failed only if nothing of it was sent, or the answer is one of those that
//     docs/rest.md promises to mean that nothing was done. All else is Unknown (see
//     Classify).
//   - A process has one operation at a time. After an Unknown one it goes on under another
//     number: for all we know, its operation still runs.
//   - What is asked is a function of Env's seed and of the answers.
//   - A key is used by some hundred operations at most, so that a check of it is bounded.
package workload
