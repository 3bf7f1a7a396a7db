package controller

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"oaas.io/control-plane/crm/api/v1alpha1"
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
	runtimes    *prometheus.GaugeVec

	mu     sync.Mutex
	phases map[types.NamespacedName]v1alpha1.Phase
}

// NewMetrics makes and registers the metrics; a nil registerer leaves them
// unregistered.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		phases: map[types.NamespacedName]v1alpha1.Phase{},
		runtimes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_crm_class_runtimes", Help: "Class runtimes that this replica reconciles, by phase.",
		}, []string{"phase"}),
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
	m.restart()
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.applies, m.deletes, m.statuses, m.transitions, m.available, m.failures, m.runtimes} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the crm controller: %w", err)
		}
	}
	return m, nil
}

// seen counts a class runtime under its phase; none is one that is gone.
func (m *Metrics) seen(key types.NamespacedName, phase v1alpha1.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, known := m.phases[key]
	if known && before == phase || !known && phase == "" {
		return
	}
	if known {
		m.runtimes.WithLabelValues(string(before)).Dec()
		delete(m.phases, key)
	}
	if phase != "" {
		m.phases[key] = phase
		m.runtimes.WithLabelValues(string(phase)).Inc()
	}
}

// restart forgets what an earlier run of the controller counted: it may have lost its
// leadership since.
func (m *Metrics) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phases = map[types.NamespacedName]v1alpha1.Phase{}
	for _, phase := range phases {
		m.runtimes.WithLabelValues(string(phase)).Set(0)
	}
}

// phases have a gauge each, also while no class is in them.
var phases = []v1alpha1.Phase{
	v1alpha1.PhasePending, v1alpha1.PhaseApplying, v1alpha1.PhaseProgressing, v1alpha1.PhaseAvailable, v1alpha1.PhaseDegraded, v1alpha1.PhaseDeleting,
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
