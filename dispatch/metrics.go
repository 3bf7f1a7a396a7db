package dispatch

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	pending  *prometheus.GaugeVec
	calls    *prometheus.HistogramVec
	updates  prometheus.Counter
	rejected *prometheus.CounterVec
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
		updates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_unit_updates_total", Help: "Unit updates that were committed.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_dispatch_candidates_rejected_total", Help: "Clusters that were found but not registered, by reason.",
		}, []string{"reason"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.pending, m.calls, m.updates, m.rejected} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) observe(cluster string, o outcome, took time.Duration) {
	name, result := "deploy", "ok"
	if o.do == remove {
		name = "delete"
	}
	if o.waiting != nil {
		result = o.waiting.GetCode()
	}
	m.calls.WithLabelValues(cluster, name, result).Observe(took.Seconds())
}

// reset forgets the gauges, which are only true while this node leads.
func (m *metrics) reset() { m.pending.Reset() }
