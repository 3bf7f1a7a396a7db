package controller

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of applying one child.
const (
	applyWritten  = "applied"
	applySkipped  = "skipped"
	applyConflict = "conflict"
	applyTaken    = "taken"
	applyFailed   = "error"
)

// Metrics of the controller. One value serves every run of the controller in a
// process.
type Metrics struct {
	applies     *prometheus.CounterVec
	deletes     *prometheus.CounterVec
	statuses    prometheus.Counter
	transitions *prometheus.CounterVec
	available   prometheus.Histogram
	failures    *prometheus.CounterVec
}

// NewMetrics makes and registers the metrics; a nil registerer leaves them
// unregistered.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_child_applies_total",
			Help: "Children looked at, by kind and outcome: applied, skipped because nothing changed, conflict, taken, error.",
		}, []string{"kind", "outcome"}),
		deletes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_child_deletes_total", Help: "Children deleted, by kind and cause: pruned or owner deleted.",
		}, []string{"kind", "cause"}),
		statuses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_crm_status_writes_total", Help: "Writes of the status of class runtimes.",
		}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_phase_transitions_total", Help: "Changes of phase by the new phase and the reason.",
		}, []string{"phase", "reason"}),
		available: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "oaas_crm_time_to_available_seconds", Help: "Time from the creation of a class runtime to its first Available.",
			Buckets: prometheus.ExponentialBuckets(0.25, 2, 12),
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_crm_reconcile_errors_total", Help: "Reconciliations that have to be tried again, by reason.",
		}, []string{"reason"}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.applies, m.deletes, m.statuses, m.transitions, m.available, m.failures} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the crm controller: %w", err)
		}
	}
	return m, nil
}

func applyOutcome(err error) string {
	var conflict *ConflictError
	var taken *TakenError
	switch {
	case err == nil:
		return applyWritten
	case errors.As(err, &conflict):
		return applyConflict
	case errors.As(err, &taken):
		return applyTaken
	}
	return applyFailed
}
