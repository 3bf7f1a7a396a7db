package template

import (
	"math"
	"strings"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// demand is the requirements as the scores read them. Percentages are compared
// as 32-bit numbers, because that is how they travel.
type demand struct {
	rps, latencyMS uint32
	availability   float32
	strong         bool
}

func demandOf(nfr *v1alpha1.NfrRequirements) (demand, bool) {
	d := demand{latencyMS: math.MaxUint32, availability: 99}
	if nfr == nil {
		return d, false
	}
	if nfr.MinThroughputRPS != nil {
		d.rps = *nfr.MinThroughputRPS
	}
	if nfr.MaxLatencyMS != nil {
		d.latencyMS = *nfr.MaxLatencyMS
	}
	if nfr.AvailabilityPct != nil {
		d.availability = float32(*nfr.AvailabilityPct)
	}
	d.strong = nfr.Consistency == "strong"
	return d, true
}

func (e Environment) profileIs(names ...string) bool {
	for _, name := range names {
		if strings.EqualFold(e.Profile, name) {
			return true
		}
	}
	return false
}

func scoreDev(env Environment, _ *v1alpha1.NfrRequirements) int {
	switch {
	case env.profileIs("dev"):
		return 1_000_000
	case env.Edge:
		return 10
	}
	return -10
}

func scoreEdge(env Environment, nfr *v1alpha1.NfrRequirements) int {
	score := 0
	if env.profileIs("edge") || env.Edge {
		score = 1_000_000
	}
	d, ok := demandOf(nfr)
	if !ok {
		return score
	}
	if d.rps >= 300 {
		score += 2
	}
	if d.latencyMS <= 150 {
		score += 2
	}
	if d.availability >= 99.9 {
		score++
	}
	return score
}

// scoreKnative never chooses Knative where all pods have what it takes only with features
// that are off by default: it would refuse every class.
func scoreKnative(env Environment, nfr *v1alpha1.NfrRequirements) int {
	score := 100_000
	switch pods := env.Pods; {
	case len(pods.NodeSelector) > 0 || len(pods.Tolerations) > 0 || pods.PriorityClass != "":
		return -100
	case env.Datacenter || env.profileIs("full", "prod", "production"):
		score = 900_000
	case env.Edge || env.profileIs("edge"):
		score = 600_000
	}
	if d, ok := demandOf(nfr); ok {
		if d.rps >= 500 {
			score += 2
		}
		if d.latencyMS <= 100 {
			score += 2
		}
	}
	return score
}

// scoreK8sDeployment prefers this template for the production profiles even
// when nothing says that the cluster stands in a datacenter: a production
// class must not end up with the edge template for want of a flag.
func scoreK8sDeployment(env Environment, nfr *v1alpha1.NfrRequirements) int {
	score := 0
	switch {
	case env.profileIs("k8s_deployment"):
		score = 800_000
	case env.Datacenter:
		score = 600_000
	case env.profileIs("full", "prod", "production"):
		score = 500_000
	}
	d, ok := demandOf(nfr)
	if !ok {
		return score
	}
	if d.rps >= 1500 {
		score += 3
	}
	if d.latencyMS <= 50 {
		score += 3
	}
	if d.availability >= 99.95 {
		score += 2
	}
	if d.strong {
		score += 2
	}
	return score
}
