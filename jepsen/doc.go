// Package jepsen holds the tests of what the control plane promises while it is broken on
// purpose: real pmd and crm processes with real disks and real TCP, under real faults.
//
// # Flow
//
// A run (package run) starts a cluster, lets workloads use it through the REST API of
// random nodes, breaks it with nemeses, heals it, and then judges the history of all that
// was asked and answered.
//
//	netlab    network namespaces, and a switch in user space that cuts, slows and loses
//	faultfs   a file system that is slow, full or broken, and forgets what was not synced
//	clock     moves the wall clock of one process
//	cluster   pmd, crm and agents in them; each can be killed, paused, moved, replaced
//	nemesis   faults: seeded, composable, each knows whether this machine can do it
//	workload  what users do, recorded in a history
//	check     verdicts on a history and on the state at the end
//	variant   builds of pmd and crm in which one guard is taken out: the harness's own test
//	report    one HTML page per run
//	run       puts them together; cmd/oaas-chaos is its command line
//
// Arrows run downward only: run → nemesis, workload, check, report → cluster → netlab,
// faultfs, clock; history is known to all and knows none.
//
// # Invariants
//
//   - An operation whose outcome is not known is never taken for one that failed.
//   - A run is a function of its seed, as far as the machine lets it be: which faults, in
//     which order, for how long, on whom, and what the workloads ask.
//   - What a failed run leaves behind (logs, data directories, history) is kept.
//   - Nothing reaches beyond loopback and the run's own namespaces, and nothing outlives it.
package jepsen
