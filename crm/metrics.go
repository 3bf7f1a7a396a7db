package crm

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// withoutProcess drops the families that our own registry has already: the
// controller library keeps a registry of its own with the same collectors.
type withoutProcess struct {
	prometheus.Gatherer
}

// Gather implements prometheus.Gatherer.
func (g withoutProcess) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.Gatherer.Gather()
	kept := families[:0]
	for _, family := range families {
		if name := family.GetName(); !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			kept = append(kept, family)
		}
	}
	return kept, err
}
