// Package scheduler decides in which clusters a deployment runs, and says why.
//
// [Decide] is a pure function of a [Snapshot] of the fleet and a [Spec]: no
// I/O, no clock, no randomness. The caller commits the [Plan] under guards on what
// the snapshot was read from. [Prepare] makes a [Fleet] for many plans on the same
// clusters: what the deployments have in common is worked out once.
//
// # Flow
//
// Four stages, each of which leaves its verdict on every cluster it saw:
//
//	Filter  which clusters may be used at all            -> filtered: a pool shared by all that ask for the same
//	Score   what each is worth, and the order among them -> ranking
//	Select  how many and which meet the target           -> selection
//	Assign  what changes, in which steps, and why        -> Plan
//
// Clusters that the user named explicitly are used as they are: nothing is
// filtered, ranked or added, the plan only reports what they achieve.
//
// # What is the best set
//
// A deployment is available while enough of its clusters are up: a majority of them
// for state behind a quorum, any one for the other kinds. Package availability
// computes the exact probability. An even number is never chosen for a quorum:
// dropping any one member of an even set loses nothing.
//
// What runs is kept as long as it meets the target: the smallest part of it that
// does. If there is a better set, the plan tells it, and moves only for those who
// ask for that and if it is worth while. Else the smallest set is the best, or the
// cheapest where prices are known, and among those the one that keeps the most.
//
// If no cluster says its region or zone, clusters are taken to fail independently
// of each other. Then the n most available clusters are the best set of size n, so
// looking at the best one, three, five, … finds the fewest that meet the target.
// More is not always better (adding bad clusters hurts), hence the scan does not
// bisect.
//
// Else clusters of a region and of a zone in it share a part of their outages,
// which is assumed until it is measured, and package solver finds the best set: the
// best clusters by themselves may be the worst together. It does so once for all
// deployments that ask for the same; in which of equal clusters each of them runs is
// decided by lot, and how much of what runs can be kept by trying that first.
//
// A rule for whole sets that is not one of domains, how near each other they are, makes
// a graph of the clusters. Those that are equal in it are one class; each maximal clique
// of classes is solved by itself, and the best answer is the best of all.
//
// # What each cluster gets
//
// The clusters, the replicas of each shard and the pods of each function are three
// numbers. A deployment that says nothing has one replica in each cluster, and its pods
// are its own matter. Where its shards have their replicas elsewhere, the availability
// of the plan is that of an object, on average over the shards.
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
