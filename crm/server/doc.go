// Package server is the gRPC side of the Class Runtime Manager: it stores what a
// package manager sends as ClassRuntime objects and tells it what became of them.
//
// # Flow
//
// Deploy turns a deployment unit into a ClassRuntime (convert.go) and stores it
// (deliver.go); the controller of package controller takes it from there.
// WatchRuntimes sends the full inventory, read from the API server, and then
// every change that the informer sees (hub.go, agent.go). PreviewUnit goes the way
// of Deploy and of the controller with an API server that stores nothing (preview.go).
// All services share one TCP port with the HTTP health paths (port.go), inside of TLS
// when there is a configuration for it (secure.go). Where the control plane cannot reach
// that port, they are also served on connections that it opens through those that the
// manager has made to it (ServeTunnel).
//
// Every replica of the manager answers every call; there is no leader on this
// side. What makes that safe is that all decisions are made on live reads and
// carried out under the resourceVersion they were made on.
//
// # Invariants
//
//   - The order (epoch, fence) that an object carries never falls. It is checked
//     here for a clear answer, and by the definition's transition rules at the
//     API server for certainty.
//   - A unit is never stored under a name that another deployment or control
//     plane holds.
//   - Once a delete with a delivery returned anything but an error, no message
//     with the same or a lower order creates the unit again. Tombstones in the
//     ConfigMap oaas-crm-state are what remembers that (agentstate.go).
//   - A delete that was overtaken by a newer change leaves the object alone.
//   - A stream never takes a reader back in time, and inventory_complete is only
//     sent after a list that the API server itself answered in full.
//   - A port with TLS answers nothing but its refusal to who comes without.
//   - While the API server is away, calls fail with UNAVAILABLE instead of
//     answering from what may be outdated. The server needs no restart to heal.
//
// # Codes
//
// INVALID_ARGUMENT names the field. FAILED_PRECONDITION is a message that came
// too late or contradicts what is stored, ALREADY_EXISTS another owner, ABORTED
// an object that is being deleted or moved too fast: retry. UNAVAILABLE is the
// API server, or a namespace or definition that it does not have: only its own word
// that an object is absent becomes NOT_FOUND. google.rpc.ErrorInfo carries a reason for programs.
package server
