package scheduler

import (
	"fmt"
	"slices"
	"strings"
)

// autoscalers are the capabilities of clusters that have something that adds pods to a
// function, and takes them away, within its bounds.
var autoscalers = []string{"hpa", "knative"}

// withoutAutoscaler says which of the chosen clusters cannot make use of functions' upper
// bounds; empty when all can, or no function has room. A cluster that reports no capability
// at all may have any.
func withoutAutoscaler(spec *Spec, picked *selection) string {
	var elastic, lacking []string
	for i := range spec.Functions {
		if f := &spec.Functions[i]; f.Most > max(f.Least, 1) {
			elastic = append(elastic, f.Key)
		}
	}
	if len(elastic) == 0 {
		return ""
	}
	for i := range picked.chosen {
		c := picked.chosen[i].cluster
		if len(c.Capabilities) > 0 && !slices.ContainsFunc(autoscalers, func(name string) bool { return slices.Contains(c.Capabilities, name) }) {
			lacking = append(lacking, c.Name)
		}
	}
	if len(lacking) == 0 {
		return ""
	}
	return fmt.Sprintf("the max_scale of %s has no effect in %s, which %s no autoscaler: the pods stay at min_scale",
		named(elastic), named(lacking), map[bool]string{true: "has", false: "have"}[len(lacking) == 1])
}

// named lists names, the first few of many.
func named(names []string) string {
	const shown = 5
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ")
}
