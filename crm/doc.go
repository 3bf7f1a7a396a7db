// Package crm is the Class Runtime Manager: what runs in every Kubernetes cluster
// and turns what a package manager sends into workloads.
//
// # Flow
//
// Run wires four parts. Package server answers the package manager over gRPC and
// stores units as ClassRuntime objects. Package controller reconciles those
// objects into Deployments, Services, autoscalers or Knative Services and writes
// their status; package template renders, package lifecycle judges, both without
// I/O. Package presence knows which optional APIs the cluster has at the moment.
// This package keeps them alive: a probe watches the API server, and a supervisor prepares the cluster
// (definition, namespace), starts the caches and the controller, hands them to
// the server, and starts all of that anew when it ends.
//
// # Invariants
//
//   - The gRPC port answers from the first moment on. Without an API server it
//     says so; it does not refuse connections and the process does not exit.
//   - The manager reads and writes one namespace. Beyond it, it reads nodes, the
//     kube-system namespace and the definition of Knative Services, and does
//     without nodes and definition if it may not.
//   - An optional API that comes or goes restarts nothing.
//   - It knows nothing of the package manager but the messages in proto. How to reach a
//     control plane that cannot reach it is the business of whoever gives it a Tunnel.
//   - When Run returns, every goroutine it started has ended.
package crm
