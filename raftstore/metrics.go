package raftstore

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the node's own measurements. Those of the library come by
// InstallTelemetry.
type metrics struct {
	appliedIndex  prometheus.Gauge
	snapshotBytes prometheus.Gauge
	ready         prometheus.Gauge
	established   prometheus.Counter
	proposals     *prometheus.CounterVec
	proposeTime   prometheus.Histogram
	barriers      *prometheus.CounterVec
	barrierTime   prometheus.Histogram
	barrierBatch  prometheus.Histogram
	storageWrite  *prometheus.HistogramVec
	storageErrors *prometheus.CounterVec
	storageStall  prometheus.Gauge
	refused       *prometheus.CounterVec
	members       *prometheus.GaugeVec
	featureLevel  prometheus.Gauge
	successions   prometheus.Counter
	transfers     *prometheus.CounterVec
	removals      prometheus.Counter
	tolerance     prometheus.Gauge
	desired       prometheus.Gauge
	healthy       *prometheus.GaugeVec
	*upkeepMetrics
}

var (
	diskBuckets = prometheus.ExponentialBuckets(0.0001, 2.5, 13)
	waitBuckets = prometheus.ExponentialBuckets(0.0002, 2.5, 12)
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "oaas_pm_raftstore_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oaas_pm_raftstore_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: "oaas_pm_raftstore_" + name, Help: help, Buckets: buckets}
	}
	m := &metrics{
		upkeepMetrics: newUpkeepMetrics(),
		appliedIndex:  gauge("applied_index", "Index of the last command that the state machine applied."),
		snapshotBytes: gauge("snapshot_bytes", "Size of the last snapshot written here."),
		ready:         gauge("leader_ready", "1 while this node leads and has caught up with its predecessors, else 0."),
		established: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_raftstore_leaderships_total", Help: "Times this node became a ready leader."}),
		proposals:     counters("proposals_total", "Commands by outcome.", "outcome"),
		proposeTime:   prometheus.NewHistogram(histogram("propose_seconds", "Time from proposing a command to its application.", waitBuckets)),
		barriers:      counters("read_barriers_total", "Rounds of the read barrier by outcome.", "outcome"),
		barrierTime:   prometheus.NewHistogram(histogram("read_barrier_seconds", "Duration of one round of the read barrier.", waitBuckets)),
		barrierBatch:  prometheus.NewHistogram(histogram("read_barrier_waiters", "Reads served by one round of the read barrier.", prometheus.ExponentialBuckets(1, 2, 11))),
		storageWrite:  prometheus.NewHistogramVec(histogram("storage_write_seconds", "Duration of synchronous writes to the log file.", diskBuckets), []string{"op"}),
		storageErrors: counters("storage_errors_total", "Failed operations on the log file.", "op"),
		storageStall:  gauge("storage_write_in_progress_seconds", "Age of the write to the log file that is in progress, 0 when there is none."),
		refused:       counters("refused_connections_total", "Connections to the log's port that were refused.", "reason"),
		featureLevel:  gauge("feature_level", "Feature level of the cluster; commands above it are not proposed."),
		successions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_raftstore_successions_total", Help: "Elections that this node began because the leader's process was gone."}),
		transfers: counters("leadership_transfers_total", "Attempts of this node, as the leader, to hand leadership over.", "outcome"),
		removals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_raftstore_removed_servers_total", Help: "Servers that were removed while this node led, by autopilot or by an operator."}),
		tolerance: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_pm_raft_failure_tolerance", Help: "Healthy voters that may fail before there is no quorum, as the leader sees it; NaN elsewhere."}),
		desired: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_pm_raft_voters_desired", Help: "Voters that there should be, as the leader sees it; NaN elsewhere."}),
		healthy: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_raft_server_healthy", Help: "1 while the server is healthy, else 0, as the leader sees it."}, []string{"server_id"}),
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_raftstore_members", Help: "Servers in the cluster's configuration."}, []string{"suffrage"}),
	}
	m.forget()
	for _, c := range append(m.collectors(),
		m.appliedIndex, m.snapshotBytes, m.ready, m.established, m.proposals, m.proposeTime, m.barriers, m.barrierTime,
		m.barrierBatch, m.storageWrite, m.storageErrors, m.storageStall, m.refused, m.members, m.featureLevel, m.successions,
		m.transfers, m.removals, m.tolerance, m.desired, m.healthy,
	) {
		if err := reg.Register(c); err != nil {
			var dup prometheus.AlreadyRegisteredError
			if errors.As(err, &dup) {
				return nil, fmt.Errorf("raftstore: one registry serves one node: %w", err)
			}
			return nil, fmt.Errorf("raftstore: registering metrics: %w", err)
		}
	}
	return m, nil
}
