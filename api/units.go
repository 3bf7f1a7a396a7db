package api

import (
	"encoding/json"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// unit is one cluster's share of a deployment.
type unit struct {
	ID  string `json:"id"`
	Env string `json:"env"`
	// Phase is Pending, Waiting, Refused, Progressing, Available, Degraded, Deleting or Unknown.
	Phase        string   `json:"phase"`
	Tombstone    bool     `json:"tombstone"`
	Acknowledged bool     `json:"acknowledged"`
	Generation   uint64   `json:"generation"`
	Fence        uint64   `json:"fence"`
	ContentHash  string   `json:"content_hash"`
	Waiting      *waiting `json:"waiting"`
	// Unknown is what was last known of a stored unit whose cluster cannot be reached.
	Unknown *unknown `json:"unknown,omitempty"`
	// Fault is why what the cluster has stored does not work, or not all of it.
	Fault   *fault        `json:"fault,omitempty"`
	Runtime *classRuntime `json:"runtime"`
}

// phaseUnknown is the phase of a stored unit whose cluster cannot be reached: nobody knows
// how it is. It is no phase of the state, which only has what clusters said.
const phaseUnknown = "Unknown"

// unknown is what a unit was when its cluster could last be reached, and since when it
// cannot.
type unknown struct {
	LastPhase string  `json:"last_phase"`
	Since     *string `json:"since"`
	Message   string  `json:"message"`
}

// unknownSince is nil while the cluster can be reached, and of units that wait for it: they
// say so themselves.
func unknownSince(c *pmpb.Cluster, u *pmpb.Unit) *unknown {
	if !fsm.Acknowledged(u) || !fsm.Unreachable(c.GetHealth()) {
		return nil
	}
	return &unknown{LastPhase: fsm.UnitPhase(u), Since: stampText(c.GetHealthSince()), Message: c.GetHealthMessage()}
}

// fault is why a unit is Degraded. Final says that waiting is not going to help.
type fault struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Final   bool   `json:"final"`
}

// waiting is why a unit is not delivered.
type waiting struct {
	Code      string  `json:"code"`
	Message   string  `json:"message"`
	Since     *string `json:"since"`
	Permanent bool    `json:"permanent"`
}

func (s *Server) listUnits(w http.ResponseWriter, r *http.Request) error {
	snap, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	list := []unit{}
	for _, u := range snap.UnitsByDeployment(dep.UID) {
		one := newUnit(u)
		one.Unknown = unknownSince(snap.Cluster(u.GetEnv()), u)
		if one.Unknown != nil {
			one.Phase = phaseUnknown
		}
		list = append(list, one)
	}
	return writeJSON(w, http.StatusOK, list)
}

func newUnit(u *pmpb.Unit) unit {
	out := unit{
		ID: u.GetId(), Env: u.GetEnv(), Phase: fsm.UnitPhase(u), Tombstone: u.GetTombstone(), Acknowledged: fsm.Acknowledged(u),
		Generation: u.GetGeneration(), Fence: u.GetFence(), ContentHash: u.GetContentHash(),
	}
	if why := u.GetWaiting(); why != nil {
		out.Waiting = &waiting{Code: why.GetCode(), Message: why.GetMessage(), Since: stampText(why.GetSince()), Permanent: why.GetPermanent()}
	}
	if f := fsm.UnitFault(u); f != nil {
		out.Fault = &fault{Reason: f.Reason, Message: f.Message, Final: f.Final}
	}
	if u.GetRuntime() != nil {
		out.Runtime = newClassRuntime(u)
	}
	return out
}

// stampText gives a time in the form of the contract, nil when there is none.
func stampText(t *timestamppb.Timestamp) *string {
	if t == nil {
		return nil
	}
	text := zulu(t.AsTime())
	return &text
}

// zulu writes a time in UTC with 0, 3, 6 or 9 fractional digits.
func zulu(t time.Time) string {
	layout := "2006-01-02T15:04:05.000000000Z"
	switch n := t.Nanosecond(); {
	case n == 0:
		layout = "2006-01-02T15:04:05Z"
	case n%1e6 == 0:
		layout = "2006-01-02T15:04:05.000Z"
	case n%1e3 == 0:
		layout = "2006-01-02T15:04:05.000000Z"
	}
	return t.UTC().Format(layout)
}

// unitIDIn reads the id out of an answer to a deployment.
func unitIDIn(body []byte) string {
	var w written
	if err := json.Unmarshal(body, &w); err != nil {
		return ""
	}
	return w.ID
}
