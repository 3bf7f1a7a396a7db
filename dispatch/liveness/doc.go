// Package liveness decides how much a cluster counts as being there. It is the failure
// detector of the control plane: pure functions of what is stored, of what the leader has
// seen itself, of what other nodes say, and of the time.
//
//	          15 s of silence      30 s              5 min, and another node agrees
//	Healthy ─────────────► Suspect ───► Unreachable ───────────► FailoverEligible
//	   ▲  10 s of contact     │              │  ▲                        │
//	   └──────────────────────┴──────────────┘  └──── any doubt ─────────┘
//
// # Invariants
//
//   - One step at a time: nothing that was Healthy is Unreachable without having been
//     Suspect (except in a control plane that does not know Suspect yet).
//   - The silence counts from its first moment, which is stored: a change of leader does not
//     begin it anew, and a contact shorter than Return does not end it.
//   - A leader makes nothing worse on the word of its predecessors alone: for each step it
//     has itself missed the cluster for as long as the step before takes.
//   - FailoverEligible is a claim that needs its evidence at all times: within the last
//     Unreachable a node other than the leader has tried in vain, and none has succeeded.
//   - Clocks of successive leaders that differ by up to Skew never shorten a deadline.
package liveness
