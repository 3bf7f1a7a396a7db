// Command bench-plan measures the planner: the time and the allocation of single
// plans on fleets of several sizes, the plans of all deployments after the loss of a
// cluster, and the solver against two others.
package main
