package scheduler_test

import (
	"math"
	"testing"

	"oaas.io/control-plane/scheduler"
)

func TestLoss(t *testing.T) {
	p := .9
	fleet, err := scheduler.Prepare([]scheduler.Cluster{
		{Name: "a", Availability: &p}, {Name: "b", Availability: &p}, {Name: "c", Availability: &p},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		kind    scheduler.Kind
		up      []string
		members int
		want    float64
	}{
		{scheduler.Quorum, []string{"a", "b", "c"}, 3, 1 - .972},
		{scheduler.Quorum, []string{"a", "b"}, 3, 1 - .81},
		{scheduler.Quorum, []string{"a", "b", "c"}, 4, 1 - .729},
		{scheduler.Quorum, []string{"a", "gone"}, 3, 1},
		{scheduler.Quorum, nil, 3, 1},
		{scheduler.Stateless, []string{"a", "b"}, 5, .01},
		{scheduler.Eventual, []string{"a"}, 1, .1},
		{scheduler.Eventual, nil, 0, 1},
	} {
		if got := fleet.Loss(tt.kind, tt.up, tt.members); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("%s with %v of %d: %v, want %v", tt.kind, tt.up, tt.members, got, tt.want)
		}
	}
}
