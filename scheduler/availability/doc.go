// Package availability computes how often enough of several clusters are up.
//
// # Independent clusters
//
// The number of clusters that are up follows the Poisson binomial
// distribution. [Distribution] builds it one cluster at a time by convolution,
// in O(n) per cluster, so that a nested family of sets (the best one, the best
// three, the best five, …) costs as much as its largest member.
//
// # Failure domains
//
// Clusters of a zone or a region go down together. A [Tree] has domains within
// domains, with clusters in them, and up to four factors that cut across it; an
// [Evaluator] gives the loss of any set with any weights, which may be votes or
// capacity. [Infer] makes a tree of no more than labels and availabilities, by an
// assumed share of common outages.
//
// # Measurement
//
// [Measure] estimates the availability of a cluster from the outages that were seen,
// with a lower bound that may be promised: few of them in little time prove little.
// What is not known about a cluster is assumed as a [Prior], which [FleetPrior]
// estimates from all clusters. Outages that clusters of a domain have together count
// for the domain ([Split]), not for the clusters, as the tree would otherwise count
// them twice. What is old counts less, half of it every [HalfLife]; a history without
// an outage therefore never counts for more than about 130 days.
//
// # Precision
//
// An availability of nine nines differs from 1 by 1e-9, and 1-A computed from
// A has only seven good digits left there. Every function therefore works on
// the loss 1-A, summed from the small terms, and derives A from it. Comparing
// losses is the only comparison that is meaningful beyond six nines.
//
// # Invariants
//
//   - Results are within [0, 1] for inputs within [0, 1].
//   - The result depends on the multiset of inputs only up to rounding; callers
//     that need byte-equal results pass the inputs in a canonical order.
//   - A is non-decreasing in every single availability.
//   - With equal votes an even count is never better than the odd count left
//     after dropping any one member.
package availability
