package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// rollouts lets the rollouts of all deployments go on while this node leads. It decides
// nothing and remembers nothing: it asks for the next step whenever something has changed
// that may call for one, or a time has come that the state names.
type rollouts struct {
	m    *Manager
	term uint64
	// patience is when deadlines begin to count: a new leader has to hear first what the
	// clusters have done meanwhile.
	patience time.Time
	metrics  *rolloutMetrics
}

// rolloutIdle is how often a rollout is looked at for what may have been missed.
const rolloutIdle = time.Second

// driver is the goroutine of one rollout that goes on.
type driver struct {
	stop context.CancelFunc
	done chan struct{}
}

func (d *driver) end() {
	d.stop()
	<-d.done
}

// run keeps exactly one driver for each rollout that goes on by itself, until ctx ends.
func (r *rollouts) run(ctx context.Context) {
	drivers := map[string]*driver{}
	defer func() {
		for _, d := range drivers {
			d.end()
		}
		r.metrics.rollouts.Reset() // only true while this node leads
	}()
	for {
		snap := r.m.opts.Registry.State().Snapshot()
		changed := snap.WatchRollouts()
		moving := map[string]bool{}
		rows := snap.Rollouts()
		for _, row := range rows {
			if fsm.RolloutMoves(row.GetPhase()) {
				moving[row.GetDeploymentKey()] = true
			}
		}
		r.metrics.count(rows)
		for key, d := range drivers {
			if !moving[key] {
				d.end()
				delete(drivers, key)
			}
		}
		for key := range moving {
			if drivers[key] == nil {
				drivers[key] = r.start(ctx, key)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (r *rollouts) start(ctx context.Context, key string) *driver {
	ctx, cancel := context.WithCancel(ctx)
	d := &driver{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		r.drive(ctx, key)
	}()
	return d
}

// drive takes the rollout of a deployment from step to step until ctx ends.
func (r *rollouts) drive(ctx context.Context, key string) {
	log := r.m.opts.Logger.Named("rollout").With("deployment", key)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		// Watched before it is asked: what changes meanwhile is not missed.
		snap := r.m.opts.Registry.State().Snapshot()
		row, clusters := snap.WatchRollout(key), snap.WatchClusters()
		units := snap.WatchUnitsByDeployment(snap.Rollout(key).GetDeploymentUid())
		got, err := r.m.opts.Registry.AdvanceRollout(ctx, r.term, key, r.patience)
		pause := rolloutIdle
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			log.Warn("rollout not taken further, trying again", "error", err)
			pause = backoff(failures, r.m.opts.RetryMin, r.m.opts.RetryMax)
			row, clusters, units = nil, nil, nil // what failed is not tried again at every change
		case got.Stepped:
			failures = 0
			r.metrics.stepped(got)
			log.Info("rollout taken further", "phase", registry.PhaseName(got.Phase))
			continue
		case !got.Next.IsZero():
			pause = min(max(got.Next.Sub(r.m.opts.Now()), 0), rolloutIdle)
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-row:
		case <-units:
		case <-clusters:
		case <-timer.C:
		}
	}
}

type rolloutMetrics struct {
	rollouts *prometheus.GaugeVec
	ended    *prometheus.CounterVec
	waves    prometheus.Histogram
}

func newRolloutMetrics(reg prometheus.Registerer) (*rolloutMetrics, error) {
	m := &rolloutMetrics{
		rollouts: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_rollouts", Help: "Last rollouts of deployments by phase. Set on the leader only.",
		}, []string{"phase"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_rollout_turns_total", Help: "Rollouts that this node, as the leader, saw complete, fail, turn round (RollingBack) or end where they came from (RolledBack).",
		}, []string{"phase"}),
		waves: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "oaas_pm_rollout_wave_duration_seconds", Help: "Time from the beginning of a wave until the next one began or the rollout had ended.",
			Buckets: prometheus.ExponentialBuckets(1, 2.5, 12),
		}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.rollouts, m.ended, m.waves} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// count sets the numbers of rollouts, also those that are zero.
func (m *rolloutMetrics) count(rows []*pmpb.Rollout) {
	counts := map[pmpb.RolloutPhase]int{}
	for _, row := range rows {
		counts[row.GetPhase()]++
	}
	for p := pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING; p <= pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK; p++ {
		m.rollouts.WithLabelValues(registry.PhaseName(p)).Set(float64(counts[p]))
	}
}

func (m *rolloutMetrics) stepped(p *registry.RolloutProgress) {
	if p.WaveTook > 0 {
		m.waves.Observe(p.WaveTook.Seconds())
	}
	if p.Turned {
		m.ended.WithLabelValues(registry.PhaseName(p.Phase)).Inc()
	}
}
