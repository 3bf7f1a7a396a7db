// Package serving brings Knative Serving to a local cluster and takes it away again.
//
// # Flow
//
// Install applies Knative's own definitions and configuration, sets what a cluster without
// a registry and without traffic needs, and starts the program of the nested module
// deploy/local/knative, which runs Knative's own reconcilers. Remove deletes the
// definitions, and with them the API and everything of its kinds, and ends the program.
// Both can be repeated on one cluster.
//
// # Making Services misbehave
//
// Their pods are pods like all others: see deploy/local/README.md. Besides:
//
//	sim.kwok/scale: "0"                          on a PodAutoscaler: no traffic; "2": for two pods
//	sim.kwok/ingress: stuck                      on a Knative Service: no ingress becomes ready
//	serving.knative.dev/progress-deadline: 5s    on its template: a revision fails so soon
//
// # Invariants
//
//   - The program listens on nothing, and ends with the process that started it.
//   - One Serving belongs to one goroutine at a time.
package serving
