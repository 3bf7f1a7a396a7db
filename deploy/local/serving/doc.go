// Package serving brings Knative Serving to a local cluster and takes it away again.
//
// Purpose: the crm runs functions on Knative where it is there, so its tests need a cluster on which Knative's API comes, works
// and goes. Everything that decides is Knative's own; what its data plane would do is played, see the program in
// deploy/local/knative.
//
// Flow: Install applies Knative's definitions, its namespace and its settings, and starts the program, which runs Knative's
// reconcilers. It returns when they run. Remove ends the program and deletes the definitions, and with them the API and
// everything of its kinds; it returns when the API is gone. Both can be repeated while the cluster lives.
//
// Invariants:
//   - The program listens on nothing, and does not outlive the process that started it (package process).
//   - At most one Serving is installed on a cluster at a time. Whoever shares a cluster has to see to that.
//   - The namespace knative-serving stays when Knative is removed, because its deletion would take seconds and hold up the next
//     Install.
package serving
