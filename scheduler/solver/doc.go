// Package solver finds the clusters for a placement: the fewest that meet an
// availability target, or the cheapest when they have prices, and among those the
// set that moves the least.
//
// [Solve] is pure: equal problems give equal solutions.
//
// # The problem
//
// Chosen is a set S of n clusters with one vote each. It is available while the rule
// is met: a majority of the votes is up, or any one. Clusters fail with their
// failure domains, see package availability. Wanted is a set whose loss, the
// probability of being unavailable, is at most the permitted one.
//
// # How it is solved
//
// For each size, the best clusters by themselves that the limits let in are tried
// first; where no two can share a domain nothing is better. If they do not do, a
// depth-first search over the clusters decides, with these facts:
//
//   - A majority of an even number is never better than one of a vote less, whatever
//     the joint distribution: sizes are odd.
//   - If a domain is down more often than permitted, it must not hold so many votes
//     that the rest is no quorum: at most n-q of n where q are needed. This limits
//     the votes per domain without anybody asking for it, and limits of 1 make the
//     domain a part of its only vote.
//   - The availability grows with that of each vote. So a partial set whose missing
//     votes are taken for independent ones, as good as the best that are left, is a
//     bound for all sets that it can become.
//   - In the same domain a cluster that is up more often, for no higher price, is
//     never worse: the other one is chosen only with it.
//
// # Invariants
//
//   - A solution that is Proven is optimal. Else the search ended at its budget, and
//     the solution is the best that was found.
//   - Met says whether the loss is at most the permitted one. If it is not, and the
//     solution is proven, no permitted set does better.
package solver
