// Package lifecycle is the state machine of a ClassRuntime as a pure function:
// what was observed and the time go in, a verdict comes out. It has no client
// and no clock, so every transition can be tested as a table row and random
// histories as properties.
//
// # Flow
//
// The controller calls Evaluate to learn what to do, does it, observes again
// and calls Evaluate to learn what to report. Nothing is remembered between
// calls but the status that the object carries: the previous status is part of
// the observation, and transition times in it are what deadlines count from.
//
// # Phases
//
//	pending      nothing was applied for this generation
//	applying     at least one child is not as rendered
//	progressing  all children are as rendered, not all are ready
//	available    all children are as rendered and ready
//	degraded     something does not work: the Degraded condition says what
//	deleting     the children are being removed
//
// The phase is one word derived in the order deleting, degraded, pending,
// applying, progressing, available. The conditions say more: while old pods
// serve and new ones crash, Available and Degraded are both True.
//
// # Conditions
//
//	Available    every function can be called now, with whatever generation
//	Ready        the current generation runs completely
//	Progressing  a change is on its way and nothing is known to stop it
//	Reconciling  kstatus: the current generation is not reached yet
//	Degraded     something does not work
//	Stalled      kstatus: only a change by a person can help
//
// # Invariants
//
//   - A condition is computed anew each time and never only added: Available
//     is withdrawn in the verdict that sees a function fail.
//   - The phase available needs an earlier verdict that recorded the complete
//     application of the same generation and the same rendered content.
//   - Degraded has a reason of the documented table and a message that names
//     the part, the cause and what to do.
//   - The finalizer is removed only after a complete listing showed no child.
//   - Of a workload that an autoscaler scales, the fewest replicas are what has to be
//     there: those beyond come and go without a change of phase, but what keeps them
//     from running is told.
//   - A Knative Service without pods can be called, and counts as such; one whose
//     latest revision fails while the one before serves is Available and Degraded.
//   - A status that says the same as before is the same, times included, so
//     that a controller which compares writes nothing while nothing changes.
//   - Every state that only time can change has a RequeueAfter.
package lifecycle
