package dispatch

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	pending   *prometheus.GaugeVec
	calls     *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	breaker   *prometheus.GaugeVec
	opened    *prometheus.CounterVec
	throttled *prometheus.CounterVec
	unknown   *prometheus.GaugeVec
	strays    *prometheus.GaugeVec
	buried    *prometheus.CounterVec
	lost      *prometheus.CounterVec
	sessions  *prometheus.CounterVec
	updates   prometheus.Counter
	rejected  *prometheus.CounterVec
	state     *prometheus.GaugeVec
	probes    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_dispatch_pending_units", Help: "Units whose wish the cluster has not confirmed, by cluster. Set on the leader only.",
		}, []string{"cluster"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "oaas_pm_dispatch_call_duration_seconds", Help: "Duration of Deploy and Delete calls to clusters.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}, []string{"cluster", "call", "result"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_pm_dispatch_calls_in_flight", Help: "Deploy and Delete calls to all clusters that are under way.",
		}),
		breaker: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_dispatch_breaker_state", Help: "Circuit breaker of calls to a cluster: 0 closed, 1 half-open, 2 open. Set on the leader only.",
		}, []string{"cluster"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_breaker_opened_total", Help: "Times that the circuit breaker of a cluster opened.",
		}, []string{"cluster"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_throttled_total", Help: "Times that a cluster was not listened to for a while because it reports too much.",
		}, []string{"cluster"}),
		unknown: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_dispatch_unknown_runtimes", Help: "Runtimes in a cluster's last inventory that the control plane does not know. Set on the leader only.",
		}, []string{"cluster"}),
		strays: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_dispatch_strays", Help: "Runtimes of this control plane that a cluster has and that nothing wants, at most 256. Set on the leader only.",
		}, []string{"cluster"}),
		buried: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_strays_removed_total", Help: "Runtimes that nothing wanted and whose removal was decided.",
		}, []string{"cluster"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_units_lost_total", Help: "Units that a cluster had confirmed and then no longer had, so that they were sent again.",
		}, []string{"cluster"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_sessions_ended_total", Help: "Sessions with clusters that ended, by reason.",
		}, []string{"cluster", "reason"}),
		updates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_unit_updates_total", Help: "Unit updates that were committed.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_candidates_rejected_total", Help: "Clusters that were found but not registered, by reason.",
		}, []string{"reason"}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_dispatch_cluster_state", Help: "1 for the state that a cluster is in. Set on the leader only.",
		}, []string{"cluster", "state"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_observations_total", Help: "Attempts of other nodes to reach clusters that the leader does not: reached, missed, failed when none could say.",
		}, []string{"outcome"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.pending, m.calls, m.inFlight, m.breaker, m.opened, m.throttled, m.unknown, m.strays, m.buried, m.lost, m.sessions, m.updates, m.rejected, m.state, m.probes} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) observe(cluster string, o outcome, took time.Duration) {
	name, result := "deploy", "ok"
	if o.do == remove || o.do == clearFirst {
		name = "delete"
	}
	if o.waiting != nil {
		result = o.waiting.GetCode()
	}
	m.calls.WithLabelValues(cluster, name, result).Observe(took.Seconds())
}

// ended counts a session.
func (m *metrics) ended(cluster string, cause error) {
	var breach *protocolError
	reason := "broken"
	switch {
	case errors.As(cause, &breach):
		reason = "protocol"
	case errors.Is(cause, errSilent):
		reason = "silent"
	case errors.Is(cause, errEndless):
		reason = "endless"
	case errors.Is(cause, errOtherCluster):
		reason = "identity"
	}
	m.sessions.WithLabelValues(cluster, reason).Inc()
}

// forget forgets the gauges of a cluster, which are only true while this node leads
// and looks after it.
func (m *metrics) forget(cluster string) {
	for _, g := range []*prometheus.GaugeVec{m.pending, m.breaker, m.unknown, m.strays} {
		g.DeleteLabelValues(cluster)
	}
	m.state.DeletePartialMatch(prometheus.Labels{"cluster": cluster})
}

// in notes the state of a cluster.
func (m *metrics) in(cluster, state string) {
	m.state.DeletePartialMatch(prometheus.Labels{"cluster": cluster})
	m.state.WithLabelValues(cluster, state).Set(1)
}
