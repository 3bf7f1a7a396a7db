package cluster

import (
	"sync/atomic"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/gate"
)

// Manager is a crm. Its environment has the same name.
type Manager struct {
	Server
	gate       *gate.Gate
	kubeHost   string
	namespace  string
	kubernetes Kubernetes
}

// Gate stands before the manager's API server. It throttles and expires watches; what the network can do to the API server
// is done between the hosts Name and KubeHost.
func (m *Manager) Gate() *gate.Gate { return m.gate }

// KubeHost is the host on which the manager finds its API server.
func (m *Manager) KubeHost() string { return m.kubeHost }

// Namespace of Kubernetes in which the manager works.
func (m *Manager) Namespace() string { return m.namespace }

// Kubernetes is the cluster in which the manager works.
func (m *Manager) Kubernetes() Kubernetes { return m.kubernetes }

// Agent is a manager in this process, on a host of its own. Its environment has the same name.
type Agent struct {
	*agent.Agent
	place    place
	faithful bool
	// unplugged says that it was taken off the network.
	unplugged atomic.Bool
}

// HostAddress is that of the agent's host, without a port.
func (a *Agent) HostAddress() string { return a.place.address() }

// Plug serves again, with all that the agent has.
func (a *Agent) Plug() error {
	if err := a.Agent.Plug(); err != nil {
		return err
	}
	a.unplugged.Store(false)
	return nil
}

// Unplug cuts all connections and refuses new ones, as the end of a process does.
func (a *Agent) Unplug() error {
	a.unplugged.Store(true)
	return a.Agent.Unplug()
}

// Plugged reports whether the agent serves.
func (a *Agent) Plugged() bool { return !a.unplugged.Load() }
