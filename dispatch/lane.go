package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// lane looks after one cluster. All fields below calls are owned by its single
// goroutine; sessions and calls talk to it through the channels.
type lane struct {
	name    string
	address string
	opts    *Options
	log     hclog.Logger
	metrics *metrics
	term    uint64
	conn    *grpc.ClientConn
	// writes bounds how often the cluster's own row is written, chatter how often
	// its failures are logged.
	writes, chatter *gate

	// out is where the reporter takes batches from, places where calls beyond the
	// first get their place among those of all clusters.
	out    chan<- []*pmpb.UnitUpdate
	places chan struct{}

	// reports are what the session brings, downs why it ended. A cluster that is not
	// listened to for the moment is still known to be gone.
	reports  chan report
	downs    chan error
	outcomes chan outcome
	// sightings are what other nodes have found.
	sightings chan *word
	calls     sync.WaitGroup

	// work is what is to be done, synced to the state's index.
	work   *worklist
	synced uint64
	// leaving are the units whose end was reported, until their rows are gone.
	leaving map[string]bool
	// reviewed is when all units were last looked at.
	reviewed time.Time
	// arriving is the inventory that is being received, nil outside of one.
	arriving *arrival
	// strays are what the cluster has and the state has no unit for, nil without a complete
	// inventory; sweeps bounds what is done about them.
	strays strays
	sweeps *gate
	// noted remembers, by unit, the row that an update was last reported for, so
	// that it is not reported again before the commit shows.
	noted   map[string]note
	backlog *backlog
	// intake bounds how fast the cluster is listened to.
	intake bucket
	// inFlight counts all calls, repairs those that are repairs, and taken the
	// places that the lane has taken for them.
	inFlight, repairs, taken int
	breaker                  breaker
	// troubled is what the call failed with that opened the breaker.
	troubled *pmpb.Waiting
	health   health
	others   others
}

func newLane(m *Manager, term uint64, name, address string, conn *grpc.ClientConn, rep *reporter, places chan struct{}) *lane {
	return &lane{
		name: name, address: address, opts: &m.opts, conn: conn, term: term, metrics: m.metrics,
		log:       m.opts.Logger.Named("lane").With("cluster", name),
		writes:    &gate{limit: rowLimit, now: m.opts.Now},
		chatter:   &gate{limit: chatterLimit, now: m.opts.Now},
		sweeps:    &gate{limit: strayLimit, now: m.opts.Now},
		out:       rep.in,
		places:    places,
		reports:   make(chan report),
		downs:     make(chan error),
		outcomes:  make(chan outcome),
		sightings: make(chan *word),
		work:      newWorklist(),
		leaving:   map[string]bool{},
		noted:     map[string]note{},
		backlog:   newBacklog(),
		breaker:   breaker{trip: m.opts.BreakerFailures, least: m.opts.ProbeMin, most: m.opts.ProbeMax},
		health:    health{contact: liveness.Began(m.opts.Now())},
		others:    others{said: map[string]*word{}},
	}
}

var (
	// rowLimit is for writes of the cluster's row: its health and its description.
	rowLimit = limit{burst: 10, rate: 0.5}
	// chatterLimit is for lines in the log about what fails.
	chatterLimit = limit{burst: 20, rate: 0.2}
)

// run works until ctx ends and returns when every goroutine of the lane has.
func (l *lane) run(ctx context.Context) {
	var session sync.WaitGroup
	session.Go(func() {
		(&follower{conn: l.conn, controlPlane: l.controlPlane, verify: l.verify, opts: l.opts, reports: l.reports, downs: l.downs}).run(ctx)
	})
	session.Go(func() { l.describe(ctx) })
	defer l.forget()
	defer session.Wait()
	defer l.calls.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		snap := l.opts.Registry.State().Snapshot()
		changed := snap.WatchUnitsByEnv(l.name)
		now := l.opts.Now()
		next := l.turn(ctx, snap, now)
		reports, listen := l.listen(now)
		batch, hold := l.backlog.offer(commitLimit(len(l.work.units)), now)
		out := l.out
		if batch == nil {
			out = nil
		}
		timer.Reset(pause(now, next, listen, hold))
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		case r := <-reports:
			l.take(snap, r)
		case cause := <-l.downs:
			l.ended(cause)
		case o := <-l.outcomes:
			l.settle(o)
		case o := <-l.sightings:
			l.others.told(o)
		case l.wantsPlace(now) <- struct{}{}:
			l.taken++
		case out <- batch:
			l.backlog.handedOver()
		}
	}
}

// forget gives back what the lane has of what all lanes share.
func (l *lane) forget() {
	for range l.taken {
		<-l.places
	}
	l.metrics.forget(l.name)
}

func (l *lane) controlPlane() string {
	return l.opts.Registry.State().Snapshot().Meta().GetClusterId()
}

// idle is how long a lane waits at most before it looks again, for the health's sake.
const idle = time.Second

// pause is how long a lane waits, given the time of its next step and the waits for
// tokens; zero is none of them.
func pause(now, next time.Time, waits ...time.Duration) time.Duration {
	d := idle
	if !next.IsZero() {
		d = min(d, max(next.Sub(now), 0))
	}
	for _, w := range waits {
		if w > 0 {
			d = min(d, w)
		}
	}
	return d
}

// reviewEvery is how often a lane looks at all of its units. It learns of every
// change as it happens; this is for what it may have missed.
const reviewEvery = 30 * time.Second

// turn takes in what changed, starts what is due and gives the time of what
// comes next.
func (l *lane) turn(ctx context.Context, snap *fsm.Snapshot, now time.Time) time.Time {
	l.sync(snap)
	health := l.judge(ctx, snap, now)
	asking := l.askOthers(ctx, now)
	l.sweep(ctx, snap, now)
	if now.Sub(l.reviewed) >= reviewEvery {
		clear(l.noted)
		l.lookAtAll()
	}
	l.metrics.pending.WithLabelValues(l.name).Set(float64(l.work.open))
	return earliest(l.startDue(ctx, snap.Meta().GetClusterId(), now), health, asking)
}

// earliest of some times; zero stands for never.
func earliest(times ...time.Time) time.Time {
	var out time.Time
	for _, t := range times {
		if !t.IsZero() && (out.IsZero() || t.Before(out)) {
			out = t
		}
	}
	return out
}

// sync takes in the rows that changed since the last look. Rows leave the state
// only when this lane has reported the end of a tombstone, or when it was given up.
func (l *lane) sync(snap *fsm.Snapshot) {
	applied := snap.Meta().GetAppliedIndex()
	if applied == l.synced {
		return
	}
	for u := range snap.UnitsChangedSince(l.name, l.synced) {
		l.forgetStray(u.GetId())
		if l.work.adopt(u.GetId(), u) {
			l.backlog.bucket.grant(wishTokens)
		}
		l.look(u.GetId())
	}
	for id := range l.leaving {
		if snap.Unit(id) == nil {
			l.left(id)
		}
	}
	l.syncOrphans(snap)
	l.synced = applied
}

// left takes in that a row is gone.
func (l *lane) left(id string) {
	l.work.adopt(id, nil)
	l.look(id)
	delete(l.leaving, id)
	delete(l.noted, id)
}

// look decides anew about one unit.
func (l *lane) look(id string) {
	u := l.work.units[id]
	if u != nil {
		l.explain(u)
	}
	switch l.work.look(id, l.opts.Now()) {
	case acknowledge:
		l.noteAck(u)
	case lost:
		if l.note(u, "lost", &pmpb.UnitUpdate{Update: &pmpb.UnitUpdate_Lost{Lost: &pmpb.Lost{
			Message: "the cluster no longer has the unit; it is sent again",
		}}}) {
			l.metrics.lost.WithLabelValues(l.name).Inc()
		}
	case nothing, deploy, remove, clearFirst:
	}
}

// lookAtAll decides anew about every unit: the inventory is another one.
func (l *lane) lookAtAll() {
	l.reviewed = l.opts.Now()
	for id := range l.work.units {
		l.look(id)
	}
}
