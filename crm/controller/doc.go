// Package controller reconciles ClassRuntimes of one namespace into Deployments
// and Services and writes their status.
//
// # Flow
//
// One pass over one object (reconcile.go): read it, observe it and its children
// (observe.go), ask package lifecycle what to do, do it (act.go: finalizer, apply,
// prune, delete), observe again, ask what to report, write the status if it says
// something new, and tell the transitions as events (report.go). A pass does no
// waiting: what it waits for, children and pods, wakes it up again (watch.go), and
// what only time can change comes back as a requeue. A controller that takes over
// has every child to apply once; objects that seem to rest wait until the others are
// done.
//
// # Invariants
//
//   - The finalizer is added before anything else is written, and removed only
//     after a list that the API server answered itself showed no child.
//   - A child that stands as it was left costs no request, a status that says
//     nothing new is not written: nothing is written while nothing changes
//     (apply.go, report.go).
//   - Only what is ours is changed: a child has us as its controller, or carries
//     our label and has no controller. Whatever else has the name of a child is
//     reported as NameTaken and left alone. A child of which nothing is known is
//     applied so that the API server creates it or refuses (apply.go): a new child is
//     one request.
//   - Fields that others hold are taken back by force when they are part of what
//     the templates promise. Replicas are not: they are reported as a conflict.
//   - A child is judged by what the API server answered last, never by a cache
//     that is older than our own write.
//   - Caches hold one namespace, owned workloads, and of pods and nodes only the
//     fields that are read.
package controller
