package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// Result is one measured figure.
type Result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Bound is what is promised, in words: "<= 50".
	Bound string `json:"bound"`
	OK    bool   `json:"ok"`
	// Note says how it was measured.
	Note string `json:"note"`
}

// AtMost makes a result that is good up to bound.
func AtMost(name string, value, bound float64, unit, note string) Result {
	return Result{Name: name, Value: round(value), Unit: unit, Bound: fmt.Sprintf("<= %g", bound), OK: value <= bound, Note: note}
}

// Exactly makes a result that is good only at want.
func Exactly(name string, value, want float64, unit, note string) Result {
	return Result{Name: name, Value: round(value), Unit: unit, Bound: fmt.Sprintf("= %g", want), OK: value == want, Note: note}
}

// Info makes a result that only informs.
func Info(name string, value float64, unit, note string) Result {
	return Result{Name: name, Value: round(value), Unit: unit, OK: true, Note: note}
}

func round(v float64) float64 { return math.Round(v*1000) / 1000 }

// Quantile gives the q-quantile of the samples by the nearest-rank method, so
// that it is always one of them; 0 when there are none.
func Quantile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// WriteTable prints the results for people.
func WriteTable(w io.Writer, results []Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps what is written until Flush, which has the error
	_, _ = fmt.Fprintln(tw, "NAME\tVALUE\tUNIT\tBOUND\tOK\tNOTE")
	for _, r := range results {
		verdict := "yes"
		if !r.OK {
			verdict = "NO"
		}
		_, _ = fmt.Fprintf(tw, "%s\t%g\t%s\t%s\t%s\t%s\n", r.Name, r.Value, r.Unit, r.Bound, verdict, r.Note)
	}
	return tw.Flush()
}

// WriteJSON stores the results at path, making its directory.
func WriteJSON(path string, results []Result) error {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// Failed counts the results that miss their bound.
func Failed(results []Result) (n int) {
	for _, r := range results {
		if !r.OK {
			n++
		}
	}
	return n
}
