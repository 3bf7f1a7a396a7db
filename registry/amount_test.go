package registry

import (
	"math"
	"testing"
)

func TestAmount(t *testing.T) {
	for text, want := range map[string]uint64{"500m": 500, "2": 2000, "0.0001": 1, "1e30": math.MaxUint64, "junk": 0} {
		if got := amount(&text, 1000); got != want {
			t.Errorf("%s is %d, want %d", text, got, want)
		}
	}
	if memory := "1.5Gi"; amount(&memory, 1) != 3<<29 || amount(nil, 1) != 0 {
		t.Errorf("%s is %d", memory, amount(&memory, 1))
	}
}
