package api

import (
	"net/http"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// moveView is how a deployment leaves environments.
type moveView struct {
	Key string `json:"key"`
	// State is None, Moving, or Held when it does not go on.
	State     string  `json:"state"`
	StartedAt *string `json:"started_at"`
	// Leaving environments have a unit that stays as it is until it is replaced.
	Leaving []leavingView `json:"leaving"`
	// Joining are the environments that have come with it.
	Joining []string `json:"joining"`
	// Voters hold votes meanwhile; empty: those of the plan.
	Voters []string `json:"voters"`
	// Held is why it does not go on, or does not begin; null when it does.
	Held *heldView `json:"held"`
	// Failovers are when it was moved because an environment was lost, the oldest first.
	Failovers []string `json:"failovers"`
	// Lost are the environments that it goes back to when they are well again.
	Lost []lostView `json:"lost"`
}

type leavingView struct {
	Env string `json:"env"`
	// Reason is Update, Replan, Drain, Failover or Return.
	Reason string `json:"reason"`
	// Replacement is empty when any other one does.
	Replacement string  `json:"replacement"`
	Since       *string `json:"since"`
}

type heldView struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Env     string  `json:"env"`
	Reason  string  `json:"reason"`
	Since   *string `json:"since"`
}

type lostView struct {
	Env    string  `json:"env"`
	LeftAt *string `json:"left_at"`
}

// The states of a move.
const (
	moveNone   = "None"
	moveMoving = "Moving"
	moveHeld   = "Held"
)

// getMove tells how a deployment leaves environments.
func (s *Server) getMove(w http.ResponseWriter, r *http.Request) error {
	_, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, tellMove(dep))
}

func tellMove(dep *fsm.Deployment) moveView {
	m := dep.Move
	out := moveView{
		Key: dep.Doc.Key, State: moveNone, StartedAt: stampText(m.GetStarted()), Leaving: []leavingView{},
		Joining: append([]string{}, m.GetJoining()...), Voters: append([]string{}, m.GetVoters()...), Failovers: []string{}, Lost: []lostView{},
	}
	for _, l := range m.GetLeaving() {
		out.State = moveMoving
		out.Leaving = append(out.Leaving, leavingView{
			Env: l.GetEnv(), Reason: fsm.MoveReasonName(l.GetReason()), Replacement: l.GetReplacement(), Since: stampText(l.GetSince()),
		})
	}
	if h := m.GetHeld(); h != nil {
		out.State = moveHeld
		out.Held = &heldView{
			Code: h.GetCode(), Message: h.GetMessage(), Env: h.GetEnv(), Reason: fsm.MoveReasonName(h.GetReason()), Since: stampText(h.GetSince()),
		}
	}
	for _, t := range m.GetFailovers() {
		out.Failovers = append(out.Failovers, zulu(t.AsTime()))
	}
	for _, l := range m.GetLost() {
		out.Lost = append(out.Lost, lostView{Env: l.GetEnv(), LeftAt: stampText(l.GetLeft())})
	}
	return out
}

// moveTrouble is what a deployment's last error says of a move that does not go on.
func moveTrouble(m *pmpb.Move) string {
	if h := m.GetHeld(); h != nil {
		return "not moved: " + h.GetMessage() + " (" + h.GetCode() + ")"
	}
	return ""
}

// drainView is how far the draining of an environment is.
type drainView struct {
	Reason string  `json:"reason"`
	Since  *string `json:"since"`
	// Deployments ran there when it began, and Moved of them do not any more. Moving have
	// begun to leave.
	Deployments int  `json:"deployments"`
	Moved       int  `json:"moved"`
	Moving      int  `json:"moving"`
	Done        bool `json:"done"`
	// Held are those that do not leave now, by key; at most maxHeld.
	Held      []heldDeployment `json:"held"`
	HeldCount int              `json:"held_count"`
}

// maxHeld bounds the deployments of which a drain says why they are held.
const maxHeld = 100

type heldDeployment struct {
	Key     string `json:"key"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Since   string `json:"since"`
}

// getDrain tells how far the draining of an environment is.
func (s *Server) getDrain(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	name := pathVar(r, "name")
	c := snap.Cluster(name)
	if c == nil {
		return fail(registry.NotFound, "Cluster not found: %s", name)
	}
	d := tellDrain(snap, c)
	if d == nil {
		return fail(registry.NotFound, "Drain not found: %s is not drained", name)
	}
	return writeJSON(w, http.StatusOK, d)
}

func tellDrain(snap *fsm.Snapshot, c *pmpb.Cluster) *drainView {
	d := registry.DrainOf(snap, c)
	if d == nil {
		return nil
	}
	since := zulu(d.Since)
	out := &drainView{
		Reason: d.Reason, Since: &since, Deployments: d.Deployments, Moved: d.Moved, Moving: d.Moving, Done: d.Done(),
		Held: []heldDeployment{}, HeldCount: len(d.Held),
	}
	for _, h := range d.Held[:min(len(d.Held), maxHeld)] {
		out.Held = append(out.Held, heldDeployment{Key: h.Key, Code: h.Code, Message: h.Message, Since: zulu(h.Since)})
	}
	return out
}

// fleetView is whether the fleet looks as if the control plane were cut off from it.
type fleetView struct {
	// Clusters are those that count: neither cordoned nor drained. Lost of them cannot be
	// reached, or could not a moment ago.
	Clusters int `json:"clusters"`
	Lost     int `json:"lost"`
	// PartitionSuspected stops automatic moves; Reason says why.
	PartitionSuspected bool   `json:"partition_suspected"`
	Reason             string `json:"reason"`
}

func (s *Server) getFleet(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	v := registry.FleetVerdict(snap, s.opts.Now())
	return writeJSON(w, http.StatusOK, fleetView{Clusters: v.Total, Lost: v.Lost, PartitionSuspected: v.Suspected, Reason: v.Reason})
}

// checkFleet is what the doctor says of the fleet.
func (s *Server) checkFleet(snap *fsm.Snapshot) check {
	v := registry.FleetVerdict(snap, s.opts.Now())
	c := check{Name: "fleet", Status: checkOK, Value: "no partition suspected", Bound: "no partition suspected"}
	if v.Suspected {
		c.Status, c.Value = checkWarn, "FleetPartitionSuspected: "+v.Reason
		c.Advice = "automatic moves are stopped; see whether the control plane is cut off, and cordon clusters that are known to be gone"
	}
	return c
}
