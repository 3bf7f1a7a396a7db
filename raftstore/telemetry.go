package raftstore

import (
	"fmt"
	"strings"

	gometrics "github.com/hashicorp/go-metrics/compat"
	"github.com/prometheus/client_golang/prometheus"
)

// telemetryKind is what a number of the library means.
type telemetryKind int

const (
	counterKind telemetryKind = iota
	gaugeKind
	// millisKind are samples in milliseconds, kept in seconds.
	millisKind
	// sizeKind are samples without a unit.
	sizeKind
)

// telemetry lists what is taken over from the library, by its name there. The
// list is closed: a name that is not in it is dropped, so an upgrade of the
// library can neither flood the registry nor change a type under a dashboard.
var telemetry = map[string]telemetryKind{
	"raft.apply":                           counterKind,
	"raft.barrier":                         counterKind,
	"raft.state.leader":                    counterKind,
	"raft.state.follower":                  counterKind,
	"raft.state.candidate":                 counterKind,
	"raft.transition.heartbeat_timeout":    counterKind,
	"raft.transition.leader_lease_timeout": counterKind,
	"raft.replication.appendEntries.logs":  counterKind,
	"raft.restore":                         counterKind,
	"raft.peers":                           gaugeKind,
	"raft.commitNumLogs":                   gaugeKind,
	"raft.leader.dispatchNumLogs":          gaugeKind,
	"raft.leader.oldestLogAge":             gaugeKind,
	"raft.fsm.lastRestoreDuration":         gaugeKind,
	"raft.boltdb.freelistBytes":            gaugeKind,
	"raft.boltdb.freePageBytes":            gaugeKind,
	"raft.boltdb.numFreePages":             gaugeKind,
	"raft.boltdb.numPendingPages":          gaugeKind,
	"raft.boltdb.openReadTxn":              gaugeKind,
	"raft.commitTime":                      millisKind,
	"raft.fsm.applyBatch":                  millisKind,
	"raft.fsm.enqueue":                     millisKind,
	"raft.fsm.restore":                     millisKind,
	"raft.fsm.snapshot":                    millisKind,
	"raft.leader.dispatchLog":              millisKind,
	"raft.leader.lastContact":              millisKind,
	"raft.candidate.electSelf":             millisKind,
	"raft.compactLogs":                     millisKind,
	"raft.snapshot.create":                 millisKind,
	"raft.snapshot.persist":                millisKind,
	"raft.snapshot.takeSnapshot":           millisKind,
	"raft.rpc.appendEntries":               millisKind,
	"raft.rpc.appendEntries.storeLogs":     millisKind,
	"raft.rpc.installSnapshot":             millisKind,
	"raft.rpc.requestVote":                 millisKind,
	"raft.replication.appendEntries.rpc":   millisKind,
	"raft.replication.heartbeat":           millisKind,
	"raft.replication.installSnapshot":     millisKind,
	"raft.boltdb.storeLogs":                millisKind,
	"raft.boltdb.getLog":                   millisKind,
	"raft.thread.main.saturation":          sizeKind,
	"raft.thread.fsm.saturation":           sizeKind,
	"raft.fsm.applyBatchNum":               sizeKind,
	"raft.boltdb.logBatchSize":             sizeKind,
	"raft.boltdb.logsPerBatch":             sizeKind,
	"raft.boltdb.writeCapacity":            sizeKind,
}

// perPeer are the names that the library gives once per server.
var perPeer = map[string]bool{
	"raft.replication.appendEntries.rpc":  true,
	"raft.replication.appendEntries.logs": true,
	"raft.replication.heartbeat":          true,
	"raft.replication.installSnapshot":    true,
}

// InstallTelemetry sends the numbers of the Raft library and of its log file to
// reg, as oaas_pm_raft_*. The library knows one destination per process, so this
// is for main to call, once, before Open.
func InstallTelemetry(reg prometheus.Registerer) error {
	sink, err := newTelemetrySink(reg)
	if err != nil {
		return err
	}
	conf := gometrics.DefaultConfig("")
	conf.EnableHostname = false
	conf.EnableRuntimeMetrics = false
	if _, err := gometrics.NewGlobal(conf, sink); err != nil {
		return fmt.Errorf("raftstore: telemetry: %w", err)
	}
	return nil
}

// telemetrySink is a destination of the library's numbers.
type telemetrySink struct {
	counters map[string]*prometheus.CounterVec
	gauges   map[string]*prometheus.GaugeVec
	samples  map[string]*prometheus.HistogramVec
}

var _ gometrics.MetricSink = (*telemetrySink)(nil)

func newTelemetrySink(reg prometheus.Registerer) (*telemetrySink, error) {
	s := &telemetrySink{
		counters: make(map[string]*prometheus.CounterVec),
		gauges:   make(map[string]*prometheus.GaugeVec),
		samples:  make(map[string]*prometheus.HistogramVec),
	}
	for name, kind := range telemetry {
		var labels []string
		if perPeer[name] {
			labels = []string{"peer_id"}
		}
		var c prometheus.Collector
		switch kind {
		case counterKind:
			s.counters[name] = prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: promName(name) + "_total", Help: "Raft library: " + name + "."}, labels)
			c = s.counters[name]
		case gaugeKind:
			s.gauges[name] = prometheus.NewGaugeVec(prometheus.GaugeOpts{
				Name: promName(name), Help: "Raft library: " + name + "."}, labels)
			c = s.gauges[name]
		case millisKind:
			s.samples[name] = prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Name: promName(name) + "_seconds", Help: "Raft library: " + name + ".", Buckets: diskBuckets}, labels)
			c = s.samples[name]
		case sizeKind:
			s.samples[name] = prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Name: promName(name), Help: "Raft library: " + name + ".", Buckets: prometheus.ExponentialBuckets(0.01, 10, 9)}, labels)
			c = s.samples[name]
		}
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("raftstore: telemetry %s: %w", name, err)
		}
	}
	return s, nil
}

// promName turns raft.leader.oldestLogAge into oaas_pm_raft_leader_oldest_log_age.
func promName(name string) string {
	var b strings.Builder
	b.WriteString("oaas_pm_")
	for _, r := range name {
		switch {
		case r == '.':
			b.WriteByte('_')
		case r >= 'A' && r <= 'Z':
			b.WriteByte('_')
			b.WriteRune(r - 'A' + 'a')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// values gives the values of name's labels.
func values(name string, labels []gometrics.Label) []string {
	if !perPeer[name] {
		return nil
	}
	for _, l := range labels {
		if l.Name == "peer_id" {
			return []string{l.Value}
		}
	}
	return []string{""}
}

func (s *telemetrySink) SetGauge(key []string, val float32) { s.SetGaugeWithLabels(key, val, nil) }

func (s *telemetrySink) SetGaugeWithLabels(key []string, val float32, labels []gometrics.Label) {
	name := strings.Join(key, ".")
	if g, ok := s.gauges[name]; ok {
		g.WithLabelValues(values(name, labels)...).Set(float64(val))
	}
}

// EmitKey is not used by the library.
func (s *telemetrySink) EmitKey([]string, float32) {}

func (s *telemetrySink) IncrCounter(key []string, val float32) {
	s.IncrCounterWithLabels(key, val, nil)
}

func (s *telemetrySink) IncrCounterWithLabels(key []string, val float32, labels []gometrics.Label) {
	name := strings.Join(key, ".")
	if c, ok := s.counters[name]; ok && val >= 0 {
		c.WithLabelValues(values(name, labels)...).Add(float64(val))
	}
}

func (s *telemetrySink) AddSample(key []string, val float32) { s.AddSampleWithLabels(key, val, nil) }

func (s *telemetrySink) AddSampleWithLabels(key []string, val float32, labels []gometrics.Label) {
	name := strings.Join(key, ".")
	h, ok := s.samples[name]
	if !ok {
		return
	}
	v := float64(val)
	if telemetry[name] == millisKind {
		v /= 1000
	}
	h.WithLabelValues(values(name, labels)...).Observe(v)
}
