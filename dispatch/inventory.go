package dispatch

import (
	"fmt"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// holding is what a cluster is known to have of one unit. It is all that is kept
// of a report: what a cluster says without need must cost no memory.
type holding struct {
	// fenced is false for a manager that knows no deliveries.
	fenced       bool
	epoch, fence uint64
	hash         string
}

func holdingOf(d *oaaspb.Delivery) holding {
	if d == nil {
		return holding{}
	}
	h := holding{fenced: true, epoch: d.GetEpoch(), fence: d.GetFence(), hash: d.GetContentHash()}
	if len(h.hash) > maxHash {
		h.hash = "" // no content has such a hash
	}
	return h
}

// maxHash is the length of a content hash.
const maxHash = 64

// carries reports that what is held is exactly the unit's desired content under
// the unit's fence.
func (h holding) carries(u *pmpb.Unit) bool {
	return h.fenced && h.epoch == u.GetEpoch() && h.fence == u.GetFence() && h.hash == u.GetContentHash()
}

// upTo reports that h is not of a later change than o.
func (h holding) upTo(o holding) bool {
	return h.epoch < o.epoch || h.epoch == o.epoch && h.fence <= o.fence
}

// inventory is what a cluster is known to have, by unit id. It has only units that
// the state knows: of others nothing is decided, and a cluster can name any number.
type inventory map[string]holding

// arrival is an inventory that is being received.
type arrival struct {
	inventory
	// unknown counts what the state does not know, and strays are those that are ours.
	unknown int
	strays  strays
	// mute is as in a report.
	mute bool
}

// protocolError is a cluster's breach of the protocol of its stream.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return "the manager breaks the protocol: " + e.what }

// framing checks how the events of one stream follow each other: an inventory,
// its end, which has to name the right number, and changes. Nothing must be taken
// for absent because a part of an inventory was lost on the way.
type framing struct {
	runtimes uint64
	complete bool
}

func (f *framing) next(event *oaaspb.RuntimeEvent) error {
	switch e := event.GetEvent().(type) {
	case *oaaspb.RuntimeEvent_Upserted:
		if !f.complete {
			f.runtimes++
		}
	case *oaaspb.RuntimeEvent_InventoryComplete:
		if f.complete {
			return &protocolError{"its inventory ends twice"}
		}
		if count := uint64(e.InventoryComplete.GetCount()); count != f.runtimes {
			return &protocolError{fmt.Sprintf("its inventory is said to have %d runtimes, %d arrived", count, f.runtimes)}
		}
		f.complete = true
	}
	return nil
}
