package discovery

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refused   *prometheus.CounterVec
	conflicts prometheus.Counter
	joins     *prometheus.CounterVec
}

// newMetrics makes the metrics of a member; role is "pm" or "crm" and part of
// their names.
func newMetrics(role string) *metrics {
	prefix := "oaas_" + role + "_gossip_"
	return &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "refused_total",
			Help: "Messages of members that were refused, by reason: malformed, full.",
		}, []string{"reason"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "conflicts_total",
			Help: "Times a member's name was claimed from another address.",
		}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "joins_total",
			Help: "Attempts to enter the pool through a configured address, by outcome: ok, failed, unresolved.",
		}, []string{"outcome"}),
	}
}

// register returns the function that undoes it, so that a member which was
// closed can be opened again in the same process.
func (m *metrics) register(r prometheus.Registerer, role string, t *table, score func() int) (func(), error) {
	if r == nil {
		return func() {}, nil
	}
	prefix := "oaas_" + role + "_gossip_"
	all := []prometheus.Collector{m.refused, m.conflicts, m.joins,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "health_score",
			Help: "How badly this node keeps up with gossip; 0 is healthy.",
		}, func() float64 { return float64(score()) }),
	}
	for _, of := range []string{"pm", "crm"} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        prefix + "members",
			Help:        "Live members of the pool as this node sees it, itself included, by role.",
			ConstLabels: prometheus.Labels{"role": of},
		}, func() float64 { return float64(t.count(of)) }))
	}
	var done []prometheus.Collector
	undo := func() {
		for _, c := range done {
			r.Unregister(c)
		}
	}
	var errs []error
	for _, c := range all {
		if err := r.Register(c); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, c)
	}
	if err := errors.Join(errs...); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}
