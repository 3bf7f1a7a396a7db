package scheduler

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"oaas.io/control-plane/scheduler/availability"
)

// scored is a feasible cluster with what it is worth.
type scored struct {
	feasible
	// p is the availability to calculate with.
	p       float64
	assumed bool
	// leaf is the cluster's number in the model.
	leaf int
	// ticket orders equal clusters differently for every deployment.
	ticket [sha256.Size]byte
}

// score values the clusters without ordering them.
func score(passed []feasible, spec Spec) []scored {
	out := make([]scored, len(passed))
	for i, f := range passed {
		out[i] = scored{feasible: f, p: AssumedAvailability, assumed: true, ticket: ticket(spec.Key, f.cluster.Name)}
		if a := f.cluster.Availability; a != nil && availability.Valid(*a) {
			out[i].p, out[i].assumed = *a, false
		}
	}
	return out
}

// rank orders the clusters, best first. The order is total, so it does not
// depend on the order they came in.
func rank(all []scored) {
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(
			cmp.Compare(b.p, a.p),
			compareBool(b.current, a.current),
			cmp.Compare(a.preference, b.preference),
			bytes.Compare(a.ticket[:], b.ticket[:]),
			strings.Compare(a.cluster.Name, b.cluster.Name),
		)
	})
}

func ticket(key, cluster string) (out [sha256.Size]byte) {
	h := sha256.New()
	writeField(h, key)
	writeField(h, cluster)
	h.Sum(out[:0])
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
