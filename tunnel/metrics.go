package tunnel

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// hubMetrics are those of a package manager node. None has a label that agents choose.
type hubMetrics struct {
	connects  prometheus.Counter
	refused   *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	dials     *prometheus.CounterVec
	moved     prometheus.Counter
	bytes     *prometheus.CounterVec
}

func newHubMetrics(reg prometheus.Registerer, counts func() (connections, waiting, active int)) (*hubMetrics, error) {
	m := &hubMetrics{
		connects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_agent_connects_total", Help: "Connections that agents have made to this node.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_agent_refused_total", Help: "Agents that were refused, or sent away later, by reason.",
		}, []string{"reason"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_agent_conflicts_total",
			Help: "Agents that came while another one was connected under the same name: a further instance of the cluster, or another cluster.",
		}, []string{"kind"}),
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_agent_dials_total", Help: "Connections to agents that this node has opened or tried to, by route (local, or through another node) and outcome.",
		}, []string{"route", "outcome"}),
		moved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_agent_moved_total", Help: "Connections of this node that were closed to be opened again to a newer instance of the agent.",
		}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_agent_bytes_total", Help: "Bytes to and from agents that are connected to this node, and those relayed for other nodes among them.",
		}, []string{"direction"}),
	}
	for reason := range refusalCodes {
		m.refused.WithLabelValues(reason) // all are there from the start, so that a rate can be taken
	}
	gauge := func(name, help string, pick func(connections, waiting, active int) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(pick(counts())) })
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.connects, m.refused, m.conflicts, m.dials, m.moved, m.bytes,
		gauge("oaas_pm_agent_connections", "Connections of agents to this node.", func(c, _, _ int) int { return c }),
		gauge("oaas_pm_agent_streams_waiting", "Streams of agents that can be taken for a connection.", func(_, w, _ int) int { return w }),
		gauge("oaas_pm_agent_streams_active", "Streams of agents that carry a connection.", func(_, _, a int) int { return a }),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *hubMetrics) traffic() traffic {
	return traffic{sent: m.bytes.WithLabelValues("sent"), received: m.bytes.WithLabelValues("received")}
}

// agentMetrics are those of an agent.
type agentMetrics struct {
	connected prometheus.Gauge
	connects  *prometheus.CounterVec
	active    prometheus.Gauge
	bytes     *prometheus.CounterVec
}

// Outcomes of an agent's attempt to connect.
const (
	outcomeConnected = "connected"
	outcomeRefused   = "refused"
	outcomeFailed    = "failed"
)

func newAgentMetrics() *agentMetrics {
	m := &agentMetrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_crm_control_plane_connections", Help: "Connections to the control plane that stand.",
		}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_control_plane_connects_total", Help: "Attempts to connect to the control plane by outcome: connected, refused, failed.",
		}, []string{"outcome"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_crm_control_plane_streams_active", Help: "Connections that the control plane has opened through them.",
		}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_control_plane_bytes_total", Help: "Bytes to and from the control plane.",
		}, []string{"direction"}),
	}
	for _, outcome := range []string{outcomeConnected, outcomeRefused, outcomeFailed} {
		m.connects.WithLabelValues(outcome)
	}
	return m
}

func (m *agentMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.connected, m.connects, m.active, m.bytes}
}

func (m *agentMetrics) traffic() traffic {
	return traffic{sent: m.bytes.WithLabelValues("sent"), received: m.bytes.WithLabelValues("received")}
}
