package bench

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, time.Duration(i))
	}
	tests := []struct {
		samples []time.Duration
		q       float64
		want    time.Duration
	}{
		{nil, 0.5, 0}, {[]time.Duration{7}, 0.99, 7}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]time.Duration{3, 1, 2}, 0.99, 3},
	}
	for _, tc := range tests {
		if got := Quantile(tc.samples, tc.q); got != tc.want {
			t.Errorf("Quantile(%d samples, %g) = %d, want %d", len(tc.samples), tc.q, got, tc.want)
		}
	}
}

func TestBounds(t *testing.T) {
	if !AtMost("a", 5, 5, "ms", "").OK || AtMost("a", 5.1, 5, "ms", "").OK || Exactly("a", 1, 0, "", "").OK {
		t.Error("a bound is not held against its value")
	}
	if Failed([]Result{AtMost("a", 6, 5, "", ""), Info("b", 1, "", "")}) != 1 {
		t.Error("a missed bound is not counted")
	}
}
