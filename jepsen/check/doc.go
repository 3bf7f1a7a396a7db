// Package check judges runs: functions of a history, and of the state at the end, to
// verdicts. Nothing here asks a cluster anything, so a history that was kept can be judged
// again.
//
// # Flow
//
// All judges a whole run. Each verdict also stands alone:
//
//	Linearizable  objects behave as if there was one copy of each (porcupine)
//	LogOrder      every read shows what the log says at the index that it claims
//	Set           nothing that was acknowledged is lost, nothing deleted comes back
//	Streams       followers saw every change, once, in order, and all the same
//	OneEffect     a request that was sent several times has one effect and one answer
//	Sessions      what a session has seen, it does not lose; stale answers keep their bound
//	Runtimes      every cluster runs exactly what is wanted of it
//	Fences        no cluster went back to an older change
//	Promises      what was said to be available had reached its cluster
//	Leaders       a term has one leader
//	Replicas      all nodes hold the same state and history
//	Answers       nobody was told of an internal error
//	Convergence   how long after a fault it took until all was well again
//	Recovery      how long writes stood still after a leader was lost
//	Growth        what the processes use at rest, before and after
//
// # Invariants
//
//   - A checker accepts whatever a correct control plane can produce: what a history does
//     not decide is counted, and never a violation.
//   - A violation names the key and the operations that show it.
//   - Time is bounded. What could not be decided within it is undecided, which is not OK
//     beyond a share that the caller states.
package check
