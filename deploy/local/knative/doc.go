// Command knative runs Knative Serving's own reconcilers in one process: those of its
// controller, and of its autoscaler the one that scales revisions. What surrounds them
// in a cluster is played here.
//
// # What is played
//
//   - The scale of a revision follows from the annotation sim.kwok/scale of its
//     PodAutoscaler, or is the initial scale, where traffic would decide otherwise. The
//     bounds of the class hold as usual.
//   - Every Ingress becomes ready at once, unless it, or the Knative Service that it
//     comes from, has the annotation sim.kwok/ingress: stuck.
//   - Before the last pod of a revision goes, the reconciler asks the activator whether
//     calls reach it. That call ends in this process and is answered by it.
//
// # Invariants
//
//   - Nothing is listened on: any number of these processes share a machine.
//   - The process ends with SIGTERM or SIGINT, and fails when it cannot start.
package main
