// Package scheduler decides in which clusters a deployment runs, and says why.
//
// [Decide] is a pure function of a [Snapshot] of the fleet and a [Spec]: no
// I/O, no goroutine, no clock, no randomness. The caller commits the [Plan]
// under guards on what the snapshot was read from.
//
// # Flow
//
// Four stages, each of which leaves its verdict on every cluster it saw:
//
//	Filter  which clusters may be used at all            -> feasible clusters
//	Score   what each is worth, and the order among them -> ranked clusters
//	Select  how many and which meet the target           -> the chosen set
//	Assign  order, quorum, what changes for the clusters -> the plan
//
// Clusters that the user named explicitly are used as they are: nothing is
// filtered, ranked or added, the plan only reports what they achieve.
//
// # The model
//
// A deployment is available while a majority of its clusters is up; package
// availability computes the exact probability. An even number is never chosen:
// dropping any one member of an even set loses nothing.
//
// If no cluster says its region or zone, clusters are taken to fail independently
// of each other. Then the n most available clusters are the best set of size n, so
// looking at the best one, three, five, … finds the fewest that meet the target.
// More is not always better (adding bad clusters hurts), hence the scan does not
// bisect.
//
// Else clusters of a region and of a zone in it share a part of their outages,
// which is assumed until it is measured, and package solver finds the fewest
// clusters: the best by themselves may be the worst together.
//
// A cluster that reports no availability counts with [AssumedAvailability] and
// is marked so. The share of its nodes that are ready says something about
// capacity and is never taken for availability.
//
// # Invariants
//
//   - Equal input gives a byte-equal plan, whatever the order of the clusters
//     in the snapshot. Ties are broken by what runs already, then by the user's
//     order, then by a hash of deployment and cluster, which spreads deployments
//     over equal clusters.
//   - A cluster in which the deployment runs is not abandoned because it is out
//     of reach at the moment: that would be a failover, which is a decision of
//     its own.
//   - Every cluster of the snapshot is counted in the explanation under exactly
//     one code.
//   - An error is typed and names what has to change. There is no partial plan.
package scheduler
