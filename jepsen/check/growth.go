package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// GrowthBounds say how much more a process may use at rest after a run than before: Factor
// times as much, and what is given besides.
type GrowthBounds struct {
	Factor          float64
	Goroutines      int
	FileDescriptors int
	ResidentBytes   uint64
}

// DefaultGrowth leaves room for what a run has stored, and for connections that are not
// closed yet.
func DefaultGrowth() GrowthBounds {
	return GrowthBounds{Factor: 1.25, Goroutines: 60, FileDescriptors: 60, ResidentBytes: 256 << 20}
}

// AtRest is the median of what each node's process used, of the looks in a time.
func AtRest(h history.History, from, till time.Duration) (map[string]history.Status, error) {
	looks, err := looksOf(h)
	if err != nil {
		return nil, err
	}
	byNode := map[string][]history.Status{}
	for _, l := range looks {
		// A look that got no metrics counts for nothing.
		if l.Return >= from && l.Return <= till && l.status.Goroutines > 0 {
			byNode[l.Node] = append(byNode[l.Node], l.status)
		}
	}
	out := map[string]history.Status{}
	for node, all := range byNode {
		out[node] = history.Status{
			Reached: true, Ready: all[len(all)-1].Ready,
			Goroutines:      median(all, func(s history.Status) int { return s.Goroutines }),
			FileDescriptors: median(all, func(s history.Status) int { return s.FileDescriptors }),
			ResidentBytes:   median(all, func(s history.Status) uint64 { return s.ResidentBytes }),
			HeapBytes:       median(all, func(s history.Status) uint64 { return s.HeapBytes }),
		}
	}
	return out, nil
}

func median[T cmp.Ordered](all []history.Status, of func(history.Status) T) T {
	values := make([]T, len(all))
	for i, s := range all {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Growth says whether any process uses much more at rest after a run than before. A node
// that is only in one of the two is counted, and not judged.
func Growth(before, after map[string]history.Status, b GrowthBounds) Verdict {
	f := newFindings("growth")
	for _, node := range slices.Sorted(maps.Keys(after)) {
		was, ok := before[node]
		if !ok {
			f.count("nodes without a look before", 1)
			continue
		}
		is := after[node]
		f.count("nodes", 1)
		grew := func(what string, was, is, room float64) {
			if is > was*b.Factor+room {
				f.violation(Violation{What: what + " grew", Key: node, Detail: fmt.Sprintf("from %.0f to %.0f", was, is)})
			}
		}
		grew("goroutines", float64(was.Goroutines), float64(is.Goroutines), float64(b.Goroutines))
		grew("file descriptors", float64(was.FileDescriptors), float64(is.FileDescriptors), float64(b.FileDescriptors))
		grew("resident memory", float64(was.ResidentBytes), float64(is.ResidentBytes), float64(b.ResidentBytes))
	}
	if f.counts["nodes"] == 0 {
		f.violation(Violation{What: "nothing observed", Detail: "no node was looked at both before and after"})
	}
	return f.verdict()
}
