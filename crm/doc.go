// Package crm is the Class Runtime Manager: what runs in every Kubernetes cluster
// and turns what a package manager sends into workloads.
//
// # Flow
//
// Run wires three parts. Package server answers the package manager over gRPC and
// stores units as ClassRuntime objects. Package controller reconciles those
// objects into Deployments and Services and writes their status; package template
// renders, package lifecycle judges, both without I/O. This package keeps them
// alive: a probe watches the API server, and a supervisor prepares the cluster
// (definition, namespace), starts the caches and the controller, hands them to
// the server, and starts all of that anew when it ends.
//
// # Invariants
//
//   - The gRPC port answers from the first moment on. Without an API server it
//     says so; it does not refuse connections and the process does not exit.
//   - The manager reads and writes one namespace. Beyond it, it reads nodes and
//     the kube-system namespace, and does without nodes if it may not.
//   - It knows nothing of the package manager but the messages in proto.
//   - When Run returns, every goroutine it started has ended.
package crm
