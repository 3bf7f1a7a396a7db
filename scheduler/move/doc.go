// Package move decides how a deployment leaves environments: which unit is withdrawn next,
// and when; whether deployments may be moved automatically at all; and how often one may be.
//
// # Flow
//
// A plan has other environments than those in which a deployment runs. Those that it does
// not have any more are leaving: their units stay as they are. [Next] takes what is seen of
// all of them and gives the next step. Whoever leads carries it out as one write and asks
// again. All functions are pure: nothing is remembered between two questions but what the
// state has, so that any leader goes on where another one has ended.
//
// # Rules
//
//   - An environment is left only when the one that takes its place runs what it is to run,
//     in a cluster that is healthy, and is named. No time that has passed stands for that.
//   - Before and after each step the probability that the deployment is available is
//     calculated, with what serves now. A step never makes it lower than it is, unless it
//     stays at the target: what may be down counts before, and not after.
//   - One unit is withdrawn at a time.
//   - Of a deployment with a quorum one vote is given or taken at a time, and only when all
//     environments that stay and can be reached have what the last step sent them. One joins
//     before another one leaves. Where one has to join in the place of one that is lost, the
//     lost one's vote is taken first: an even number of votes, one of them lost, is worse
//     than what there is. Where one vote more or less would be worse and several would not,
//     as from one to three, it is several; or one takes the vote of another, if those that
//     stay are a majority before and after.
//   - A vote is taken before its holder is withdrawn, which waits until the others have that:
//     what the votes agree on, they agree on by the majority that there was before, too.
//
// # The fleet
//
// [Judge] says whether so many clusters are lost at once that it is more likely that the
// control plane is cut off than that they are down. [Budget] says when a deployment may be
// moved again after it was.
package move
