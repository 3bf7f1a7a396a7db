// Package run puts the harness together: it starts a cluster, lets workloads use it, breaks it by a schedule, heals it, and has
// everything judged.
//
// # Flow
//
//	start     the cluster (package cluster), a disk that can be broken for each node (faultfs), the workloads
//	break     the schedule of the seed (package nemesis), with a line of progress every few seconds
//	heal      everything; the workloads go on until all nodes are ready, and end then
//	rest      until no cluster has anything left to do, which is measured
//	restore   a snapshot is taken back while it is used and broken, as a phase of its own: see restore.go
//	judge     the checks (package check), figures, and the report
//
// # Invariants
//
//   - What was broken is healed before anything is judged, however the run ends.
//   - A restore takes the state back, which is neither lost writes nor stale reads. It comes after the last read of the history, of
//     a snapshot that was taken while nothing was written, so that what must be there afterwards is known exactly; what is
//     written meanwhile is in no history.
//   - A nemesis that could not be done here is in the result with its reason.
//   - Logs, data and history of a run that broke a promise are kept, and the result says where.
package run
