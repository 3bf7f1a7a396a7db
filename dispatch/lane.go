package dispatch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// lane looks after one cluster. All fields below mail are owned by its single
// goroutine; sessions and calls talk to it through the channels.
type lane struct {
	name    string
	address string
	opts    *Options
	log     hclog.Logger
	metrics *metrics
	term    uint64
	tell    func(update *pmpb.UnitUpdate)
	conn    *grpc.ClientConn

	reports  chan report
	outcomes chan outcome
	calls    sync.WaitGroup

	// work is what is to be done, synced to the state's index.
	work   *worklist
	synced uint64
	// leaving are the units whose end was reported, until their rows are gone.
	leaving map[string]bool
	// reviewed is when all units were last looked at.
	reviewed time.Time
	// arriving is the inventory that is being received, nil outside of one.
	arriving inventory
	// noted remembers, by unit, the row that an update was last reported for, so
	// that it is not reported again before the commit shows.
	noted    map[string]note
	inFlight int
	health   health
}

// note names an update that was handed to the reporter.
type note struct {
	kind        string
	modifyIndex uint64
}

func newLane(m *Manager, term uint64, name, address string, conn *grpc.ClientConn, tell func(*pmpb.UnitUpdate)) *lane {
	return &lane{
		name: name, address: address, opts: &m.opts, conn: conn, term: term, tell: tell, metrics: m.metrics,
		log:      m.opts.Logger.Named("lane").With("cluster", name),
		reports:  make(chan report),
		outcomes: make(chan outcome),
		work:     newWorklist(),
		leaving:  map[string]bool{},
		noted:    map[string]note{},
		health:   health{since: m.opts.Now()},
	}
}

// run works until ctx ends and returns when every goroutine of the lane has.
func (l *lane) run(ctx context.Context) {
	var session sync.WaitGroup
	session.Go(func() {
		(&follower{conn: l.conn, controlPlane: l.controlPlane, verify: l.verify, opts: l.opts, emit: func(r report) bool {
			select {
			case l.reports <- r:
				return true
			case <-ctx.Done():
				return false
			}
		}}).run(ctx)
	})
	session.Go(func() { l.describe(ctx) })
	defer session.Wait()
	defer l.calls.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		snap := l.opts.Registry.State().Snapshot()
		changed := snap.WatchUnitsByEnv(l.name)
		timer.Reset(l.pause(l.turn(ctx, snap)))
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		case r := <-l.reports:
			l.take(snap, r)
		case o := <-l.outcomes:
			l.settle(o)
		}
	}
}

func (l *lane) controlPlane() string {
	return l.opts.Registry.State().Snapshot().Meta().GetClusterId()
}

// pause turns the time of the next step into a timer's duration. Without one the
// lane still looks again once a second, for the health's sake.
func (l *lane) pause(next time.Time) time.Duration {
	idle := time.Second
	if next.IsZero() {
		return idle
	}
	return min(max(next.Sub(l.opts.Now()), 0), idle)
}

// reviewEvery is how often a lane looks at all of its units. It learns of every
// change as it happens; this is for what it may have missed.
const reviewEvery = 30 * time.Second

// turn takes in what changed, starts what is due and gives the time of what
// comes next.
func (l *lane) turn(ctx context.Context, snap *fsm.Snapshot) time.Time {
	now := l.opts.Now()
	l.sync(snap)
	l.judge(ctx, snap, now)
	if now.Sub(l.reviewed) >= reviewEvery {
		l.lookAtAll()
	}
	l.metrics.pending.WithLabelValues(l.name).Set(float64(l.work.open))
	steps, next := l.work.take(l.opts.MaxInFlight-l.inFlight, now)
	for _, s := range steps {
		l.start(ctx, s, snap.Meta().GetClusterId())
	}
	return next
}

// sync takes in the rows that changed since the last look. Rows leave the state
// only when this lane has reported the end of a tombstone.
func (l *lane) sync(snap *fsm.Snapshot) {
	applied := snap.Meta().GetAppliedIndex()
	if applied == l.synced {
		return
	}
	for u := range snap.UnitsChangedSince(l.name, l.synced) {
		l.work.adopt(u.GetId(), u)
		l.look(u.GetId())
	}
	for id := range l.leaving {
		if snap.Unit(id) == nil {
			l.work.adopt(id, nil)
			l.look(id)
			delete(l.leaving, id)
			delete(l.noted, id)
		}
	}
	l.synced = applied
}

// look decides anew about one unit.
func (l *lane) look(id string) {
	u := l.work.units[id]
	if u != nil && l.work.have == nil {
		l.explainAbsence(u)
	}
	switch l.work.look(id, l.opts.Now()) {
	case acknowledge:
		l.noteAck(u, l.work.have[id].GetDelivery())
	case lost:
		l.note(u, "lost", &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Lost{Lost: &pmpb.Lost{
			Message: "the cluster no longer has the unit; it is sent again",
		}}})
	case nothing, deploy, remove:
	}
}

// lookAtAll decides anew about every unit: the inventory is another one.
func (l *lane) lookAtAll() {
	l.reviewed = l.opts.Now()
	for id := range l.work.units {
		l.look(id)
	}
}

// start makes the call of a step in a worker.
func (l *lane) start(ctx context.Context, s step, controlPlane string) {
	id := s.unit.GetId()
	a := l.work.attempts[id]
	if !a.about(s.unit) {
		a = &attempt{epoch: s.unit.GetEpoch(), fence: s.unit.GetFence()}
		l.work.attempts[id] = a
	}
	a.inFlight, a.overtaken = true, false
	l.inFlight++
	l.calls.Go(func() {
		began := l.opts.Now()
		callCtx, cancel := context.WithTimeout(ctx, l.opts.CallTimeout)
		defer cancel()
		o := call(callCtx, l.conn, s, controlPlane)
		l.metrics.observe(l.name, o, l.opts.Now().Sub(began))
		select {
		case l.outcomes <- o:
		case <-ctx.Done():
		}
	})
}

// settle takes the outcome of a call.
func (l *lane) settle(o outcome) {
	l.inFlight--
	id := o.unit.GetId()
	defer l.look(id)
	a := l.work.attempts[id]
	if a.about(o.unit) {
		a.inFlight = false
	}
	log := l.log.With("unit", id, "deployment", o.unit.GetDeploymentKey(), "fence", o.unit.GetFence())
	switch {
	case o.waiting != nil:
		l.fail(log, a, o)
	case o.gone:
		log.Info("removal confirmed")
		l.drop(id)
		l.leaving[id] = true
		l.note(o.unit, "gone", &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Gone{Gone: &pmpb.Gone{}}})
		l.delay(a, l.opts.RetryMax) // until the row is gone from the state
	case o.issued:
		log.Debug("removal accepted")
		if o.unit.GetWaiting() != nil {
			// What kept the removal from the cluster is over.
			l.wait(o.unit, &pmpb.Waiting{Code: WaitDeleting, Message: "the cluster has accepted the removal and is carrying it out"})
		}
		// Asked again when the removal is reported, or after a while.
		if !a.overtaken {
			l.delay(a, 2*time.Second)
		}
	case a.overtaken:
		log.Info("delivered, but removed again meanwhile")
	default:
		log.Info("delivered", "generation", o.unit.GetGeneration())
		a.failures = 0
		l.learn(&oaaspb.ClassRuntimeSummary{Id: id, DeploymentUnitId: id, Delivery: o.applied}, false)
		l.noteAck(o.unit, o.applied)
	}
}

func (l *lane) fail(log hclog.Logger, a *attempt, o outcome) {
	if a.about(o.unit) {
		a.failures++
		switch {
		case o.soon:
			l.delay(a, l.opts.RetryMin)
		case o.waiting.GetPermanent():
			a.refused = true
			l.delay(a, l.opts.RetryRefused)
		default:
			l.delay(a, backoff(a.failures, l.opts.RetryMin, l.opts.RetryMax))
		}
	}
	log.Warn("delivery failed", "code", o.waiting.GetCode(), "error", o.waiting.GetMessage(), "failures", a.failures)
	l.wait(o.unit, o.waiting)
}

func (l *lane) delay(a *attempt, d time.Duration) {
	if a != nil {
		a.notBefore = l.opts.Now().Add(d)
	}
}

// take digests a report of the session.
func (l *lane) take(snap *fsm.Snapshot, r report) {
	switch {
	case r.begin:
		l.arriving = inventory{}
	case r.upserted != nil:
		summary := bounded(r.upserted)
		l.learn(summary, true)
		l.noteRuntime(snap, summary)
		l.look(summary.GetDeploymentUnitId())
	case r.removed != "":
		l.drop(r.removed)
		if a := l.work.attempts[r.removed]; a != nil {
			a.overtaken = a.inFlight
			a.notBefore = time.Time{} // a tombstone is confirmed, a lost unit sent, at once
		}
		l.look(r.removed)
	case r.complete:
		l.work.have, l.arriving = l.arriving, nil
		if l.work.have == nil {
			l.work.have = inventory{}
		}
		if !l.health.seen {
			l.log.Info("inventory complete", "runtimes", len(l.work.have))
			l.hurry()
		}
		l.lookAtAll()
		l.health.up(true, l.opts.Now())
	case r.alive != nil:
		if *r.alive && !l.health.ready {
			l.hurry()
		}
		l.health.up(*r.alive, l.opts.Now())
	case r.down != nil:
		l.log.Warn("session ended", "error", r.down)
		l.work.have, l.arriving = nil, nil
		l.health.down(r.down, l.opts.Now())
		l.lookAtAll()
	}
}

// hurry lets what failed while the manager or its API server was away be tried
// again at once.
// Refusals stay: nothing about them has changed.
func (l *lane) hurry() {
	for id, a := range l.work.attempts {
		if !a.refused {
			a.notBefore = time.Time{}
			l.look(id)
		}
	}
}

// learn puts a runtime into the inventories. What a call confirmed does not
// overwrite what the stream says about the same delivery, which knows more.
func (l *lane) learn(summary *oaaspb.ClassRuntimeSummary, fromStream bool) {
	id := summary.GetDeploymentUnitId()
	for _, inv := range []inventory{l.work.have, l.arriving} {
		if inv == nil {
			continue
		}
		if old, ok := inv[id]; ok && !fromStream && old.GetDelivery().GetFence() >= summary.GetDelivery().GetFence() && old.GetDelivery().GetEpoch() >= summary.GetDelivery().GetEpoch() {
			continue
		}
		inv[id] = summary
	}
}

func (l *lane) drop(id string) {
	delete(l.work.have, id)
	delete(l.arriving, id)
}

// note hands an update about a unit to the reporter, once per row and kind.
func (l *lane) note(u *pmpb.Unit, kind string, update *pmpb.UnitUpdate) {
	n := note{kind: kind, modifyIndex: u.GetModifyIndex()}
	if l.noted[u.GetId()] == n {
		return
	}
	l.noted[u.GetId()] = n
	update.Id, update.Fence, update.Epoch = u.GetId(), u.GetFence(), u.GetEpoch()
	l.tell(update)
}

func (l *lane) noteAck(u *pmpb.Unit, d *oaaspb.Delivery) {
	if d.GetFence() != u.GetFence() || d.GetEpoch() != u.GetEpoch() {
		return // a newer wish is on its way; its own call will be acknowledged
	}
	l.note(u, "ack", &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{
		Epoch: d.GetEpoch(), Fence: d.GetFence(), ContentHash: d.GetContentHash(), Time: timestamppb.New(l.opts.Now()),
	}}})
}

// noteRuntime reports a runtime if it differs from what the state has.
func (l *lane) noteRuntime(snap *fsm.Snapshot, summary *oaaspb.ClassRuntimeSummary) {
	u := snap.Unit(summary.GetDeploymentUnitId())
	if u == nil || u.GetEnv() != l.name || sameRuntime(u.GetRuntime(), summary) {
		return
	}
	d := summary.GetDelivery()
	fence, epoch := d.GetFence(), d.GetEpoch()
	if d == nil {
		fence, epoch = u.GetFence(), u.GetEpoch()
	}
	l.tell(&pmpb.UnitUpdate{Id: u.GetId(), Fence: fence, Epoch: epoch, Update: &pmpb.UnitUpdate_Runtime{Runtime: summary}})
}

// wait reports why a unit is not acknowledged, when that is news.
func (l *lane) wait(u *pmpb.Unit, w *pmpb.Waiting) {
	if old := u.GetWaiting(); old.GetCode() == w.GetCode() && old.GetMessage() == w.GetMessage() {
		return
	}
	w.Since = timestamppb.New(l.opts.Now())
	l.note(u, fmt.Sprintf("wait %s %s", w.GetCode(), w.GetMessage()), &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Waiting{Waiting: w}})
}

// explainAbsence says of an undelivered unit that the cluster cannot be reached.
func (l *lane) explainAbsence(u *pmpb.Unit) {
	// A refusal stands until the wish changes, and is what somebody has to act on.
	if l.health.cause == nil || !unconfirmed(u) || u.GetWaiting().GetPermanent() {
		return
	}
	if why, untrusted := untrustedBecause(l.health.cause); untrusted {
		l.wait(u, &pmpb.Waiting{Code: WaitUnreachable, Message: clip(fmt.Sprintf("cluster %s at %s: %s; the unit is sent when that is mended", l.name, l.address, why))})
		return
	}
	if noAgent(l.health.cause) {
		l.wait(u, &pmpb.Waiting{Code: WaitUnreachable, Message: ErrNoAgent.Error() + "; the unit is sent when one is"})
		return
	}
	l.wait(u, &pmpb.Waiting{Code: WaitUnreachable, Message: fmt.Sprintf("cluster %s at %s does not answer; the unit is sent when it does", l.name, l.address)})
}
