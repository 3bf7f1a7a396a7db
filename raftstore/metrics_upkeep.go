package raftstore

import "github.com/prometheus/client_golang/prometheus"

// upkeepMetrics are about the health of a node's disk, state and clock.
type upkeepMetrics struct {
	diskFree     prometheus.Gauge
	diskTotal    prometheus.Gauge
	diskLow      prometheus.Gauge
	alarms       *prometheus.GaugeVec
	chainChecks  *prometheus.CounterVec
	chainAgreed  prometheus.Gauge
	quarantined  prometheus.Gauge
	clockOffset  prometheus.Gauge
	installs     prometheus.Counter
	stuck        prometheus.Counter
	snapshotBad  prometheus.Gauge
	refusedCalls *prometheus.CounterVec
}

func newUpkeepMetrics() *upkeepMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "oaas_pm_raftstore_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "oaas_pm_raftstore_" + name, Help: help})
	}
	return &upkeepMetrics{
		diskFree:  gauge("disk_free_bytes", "Bytes that are free in the file system of the data directory."),
		diskTotal: gauge("disk_size_bytes", "Size of the file system of the data directory."),
		diskLow:   gauge("disk_low", "1 while less is free there than the low watermark, else 0."),
		alarms: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_raftstore_alarms", Help: "Alarms that are raised; while there is one, the state is read-only."}, []string{"kind"}),
		chainChecks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_raftstore_chain_checks_total", Help: "Comparisons of this node's history with that of the others, by what they came to."}, []string{"outcome"}),
		chainAgreed:  gauge("chain_agreed_index", "Newest command at which a majority was found to have this node's history."),
		quarantined:  gauge("quarantined", "1 when the history of this node is not that of the majority."),
		clockOffset:  gauge("clock_offset_seconds", "How far the middle of all servers' clocks is ahead of this one."),
		installs:     counter("snapshot_installs_total", "Snapshots that the leader sent and this node took over."),
		stuck:        counter("snapshot_install_loops_total", "Times that the leader sent the same snapshot over and over without getting this node any further."),
		snapshotBad:  gauge("snapshot_damaged", "1 when the newest snapshot of this node could not be read back."),
		refusedCalls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oaas_pm_raftstore_refused_messages_total", Help: "Messages from peers, on either port, that were refused."}, []string{"reason"}),
	}
}

func (m *upkeepMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.diskFree, m.diskTotal, m.diskLow, m.alarms, m.chainChecks, m.chainAgreed, m.quarantined,
		m.clockOffset, m.installs, m.stuck, m.snapshotBad, m.refusedCalls,
	}
}
