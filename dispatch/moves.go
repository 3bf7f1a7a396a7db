package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// moves lets deployments leave environments that are drained or lost, and go on with what
// they have begun to leave, while this node leads. It decides nothing: what is to be moved,
// whether it may be, and what comes next is a function of the state and the time. It only
// keeps how fast that goes, from nothing for each new leader.
type moves struct {
	m       *Manager
	term    uint64
	metrics *moveMetrics
	log     hclog.Logger
	tokens  bucket
	// retries are the deployments that could not be moved.
	retries map[string]retry
	// suspected is the last verdict on the fleet.
	suspected bool
}

// retry is when a deployment that could not be moved is looked at again.
type retry struct {
	failures int
	at       time.Time
}

// Pauses between two attempts at a deployment that cannot be moved.
const (
	moveRetryMin = 2 * time.Second
	moveRetryMax = time.Minute
)

func newMoves(m *Manager, term uint64) *moves {
	return &moves{
		m: m, term: term, metrics: m.moves, log: m.opts.Logger.Named("move"), retries: map[string]retry{},
		tokens: bucket{at: m.opts.Now(), dry: true},
	}
}

// run looks again and again until ctx ends. Moves wait for what takes seconds at least, so
// that nothing is lost by not being told of every change.
func (v *moves) run(ctx context.Context) {
	ticker := time.NewTicker(v.m.opts.MoveInterval)
	defer ticker.Stop()
	defer v.metrics.reset() // only true while this node leads
	for {
		v.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (v *moves) look(ctx context.Context) {
	snap := v.m.opts.Registry.State().Snapshot()
	v.judge(snap)
	v.begin(ctx, snap)
	moving := map[pmpb.MoveReason]int{}
	held := 0
	for _, dep := range v.m.opts.Registry.State().Snapshot().Deployments() {
		if dep.Move.GetHeld() != nil {
			held++
		}
		for _, l := range dep.Move.GetLeaving() {
			moving[l.GetReason()]++
		}
		if registry.Moving(dep.Move) {
			v.advance(ctx, dep.Doc.Key)
		}
	}
	v.metrics.count(moving, held)
}

// judge tells when the fleet begins or ceases to look partitioned.
func (v *moves) judge(snap *fsm.Snapshot) {
	verdict := registry.FleetVerdict(snap, v.m.opts.Now())
	if verdict.Suspected != v.suspected {
		if verdict.Suspected {
			v.log.Error("FleetPartitionSuspected: automatic moves are stopped", "reason", verdict.Reason)
		} else {
			v.log.Info("the fleet looks whole again, automatic moves go on", "lost", verdict.Lost, "clusters", verdict.Total)
		}
	}
	v.suspected = verdict.Suspected
	v.metrics.fleet(verdict.Suspected)
}

// begin moves what is to be moved, as fast as that may go.
func (v *moves) begin(ctx context.Context, snap *fsm.Snapshot) {
	now := v.m.opts.Now()
	v.tokens.fill(limit{burst: float64(v.m.opts.MoveBurst), rate: v.m.opts.MoveRate}, now)
	due := map[string]bool{}
	for _, one := range v.m.opts.Registry.Relocations(snap) {
		due[one.Key] = true
		last := v.retries[one.Key]
		if ctx.Err() != nil || now.Before(last.at) || v.tokens.dry && one.Reason != pmpb.MoveReason_MOVE_REASON_UNSPECIFIED {
			continue
		}
		p, err := v.m.opts.Registry.Relocate(ctx, v.term, one.Key)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || !p.Stepped:
			v.retries[one.Key] = retry{failures: last.failures + 1, at: now.Add(backoff(last.failures+1, moveRetryMin, moveRetryMax))}
			if err != nil {
				v.log.Warn("deployment not moved, trying again", "deployment", one.Key, "error", err)
			}
		case p.Begun != pmpb.MoveReason_MOVE_REASON_UNSPECIFIED:
			v.tokens.take(1)
			delete(v.retries, one.Key)
			v.metrics.begun.WithLabelValues(fsm.MoveReasonName(p.Begun)).Inc()
			v.log.Info("deployment is moved", "deployment", one.Key, "reason", fsm.MoveReasonName(p.Begun))
		}
	}
	for key := range v.retries {
		if !due[key] {
			delete(v.retries, key)
		}
	}
}

// advance takes the move of a deployment as far as it goes now.
func (v *moves) advance(ctx context.Context, key string) {
	for ctx.Err() == nil {
		p, err := v.m.opts.Registry.AdvanceMove(ctx, v.term, key)
		if err != nil {
			if ctx.Err() == nil {
				v.log.Warn("move not taken further, trying again", "deployment", key, "error", err)
			}
			return
		}
		if !p.Stepped {
			return
		}
		if p.Replaced {
			v.metrics.replaced.Observe(p.Took.Seconds())
			v.log.Info("an environment was left", "deployment", key)
		}
	}
}

type moveMetrics struct {
	moving    *prometheus.GaugeVec
	held      prometheus.Gauge
	suspected prometheus.Gauge
	begun     *prometheus.CounterVec
	replaced  prometheus.Histogram
}

func newMoveMetrics(reg prometheus.Registerer) (*moveMetrics, error) {
	m := &moveMetrics{
		moving: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oaas_pm_moves", Help: "Environments that deployments are leaving, by why. Set on the leader only.",
		}, []string{"reason"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_pm_moves_held", Help: "Deployments that are to leave an environment and do not, for now. Set on the leader only.",
		}),
		suspected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_pm_fleet_partition_suspected", Help: "1 while so many clusters are lost at once that automatic moves are stopped. Set on the leader only.",
		}),
		begun: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_moves_begun_total", Help: "Deployments that this node, as the leader, has begun to move, by why.",
		}, []string{"reason"}),
		replaced: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "oaas_pm_move_duration_seconds", Help: "Time from the beginning of a move until an environment was left.",
			Buckets: prometheus.ExponentialBuckets(1, 2.5, 12),
		}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.moving, m.held, m.suspected, m.begun, m.replaced} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// count sets the numbers of moves, also those that are zero.
func (m *moveMetrics) count(moving map[pmpb.MoveReason]int, held int) {
	for r := pmpb.MoveReason_MOVE_REASON_UPDATE; r <= pmpb.MoveReason_MOVE_REASON_RETURN; r++ {
		m.moving.WithLabelValues(fsm.MoveReasonName(r)).Set(float64(moving[r]))
	}
	m.held.Set(float64(held))
}

func (m *moveMetrics) fleet(suspected bool) {
	m.suspected.Set(0)
	if suspected {
		m.suspected.Set(1)
	}
}

func (m *moveMetrics) reset() {
	m.moving.Reset()
	m.held.Set(0)
	m.suspected.Set(0)
}
