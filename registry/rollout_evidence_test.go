package registry_test

import (
	"context"
	"testing"
	"time"

	"oaas.io/control-plane/proto/pmpb"
)

// A new leader that has heard nothing yet (its patience lies ahead) must not begin a wave on
// what the leader before it was told.
func TestNewLeaderBeginsNoWaveOnOldEvidence(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.running("e1")
	s.later(time.Hour) // nobody leads: nothing is heard of e1
	s.term = s.store.NextTerm()
	got, err := s.AdvanceRollout(context.Background(), s.term, "shop.Cart", s.now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if got.Stepped {
		t.Errorf("the wave after the canary has begun on evidence that is an hour old: %s", s.images())
	}
}

// Clusters that cannot be reached do not count on the way back.
func TestRollbackDoesNotWaitForALostCluster(t *testing.T) {
	for _, health := range []pmpb.ClusterHealth{pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE} {
		t.Run(health.String(), func(t *testing.T) {
			s := started(t, careful)
			s.level(7)
			s.advance()
			s.refuses("e1")
			s.health("e3", health)
			s.advance()
			s.phase(rollingBack)
			s.running("e1")
			s.later(time.Minute)
			s.advance()
			s.later(11 * time.Minute)
			s.advance()
			s.phase(rolledBack)
			s.want("1 1 1")
		})
	}
}
