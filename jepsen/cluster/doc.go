// Package cluster runs the control plane for tests that break it: pmd and crm processes, agents that keep everything in
// memory, and clients, each on a host of its own (package netlab).
//
// Purpose: whoever breaks things wants to say "cut pm-2 off from pm-1 on the port of Raft", "kill all", "give everyone a new
// address", and not care about processes, ports and directories.
//
// Flow: Start makes a host per process, with its name: pm-1, crm-1, agent-1, kube-1 (the API server of crm-1, through a gate
// that plays its faults), and client, from which Client asks. Nodes address one another by these names, as by DNS in a real
// installation, so that Move changes addresses and nothing else. Everyone uses the same ports (PortRaft and so on), which is
// how a fault is limited to a protocol.
//
// Where namespaces cannot be made, hosts are addresses of loopback with a proxy in front of each server (Options.Loopback).
// That network breaks connections only: Faults says what it cannot do.
//
// Invariants:
//   - A node keeps its name, directory and command line through all of its restarts, so that a restart is a restart.
//   - A fault that cannot be made is an error (ErrUnavailable), never one that silently does nothing.
//   - Stop ends all processes, also paused ones, and then the network; nothing outlives this process even without it.
package cluster
