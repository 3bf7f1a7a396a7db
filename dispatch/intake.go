package dispatch

import (
	"time"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
)

// eventUnit is the size of an event that costs one token more.
const eventUnit = 1 << 10

// intakeLimit is how much a cluster with so many units is listened to: at once to
// some whole inventories, in the long run to a rate that no cluster with so many
// units needs and that leaves the processors to the others. What it has to say
// beyond that waits on its side.
func intakeLimit(units int) limit {
	return limit{burst: 20_000 + 4*float64(units), rate: 2000}
}

// listen gives the channel of reports, nil while the cluster is not listened to, and
// how long that will be if it is a matter of time.
func (l *lane) listen(now time.Time) (<-chan report, time.Duration) {
	if l.backlog.full() {
		return nil, 0
	}
	most := intakeLimit(len(l.work.units))
	l.intake.fill(most, now)
	if wait := l.intake.wait(most); wait > 0 {
		return nil, wait
	}
	return l.reports, 0
}

// take digests a report of the session.
func (l *lane) take(snap *fsm.Snapshot, r report) {
	if !l.intake.take(1 + float64(proto.Size(r.upserted)/eventUnit)) {
		return // cannot be: it is listened to only while there are tokens
	}
	if !r.begin { // which may be said before the manager has said anything
		l.health.word(l.opts.Now())
	}
	if l.intake.dry {
		l.metrics.throttled.WithLabelValues(l.name).Inc()
	}
	switch {
	case r.begin:
		l.arriving = &arrival{inventory: inventory{}, strays: strays{}, mute: r.mute}
	case r.upserted != nil:
		id := r.upserted.GetDeploymentUnitId()
		if l.work.units[id] == nil {
			if l.arriving != nil {
				l.arriving.unknown++
			}
			l.seeStray(snap, r.upserted)
			return
		}
		l.learn(id, holdingOf(r.upserted.GetDelivery()), true)
		l.noteRuntime(snap, r.upserted)
		l.look(id)
	case r.removed != "":
		l.drop(r.removed)
		l.forgetStray(r.removed)
		if a := l.work.attempts[r.removed]; a != nil {
			a.overtaken = a.inFlight
			a.notBefore = time.Time{} // a tombstone is confirmed, a lost unit sent, at once
		}
		l.look(r.removed)
	case r.complete:
		l.completed()
	case r.alive != nil:
		l.heartbeat(r.alive)
	}
}

func (l *lane) completed() {
	if l.arriving == nil {
		return // an inventory that did not begin; the session sees to it that there is none
	}
	l.work.have, l.work.mute = l.arriving.inventory, l.arriving.mute
	l.straysArrived()
	l.metrics.unknown.WithLabelValues(l.name).Set(float64(l.arriving.unknown))
	if !l.health.contact.Up {
		if ok, held := l.chatter.pass(); ok {
			l.log.Info("inventory complete", "runtimes", len(l.work.have), "unknown", l.arriving.unknown, "lines_left_out", held)
		}
		l.hurry()
	}
	l.arriving = nil
	l.lookAtAll()
	l.health.up(true, "", l.opts.Now())
}

// heartbeat counts only after the inventory: a manager that does not get so far is
// of no use, however alive it is.
func (l *lane) heartbeat(beat *oaaspb.Heartbeat) {
	if l.work.have == nil {
		return
	}
	if beat.GetApiServerReady() && !l.health.ready {
		l.hurry()
	}
	l.health.up(beat.GetApiServerReady(), beat.GetProblem(), l.opts.Now())
}

func (l *lane) ended(cause error) {
	if ok, held := l.chatter.pass(); ok {
		l.log.Warn("session ended", "error", clip(cause.Error()), "lines_left_out", held)
	}
	l.metrics.ended(l.name, cause)
	l.work.have, l.arriving, l.strays = nil, nil, nil
	l.health.down(cause, l.opts.Now(), l.opts.Health)
	l.lookAtAll()
}

// learn puts a unit into the inventories. What a call confirmed does not
// overwrite what the stream says about the same delivery, which knows more.
func (l *lane) learn(id string, held holding, fromStream bool) {
	inventories := []inventory{l.work.have}
	if l.arriving != nil {
		inventories = append(inventories, l.arriving.inventory)
	}
	for _, inv := range inventories {
		if inv == nil {
			continue
		}
		if old, ok := inv[id]; ok && !fromStream && held.upTo(old) {
			continue
		}
		inv[id] = held
	}
}

func (l *lane) drop(id string) {
	delete(l.work.have, id)
	if l.arriving != nil {
		delete(l.arriving.inventory, id)
	}
}
