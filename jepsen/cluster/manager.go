package cluster

import (
	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/gate"
)

// Manager is a crm. Its environment has the same name.
type Manager struct {
	Server
}

// Gate stands before the manager's API server. It throttles and expires watches; what the network can do to the API server
// is done between the hosts Name and KubeHost.
func (m *Manager) Gate() *gate.Gate { return nil }

// KubeHost is the host on which the manager finds its API server.
func (m *Manager) KubeHost() string { return "" }

// Namespace of Kubernetes in which the manager works.
func (m *Manager) Namespace() string { return "" }

// Kubernetes is the cluster in which the manager works.
func (m *Manager) Kubernetes() Kubernetes { return Kubernetes{} }

// Agent is a manager in this process, on a host of its own. Its environment has the same name.
type Agent struct {
	*agent.Agent
}
