package backup

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	last     *lastBackup
	failures prometheus.Counter
	bytes    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, now func() time.Time) (*metrics, error) {
	m := &metrics{
		last:     &lastBackup{},
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "oaas_pm_backup_failures_total", Help: "Backups, and looks for the last one, that failed on this node."}),
		bytes:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "oaas_pm_backup_bytes", Help: "Size of the last backup that this node made."}),
	}
	at := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oaas_pm_backup_last_success_timestamp_seconds",
		Help: "When the state was last known to be kept: a verified backup, or the proof that the last one is up to date. 0: never, as far as this node knows; only the leader looks.",
	}, func() float64 {
		if t := m.last.get(); !t.IsZero() {
			return float64(t.UnixMilli()) / 1000
		}
		return 0
	})
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oaas_pm_backup_last_success_age_seconds", Help: "Age of that. 0 when there is none.",
	}, func() float64 {
		if t := m.last.get(); !t.IsZero() {
			return now().Sub(t).Seconds()
		}
		return 0
	})
	for _, c := range []prometheus.Collector{m.failures, m.bytes, at, age} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("backup: registering metrics: %w", err)
		}
	}
	return m, nil
}

// lastBackup is what this node knows of the last backup.
type lastBackup struct {
	mu sync.Mutex
	at time.Time
}

func (l *lastBackup) note(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.After(l.at) {
		l.at = at
	}
}

func (l *lastBackup) get() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}
