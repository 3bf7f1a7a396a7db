// Package controller reconciles ClassRuntimes of one namespace into Deployments,
// Services, autoscalers and Knative Services and writes their status.
//
// # Flow
//
// One pass over one object (reconcile.go): read it, observe it and its children
// (observe.go), ask package lifecycle what to do, do it (act.go: finalizer, apply,
// prune, delete), observe again, ask what to report, write the status if it says
// something new, and tell the transitions as events (report.go). A pass does no
// waiting: what it waits for, children and pods, wakes it up again (watch.go), and
// what only time can change comes back as a requeue. A controller that takes over
// recognises the children that stand as another one applied them (recognize.go); those
// of another build are applied once, and objects that seem to rest wait until the
// others are done.
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
//   - Replicas pass from the templates to an autoscaler and back with the number
//     that there is, held by a field manager of their own in between, and stay
//     within the bounds of the class whoever decides them (replicas.go). Where an
//     autoscaler of somebody else scales a Deployment, there is none of ours.
//   - Knative Services are read from a cache that lives and dies with their API
//     (knative.go). While the API is away its kinds have no objects; nothing else
//     waits for it.
//   - A child is judged by what the API server answered last, never by a cache
//     that is older than our own write.
//   - Caches hold one namespace, owned workloads, all its Services and autoscalers,
//     and of pods and nodes only the fields that are read.
package controller
