// Package v1alpha1 holds the Go types of the ClassRuntime custom resource,
// group oaas.io, version v1alpha1.
//
// A ClassRuntime is what one cluster runs of one class: its container and
// WASM functions and the object store (ODGM) beside them. A package manager
// delivers it over gRPC; the Class Runtime Manager reconciles it into
// workloads and reports in its status.
//
// # Compatibility
//
// An object that an oaas-rs manager wrote is valid here: the members of that
// schema keep their snake_case names, their types and their nullability.
// Members that this implementation adds are all optional, so the same stored
// objects can be read by either implementation:
//
//   - spec.delivery orders and attributes the changes of one object,
//   - spec.pods says what the pods of one class have besides what their cluster gives all,
//   - status.observedGeneration, the kstatus condition types and the
//     per-function replica counts let generic tools judge an object.
//
// # Invariants guarded by the API server
//
// The transition rules on spec.delivery are evaluated by the API server on
// every update, so they hold even when a manager is wrong or late: the pair
// (epoch, fence) never falls, the same pair never carries another content
// hash, the identity (unit, deployment uid, control plane) never changes, and
// a delivery never disappears. They cannot cover creation or deletion, which
// have no old object; the delivery server guards those.
//
// # Rules for this package
//
// It imports nothing but apimachinery, so that any client may import it.
// Every list and string that a rule reads has a bound, because the API server
// estimates the cost of a rule from those bounds when the definition is
// installed. Numbers are bounded by what their Go type can decode: an object
// that the API server stores but a client cannot decode would stop every
// informer of the kind.
//
// +kubebuilder:object:generate=true
// +groupName=oaas.io
package v1alpha1

//go:generate controller-gen object crd:allowDangerousTypes=true paths=. output:crd:dir=../../../deploy/crd
