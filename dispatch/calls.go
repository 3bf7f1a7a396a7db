package dispatch

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/proto/pmpb"
)

// How many calls may be under way to one cluster is decided by its breaker, by
// MaxInFlight, and by the places that all clusters share. Every lane has one place
// of its own, so that clusters that hold all the others up with calls that they do
// not answer leave each at least that one.

// room is how many more calls may start if there are places for them.
func (l *lane) room(now time.Time) int {
	return l.breaker.admits(now, l.opts.MaxInFlight-l.inFlight)
}

// repairRoom is how many of them may be repairs: some room is left to new wishes,
// so that calls which fail slowly cannot fill it.
func (l *lane) repairRoom() int {
	return max(l.opts.MaxInFlight-l.opts.MaxInFlight/4, 1) - l.repairs
}

// wantsPlace is the channel of places if another one would let a call start.
func (l *lane) wantsPlace(now time.Time) chan<- struct{} {
	if l.inFlight < l.taken+1 || l.room(now) == 0 || l.work.queue.ready(l.repairRoom()) == 0 {
		return nil
	}
	return l.places
}

// startDue starts the calls for which there is room, and gives the time at which
// the next may start: zero when that is not a matter of time.
func (l *lane) startDue(ctx context.Context, controlPlane string, now time.Time) time.Time {
	l.work.due(now)
	most := min(l.room(now), l.work.queue.ready(l.repairRoom()))
	for l.taken+1-l.inFlight < most && l.tryPlace() {
	}
	for _, s := range l.work.take(min(most, l.taken+1-l.inFlight), l.repairRoom()) {
		s.probe = l.breaker.start()
		l.start(ctx, s, controlPlane)
	}
	l.returnPlaces()
	l.metrics.breaker.WithLabelValues(l.name).Set(float64(l.breaker.state))
	next := l.work.queue.next()
	if probe := l.breaker.next(); probe.After(now) && l.work.queue.ready(1) > 0 && (next.IsZero() || probe.Before(next)) {
		return probe
	}
	return next
}

// tryPlace takes a place if one is free.
func (l *lane) tryPlace() bool {
	select {
	case l.places <- struct{}{}:
		l.taken++
		return true
	default:
		return false
	}
}

// returnPlaces gives back the places that no call needs.
func (l *lane) returnPlaces() {
	for ; l.taken > max(l.inFlight-1, 0); l.taken-- {
		<-l.places
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
	if s.repair {
		l.repairs++
	}
	l.metrics.inFlight.Inc()
	l.calls.Go(func() {
		defer l.metrics.inFlight.Dec()
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
	if o.repair {
		l.repairs--
	}
	l.watchBreaker(o)
	id := o.unit.GetId()
	defer l.look(id)
	a := l.work.attempts[id]
	if !a.about(o.unit) {
		a = &attempt{} // of a wish that is no longer the present one; nothing is remembered
	}
	a.inFlight = false
	log := l.log.With("unit", id, "deployment", o.unit.GetDeploymentKey(), "fence", o.unit.GetFence())
	switch {
	case o.waiting != nil:
		l.fail(log, a, o)
	case o.gone && l.work.have == nil:
		// The session has ended: who answered need not be the one that it was with. Asked
		// again in the next one.
		log.Info("removal not believed: the session with the cluster has ended meanwhile")
	case o.gone && o.do == clearFirst:
		log.Info("the old content is gone, the new one is sent")
		l.drop(id)
		a.failures, a.asked, a.notBefore = 0, 0, time.Time{}
	case o.gone:
		log.Info("removal confirmed")
		l.drop(id)
		l.leaving[id] = true
		l.note(o.unit, "gone", &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Gone{Gone: &pmpb.Gone{}}})
		l.delay(a, l.opts.RetryMax) // until the row is gone from the state
	case o.issued:
		log.Debug("removal accepted")
		if o.do == clearFirst {
			l.wait(o.unit, &pmpb.Waiting{Code: WaitDeleting, Message: "the cluster's manager keeps the content that it has: that is removed first, then the new one is sent"})
		} else if o.unit.GetWaiting() != nil {
			// What kept the removal from the cluster is over.
			l.wait(o.unit, &pmpb.Waiting{Code: WaitDeleting, Message: "the cluster has accepted the removal and is carrying it out"})
		}
		// Asked again when the removal is reported, or after a while.
		if !a.overtaken {
			l.delay(a, min(askAgain<<min(a.asked, 8), askAgainMost))
			a.asked++
		}
	case a.overtaken:
		a.confirm(l.opts.Now(), l.opts.RetryMin, l.opts.RetryRefused)
		log.Info("delivered, but removed again meanwhile")
	default:
		a.confirm(l.opts.Now(), l.opts.RetryMin, l.opts.RetryRefused)
		log.Info("delivered", "generation", o.unit.GetGeneration())
		l.learn(id, heldAfter(&o), false)
		l.noteAck(o.unit)
	}
}

// heldAfter is what the cluster has after a call. Of a manager that tells of no deliveries it
// is known only that it has something: whether that is a later wish's content too, it could
// not tell.
func heldAfter(o *outcome) holding {
	if o.mute {
		return holding{}
	}
	return holdingOf(o.applied)
}

// askAgain is how long after a removal was accepted the cluster is asked whether it
// is done, at first and at most; usually it says so before.
const (
	askAgain     = 2 * time.Second
	askAgainMost = 30 * time.Second
)

// watchBreaker tells the breaker how a call ended.
func (l *lane) watchBreaker(o outcome) {
	if !l.breaker.settle(l.opts.Now(), o.probe, o.answered()) {
		return
	}
	if l.breaker.state == breakerOpen {
		l.metrics.opened.WithLabelValues(l.name).Inc()
		l.troubled, l.health.refusing = o.waiting, l.opts.Now()
		if ok, held := l.chatter.pass(); ok {
			l.log.Warn("circuit breaker opened: the cluster does not answer calls, only probes are sent", "failures", l.opts.BreakerFailures, "code", o.waiting.GetCode(), "error", o.waiting.GetMessage(), "lines_left_out", held)
		}
		l.lookAtAll()
		return
	}
	l.troubled, l.health.refusing = nil, time.Time{}
	if ok, held := l.chatter.pass(); ok {
		l.log.Info("circuit breaker closed: the cluster answers again", "lines_left_out", held)
	}
	l.hurry()
}

func (l *lane) fail(log hclog.Logger, a *attempt, o outcome) {
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
	if ok, held := l.chatter.pass(); ok {
		log.Warn("delivery failed", "code", o.waiting.GetCode(), "error", o.waiting.GetMessage(), "failures", a.failures, "lines_left_out", held)
	}
	if l.troubled == nil { // else the unit says what is the matter with the whole cluster
		l.wait(o.unit, o.waiting)
	}
}

func (l *lane) delay(a *attempt, d time.Duration) { a.notBefore = l.opts.Now().Add(d) }

// hurry lets what failed while the manager or its API server was away be tried
// again at once.
// Refusals stay: nothing about them has changed.
func (l *lane) hurry() {
	l.breaker.hint()
	for id, a := range l.work.attempts {
		if !a.refused {
			a.notBefore = time.Time{}
			l.look(id)
		}
	}
}
