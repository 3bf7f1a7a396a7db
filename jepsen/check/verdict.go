package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oaas.io/control-plane/jepsen/history"
)

// maxViolations bounds what a verdict lists. Counts has how many there are.
const maxViolations = 50

// Violation is something that must not happen and did.
type Violation struct {
	// What names the kind of it, the same for all of that kind.
	What string `json:"what"`
	// Key is the object, node, cluster or follower that it is about.
	Key string `json:"key,omitempty"`
	// Operations are the ids of those that show it.
	Operations []int  `json:"operations,omitempty"`
	Detail     string `json:"detail,omitempty"`
}

func (v Violation) String() string {
	text := v.What
	if v.Key != "" {
		text += " (" + v.Key + ")"
	}
	if v.Detail != "" {
		text += ": " + v.Detail
	}
	if len(v.Operations) > 0 {
		text += fmt.Sprintf(" %v", v.Operations)
	}
	return text
}

// Verdict is what a checker found.
type Verdict struct {
	Name string `json:"name"`
	// OK says that it looked, and that nothing is wrong.
	OK bool `json:"ok"`
	// Detail is the whole in one line.
	Detail     string      `json:"detail"`
	Violations []Violation `json:"violations,omitempty"`
	// Counts say what was looked at.
	Counts map[string]int `json:"counts,omitempty"`
	// Undecided are the keys that could not be judged in time.
	Undecided []string `json:"undecided,omitempty"`
	// Pictures of what is wrong; see Picture.
	Pictures []Picture `json:"-"`
}

func (v Verdict) String() string {
	out := "ok   "
	if !v.OK {
		out = "FAIL "
	}
	out += v.Name + ": " + v.Detail
	for _, one := range v.Violations {
		out += "\n       " + one.String()
	}
	return out
}

// findings collects a verdict.
type findings struct {
	name       string
	violations []Violation
	counts     map[string]int
	total      int
}

func newFindings(name string) *findings { return &findings{name: name, counts: map[string]int{}} }

func (f *findings) count(what string, n int) { f.counts[what] += n }

func (f *findings) violation(v Violation) {
	f.total++
	if len(f.violations) < maxViolations {
		f.violations = append(f.violations, v)
	}
}

func (f *findings) verdict() Verdict {
	v := Verdict{Name: f.name, OK: f.total == 0, Violations: f.violations, Counts: f.counts}
	parts := []string{}
	for _, what := range slices.Sorted(maps.Keys(f.counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", f.counts[what], what))
	}
	v.Detail = strings.Join(parts, ", ")
	if f.total > 0 {
		kinds := map[string]int{}
		for _, one := range f.violations {
			kinds[one.What]++
		}
		what := []string{}
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			what = append(what, fmt.Sprintf("%d × %s", kinds[kind], kind))
		}
		v.Detail = fmt.Sprintf("%d violations (%s); %s", f.total, strings.Join(what, ", "), v.Detail)
		f.counts["violations"] = f.total
	}
	return v
}

// entry is an operation with its input and output decoded.
type entry struct {
	history.Operation
	request history.Request
	answer  history.Answer
}

// entries gives the operations of the workloads that are requests about one object.
func entries(h history.History, workloads ...string) ([]entry, error) {
	var out []entry
	for i := range h.Operations {
		op := &h.Operations[i]
		if !slices.Contains(workloads, op.Workload) || op.Kind == history.Follow || op.Kind == history.Look {
			continue
		}
		e := entry{Operation: *op}
		var err error
		if e.request, err = history.As[history.Request](op.Input); err != nil {
			return nil, fmt.Errorf("check: operation %d: %w", op.ID, err)
		}
		if e.answer, err = history.As[history.Answer](op.Output); err != nil {
			return nil, fmt.Errorf("check: operation %d: %w", op.ID, err)
		}
		out = append(out, e)
	}
	return out, nil
}

// broken is the verdict on a history that cannot be read.
func broken(name string, err error) Verdict {
	raw, _ := json.Marshal(err.Error()) // a text: cannot fail
	return Verdict{Name: name, Detail: "the history cannot be judged: " + string(raw), Violations: []Violation{{What: "unreadable history", Detail: err.Error()}}}
}

// isWrite says that an operation of the kind changes something.
func isWrite(kind string) bool {
	switch kind {
	case history.Create, history.Write, history.Put, history.CAS, history.Delete:
		return true
	default:
		return false
	}
}
