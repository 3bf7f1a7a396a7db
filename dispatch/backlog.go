package dispatch

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

// backlog holds what was learned of one cluster and is not handed to the reporter
// yet. A unit has one place in it, however often the cluster changes its mind, and
// of each kind of update only the newest is kept. A token bucket bounds what the
// cluster makes the log take. It knows no clock and no channel.
type backlog struct {
	bucket bucket
	// waiting has the updates of each unit in the order in which they came, order
	// the units in theirs.
	waiting map[string][]*pmpb.UnitUpdate
	order   []string
	bytes   int
	// cut is the batch that is offered to the reporter.
	cut []*pmpb.UnitUpdate
}

const (
	// batchUpdates and batchBytes bound what one cluster hands over at a time, so
	// that it takes a part of a command and not all of it.
	batchUpdates = 32
	batchBytes   = 32 << 10
	// backlogBytes is how much may wait before a cluster is not listened to.
	backlogBytes = 1 << 20
	// updateUnit is the size of an update that costs one token more.
	updateUnit = 8 << 10
	// wishTokens is what a new wish brings: for its confirmation and for the reports
	// that follow. What users do is not held up by what clusters do.
	wishTokens = 4
)

// commitLimit is what a cluster with so many units may make the log take, beyond
// what its users' wishes bring: twice everything at once, then all of it within
// some minute.
func commitLimit(units int) limit {
	return limit{burst: 500 + 2*float64(units), rate: 20 + float64(units)/50}
}

func newBacklog() *backlog { return &backlog{waiting: map[string][]*pmpb.UnitUpdate{}} }

// add takes an update in, in place of an earlier one of its kind.
func (b *backlog) add(u *pmpb.UnitUpdate) {
	have, ok := b.waiting[u.GetId()]
	if !ok {
		b.order = append(b.order, u.GetId())
	}
	kind := kindOf(u)
	have = slices.DeleteFunc(have, func(old *pmpb.UnitUpdate) bool {
		if kindOf(old) != kind {
			return false
		}
		b.bytes -= proto.Size(old)
		return true
	})
	b.waiting[u.GetId()] = append(have, u)
	b.bytes += proto.Size(u)
}

type updateKind int

const (
	updateAcked updateKind = iota
	updateRuntime
	updateWaiting
	updateLost
	updateGone
)

func kindOf(u *pmpb.UnitUpdate) updateKind {
	switch u.GetUpdate().(type) {
	case *pmpb.UnitUpdate_Runtime:
		return updateRuntime
	case *pmpb.UnitUpdate_Waiting:
		return updateWaiting
	case *pmpb.UnitUpdate_Lost:
		return updateLost
	case *pmpb.UnitUpdate_Gone:
		return updateGone
	default:
		return updateAcked
	}
}

// full reports that more waits than is good.
func (b *backlog) full() bool { return b.bytes > backlogBytes }

// offer gives the batch to hand over next, nil when there is none, and how long it
// takes until there are tokens for one. It gives the same batch until it is handed over.
func (b *backlog) offer(l limit, now time.Time) (batch []*pmpb.UnitUpdate, wait time.Duration) {
	if b.cut != nil || len(b.order) == 0 {
		return b.cut, 0
	}
	b.bucket.fill(l, now)
	size, units := 0, 0
	for units < len(b.order) && len(b.cut) < batchUpdates && size < batchBytes {
		id := b.order[units]
		cost := 0
		for _, u := range b.waiting[id] {
			cost += proto.Size(u)
		}
		if !b.bucket.take(float64(len(b.waiting[id]) + cost/updateUnit)) {
			break
		}
		b.cut = append(b.cut, b.waiting[id]...)
		delete(b.waiting, id)
		size += cost
		units++
	}
	b.order = b.order[units:]
	if len(b.order) == 0 {
		b.order = nil
	}
	b.bytes -= size
	if b.cut == nil {
		return nil, b.bucket.wait(l)
	}
	return b.cut, 0
}

// handedOver forgets the batch that was offered.
func (b *backlog) handedOver() { b.cut = nil }
