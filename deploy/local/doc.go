// Package local builds and runs a real Kubernetes control plane on this machine, from Go modules alone.
//
// Purpose: development, the demo and all integration tests need Kubernetes clusters that behave like real ones, on a machine
// that has only Go. etcd, kube-apiserver, kube-controller-manager and kube-scheduler are Kubernetes' own programs; only the
// kubelets (and so the containers) are simulated, by kwok and the stages in this package.
//
// Flow: Build compiles the programs of the nested module `kubernetes/` (package nested). Start makes keys, starts the processes on leased loopback ports, creates the Nodes and waits until pods can be made. A
// Cluster can then be paused, crashed and brought back, which is how tests take a whole cluster away.
//
// Invariants:
//   - Everything listens on 127.0.0.1 only. Keys are made per cluster, the kubeconfig is readable by its owner alone.
//   - No process outlives this one (package process), no port is given to two clusters (package port).
//   - The state of a cluster is thrown away by Stop. A directory that a killed process left behind is removed by the next
//     Start of the same user.
//   - Waiting is always for a condition with the context as its limit, and ends at once when a process dies; the error then
//     carries the end of that process' log.
package local
