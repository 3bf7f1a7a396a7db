package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/proto/pmpb"
)

// Observer is another node of the control plane.
type Observer struct{ ID, Name string }

// Observers are the other nodes, which can be asked to try to reach a cluster.
type Observers interface {
	// Observers gives those that have a vote, this node excepted, in a fixed order.
	Observers() []Observer
	// ServerConn gives the connection to the internal port of one, which stays its own.
	ServerConn(ctx context.Context, id string) (*grpc.ClientConn, error)
}

// observationLimit bounds how long the answer of one node is waited for: it tries for
// probeLimit.
const observationLimit = probeLimit + time.Second

// others is what other nodes have found that were asked to reach a cluster which this one
// does not. One is asked at a time, in turn.
type others struct {
	// said has the last word of each node by its id.
	said map[string]*word
	// wanted says that somebody is to be asked, asking that somebody is.
	wanted, asking bool
	asked          time.Time
	turn           int
}

// word is what a node has said. at is when, by the clock that waiting is measured by: the
// wall clock may be set at any time.
type word struct {
	*pmpb.Observation
	at time.Time
}

func (o *others) told(said *word) {
	o.asking = false
	if said != nil {
		o.said[said.GetServerId()] = said
	}
}

// sightings gives what was said since a time, and forgets what was said before.
func (o *others) sightings(since time.Time) []liveness.Sighting {
	maps.DeleteFunc(o.said, func(_ string, s *word) bool { return s.at.Before(since) })
	out := make([]liveness.Sighting, 0, len(o.said))
	for _, s := range o.said {
		out = append(out, liveness.Sighting{At: s.at, Reachable: s.GetReachable()})
	}
	return out
}

// wellSeen reports that a node has reached the cluster and found it well.
func (o *others) wellSeen() bool {
	for _, s := range o.said {
		if s.GetReachable() && s.GetReady() {
			return true
		}
	}
	return false
}

// rows gives what was said in the form in which it is stored.
func (o *others) rows(f *finding) []*pmpb.Observation {
	var out []*pmpb.Observation
	for _, id := range slices.Sorted(maps.Keys(o.said)) {
		s := o.said[id]
		out = append(out, &pmpb.Observation{
			ServerId: s.GetServerId(), Node: s.GetNode(), Time: f.stamp(s.at),
			Reachable: s.GetReachable(), Ready: s.GetReady(), Message: s.GetMessage(),
		})
	}
	return out
}

// wordOf sums up what is stored.
func wordOf(stored []*pmpb.Observation) liveness.Word {
	sum := liveness.None
	for _, s := range stored {
		if s.GetReachable() {
			return liveness.Contradicted
		}
		sum = liveness.Confirmed
	}
	return sum
}

// annotate adds to a reason what the other nodes say.
func (o *others) annotate(reason string, word liveness.Word, leader string) string {
	names := func(reachable bool) string {
		var out []string
		for _, s := range o.said {
			if s.GetReachable() == reachable {
				out = append(out, cmp.Or(s.GetNode(), s.GetServerId()))
			}
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	switch word {
	case liveness.Contradicted:
		who := names(true)
		verb := "reaches"
		if strings.Contains(who, ",") {
			verb = "reach"
		}
		return fmt.Sprintf("not reached by the leader %s (%s); %s %s it: the network between is at fault", leader, reason, who, verb)
	case liveness.Confirmed:
		return reason + "; not reached by " + names(false) + " either"
	default:
		return reason
	}
}

// askOthers lets another node try to reach the cluster when it is time to, and gives the
// time of the next attempt.
func (l *lane) askOthers(ctx context.Context, now time.Time) time.Time {
	o := &l.others
	if !o.wanted || o.asking || l.opts.Observers == nil {
		return time.Time{}
	}
	if due := o.asked.Add(l.opts.Health.Renewal); now.Before(due) {
		return due
	}
	nodes := l.opts.Observers.Observers()
	if len(nodes) == 0 {
		return time.Time{}
	}
	o.asking, o.asked = true, now
	o.turn++
	first := o.turn % len(nodes)
	nodes = append(slices.Clone(nodes[first:]), nodes[:first]...)
	l.calls.Go(func() {
		said := l.ask(ctx, nodes, now)
		select {
		case l.sightings <- said:
		case <-ctx.Done():
		}
	})
	return time.Time{}
}

// ask gives the word of the first of the nodes that can say anything, or nil.
func (l *lane) ask(ctx context.Context, nodes []Observer, now time.Time) *word {
	for _, node := range nodes {
		resp, err := l.askOne(ctx, node)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			l.log.Debug("another node cannot say whether it reaches the cluster", "asked", node.Name, "server_id", node.ID, "error", err)
			continue
		}
		outcome := "missed"
		if resp.GetReachable() {
			outcome = "reached"
		}
		l.metrics.probes.WithLabelValues(outcome).Inc()
		return &word{at: now, Observation: &pmpb.Observation{
			ServerId: node.ID, Node: node.Name,
			Reachable: resp.GetReachable(), Ready: resp.GetReady(), Message: clip(resp.GetError()),
		}}
	}
	l.metrics.probes.WithLabelValues("failed").Inc()
	return nil
}

func (l *lane) askOne(ctx context.Context, node Observer) (*pmpb.ProbeClusterResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, observationLimit)
	defer cancel()
	conn, err := l.opts.Observers.ServerConn(ctx, node.ID)
	if err != nil {
		return nil, err
	}
	return pmpb.NewProbeServiceClient(conn).ProbeCluster(ctx, &pmpb.ProbeClusterRequest{
		ClusterId: l.controlPlane(), ServerId: node.ID, Name: l.name, Address: l.address,
	})
}
