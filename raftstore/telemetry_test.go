package raftstore

import (
	"strings"
	"testing"

	gometrics "github.com/hashicorp/go-metrics/compat"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTelemetrySink(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s, err := newTelemetrySink(reg)
	if err != nil {
		t.Fatal(err)
	}
	s.IncrCounter([]string{"raft", "apply"}, 2)
	s.SetGauge([]string{"raft", "leader", "oldestLogAge"}, 7)
	s.IncrCounterWithLabels([]string{"raft", "replication", "appendEntries", "logs"}, 3, []gometrics.Label{{Name: "peer_id", Value: "p"}})
	s.AddSample([]string{"raft", "commitTime"}, 2000)
	s.IncrCounter([]string{"raft", "unheard", "of"}, 1)
	want := `
# HELP oaas_pm_raft_apply_total Raft library: raft.apply.
# TYPE oaas_pm_raft_apply_total counter
oaas_pm_raft_apply_total 2
# HELP oaas_pm_raft_leader_oldest_log_age Raft library: raft.leader.oldestLogAge.
# TYPE oaas_pm_raft_leader_oldest_log_age gauge
oaas_pm_raft_leader_oldest_log_age 7
# HELP oaas_pm_raft_replication_append_entries_logs_total Raft library: raft.replication.appendEntries.logs.
# TYPE oaas_pm_raft_replication_append_entries_logs_total counter
oaas_pm_raft_replication_append_entries_logs_total{peer_id="p"} 3
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "oaas_pm_raft_apply_total",
		"oaas_pm_raft_leader_oldest_log_age", "oaas_pm_raft_replication_append_entries_logs_total"); err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "oaas_pm_raft_commit_time_seconds" {
			if got := f.GetMetric()[0].GetHistogram().GetSampleSum(); got != 2 {
				t.Errorf("2000 ms are %v s", got)
			}
		}
		if strings.Contains(f.GetName(), "unheard") {
			t.Error("an unknown name came through")
		}
	}
}
