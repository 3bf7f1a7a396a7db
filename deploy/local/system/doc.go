// Package system runs the whole product on loopback: Package Manager nodes (pmd) and one Class Runtime Manager (crm) per
// Kubernetes cluster, as separate processes that can be killed and brought back one by one.
//
// Purpose: the demo, the smoke test, integration and chaos tests all need the same real system, and all need to break it.
//
// Flow: Start leases the ports, writes a directory per process (data, settings, log), starts every process and waits until
// every node is ready and every cluster is known. The nodes get no list of clusters: a crm announces itself by gossip,
// which is encrypted with a key made for this system, or connects to the nodes itself where its cluster is at an edge.
//
// Invariants:
//   - A process keeps its ports, data and command line for the life of the System, so that a restart is a restart and not a
//     new member.
//   - The processes see a minimal environment: settings in the developer's shell do not change a test.
//   - No process outlives this one (package process). Stop ends them all, and removes the directory if Start had made it.
package system
