// Package rollout decides how a change of a deployment goes on over its environments: which
// are changed now, when the next wave comes, when it is complete, and when it has failed.
//
// # Flow
//
// Arrange puts the environments into waves: the canaries first, then as many at a time as
// may be unavailable. Next takes the state of a rollout, what is seen of its environments
// and the time, and gives the next step. Whoever leads carries it out as one write and asks
// again. Both are pure functions: nothing is remembered between two questions but what the
// state has, so that any leader goes on where another one has ended.
//
// # Rules
//
// An environment is judged by its own runtime: it counts as available only while that says
// so of the very content that is wished now, and its cluster can be reached.
//
//   - An environment is changed when its wave has come, and then only if afterwards no more
//     than MaxUnavailable are unavailable, for whatever reason. One that is unavailable
//     already costs nothing, but no more than MaxUnavailable that were changed may be
//     unavailable either.
//   - The next wave comes when every environment that was changed so far has been available
//     for MinHealthy without interruption.
//   - A rollout fails when an environment refuses the change for good, or when for Deadline
//     nothing has gone on. It is then taken back if the deployment wishes so, and else stops
//     and leaves everything as it is.
//   - On the way back there are no canaries: what comes is known to have worked. What is
//     unavailable goes back at once, the rest as above. Clusters that cannot be reached do
//     not count: to wait for them would help nobody.
//
// # Invariants
//
//   - At no time are more than MaxUnavailable environments unavailable because of a
//     rollout.
//   - No environment outside of the first wave is changed while a canary is not available.
//   - While the world stands still, a rollout that is not paused ends.
package rollout
