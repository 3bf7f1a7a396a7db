// Command crm is the Class Runtime Manager: one runs in each Kubernetes cluster,
// stores what a package manager sends as ClassRuntime objects, reconciles them
// into workloads and reports what became of them.
//
// This package parses settings, opens the ports, finds the cluster and starts the
// gossip that announces it. All work is in package crm.
package main
