package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// fleet turns candidates into registered clusters. A statically configured
// cluster is registered at once, since the operator vouches for it; what gossip
// proposes, and what an agent says to be, is registered after the manager there said
// that it is that cluster. Names are asked independently of each other, so that one that
// does not answer delays none.
type fleet struct {
	m    *Manager
	term uint64

	asking sync.WaitGroup
	mu     sync.Mutex
	// busy are the names that are being asked about.
	busy map[string]bool
	// waiting says that it was told that agents have to wait; only run's goroutine uses it.
	waiting bool
}

const (
	// verifyInterval is how often candidates that are not registered yet are asked
	// again. Registered ones cost nothing.
	verifyInterval = 2 * time.Second
	// maxAsking bounds the names that are asked about at a time.
	maxAsking = 256
)

// run registers until ctx ends, and returns when nobody is asked any more.
func (f *fleet) run(ctx context.Context) {
	defer f.asking.Wait()
	tick := time.NewTicker(verifyInterval)
	defer tick.Stop()
	for {
		f.pass(ctx)
		select {
		case <-ctx.Done():
			return
		case <-f.m.opts.Candidates.Changed():
		case <-tick.C:
		}
	}
}

// pass looks at every candidate once, and asks about those that are news.
func (f *fleet) pass(ctx context.Context) {
	for _, group := range byName(f.candidates()) {
		if f.settled(group) || !f.begin(group[0].Name) {
			continue
		}
		f.asking.Go(func() {
			defer f.end(group[0].Name)
			f.settle(ctx, group)
		})
	}
}

// candidates are those that may be registered. While there may be servers that could
// not dial an agent if they came to lead, that is nobody who is one.
func (f *fleet) candidates() []discovery.Candidate {
	all := f.m.opts.Candidates.Candidates()
	if f.m.opts.Registry.State().Snapshot().FeatureLevel() >= fsm.AgentsFrom {
		return all
	}
	out := slices.DeleteFunc(slices.Clone(all), func(c discovery.Candidate) bool { return c.Source == discovery.SourceAgent })
	if len(out) < len(all) && !f.waiting {
		f.waiting = true
		f.m.opts.Logger.Warn("agents are not registered before all servers know how to reach them", "agents", len(all)-len(out), "feature_level", fsm.AgentsFrom)
	}
	return out
}

func (f *fleet) begin(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[name] || len(f.busy) >= maxAsking {
		return false
	}
	f.busy[name] = true
	return true
}

func (f *fleet) end(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, name)
}

// settle tries the candidates of one name in order until one answers: a manager that
// moved is announced under its new address before its old one is forgotten.
func (f *fleet) settle(ctx context.Context, group []discovery.Candidate) {
	for _, c := range group {
		err := f.register(ctx, c)
		if err == nil || ctx.Err() != nil {
			return
		}
		f.m.metrics.rejected.WithLabelValues(rejection(err)).Inc()
		f.m.opts.Logger.Warn("cluster not registered", "cluster", c.Name, "address", c.Address, "error", clip(err.Error()))
	}
}

// settled reports that the preferred candidate of a name, the newest one, is
// registered as it is.
func (f *fleet) settled(group []discovery.Candidate) bool {
	row := f.m.opts.Registry.State().Snapshot().Cluster(group[0].Name)
	return row != nil && row.GetSource() == sourceOf(group[0]) && row.GetAddress() == group[0].Address
}

func (f *fleet) register(ctx context.Context, c discovery.Candidate) error {
	var info *oaaspb.ClusterInfo
	if sourceOf(c) != pmpb.ClusterSource_CLUSTER_SOURCE_STATIC {
		var err error
		if info, err = f.verify(ctx, c); err != nil {
			return err
		}
	}
	err := f.m.opts.Registry.PutCluster(ctx, f.term, c.Name, func(row *pmpb.Cluster) error {
		static := pmpb.ClusterSource_CLUSTER_SOURCE_STATIC
		if row.GetSource() == static && sourceOf(c) != static && f.configured(c.Name) {
			return nil // configuration outranks what is found
		}
		row.Source = sourceOf(c)
		if row.GetAddress() != c.Address {
			row.Address = c.Address
			row.Health, row.HealthMessage, row.Observations = pmpb.ClusterHealth_CLUSTER_HEALTH_UNKNOWN, "not contacted yet", nil
		}
		if info == nil {
			return nil
		}
		return describe(row, info)
	})
	if err == nil {
		f.m.opts.Logger.Info("cluster registered", "cluster", c.Name, "address", c.Address, "source", sourceOf(c))
	}
	return err
}

// verify asks a candidate that was found who it is.
func (f *fleet) verify(ctx context.Context, c discovery.Candidate) (*oaaspb.ClusterInfo, error) {
	conn, err := f.m.opts.Dial(c.Name, c.Address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", c.Address, err)
	}
	defer func() { _ = conn.Close() }() // nothing is lost: the connection was only for this question
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	info, err := identify(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("ask who it is: %w", err)
	}
	if info.GetName() != c.Name {
		return nil, fmt.Errorf("%w: it was announced as %q and says it is %q", errOtherCluster, c.Name, info.GetName())
	}
	if uid, agent := discovery.AgentUID(c.Address); agent && uid != info.GetUid() {
		return nil, fmt.Errorf("%w: it connected with uid %q and says it has %q", errOtherCluster, uid, info.GetUid())
	}
	forget(info, f.m.opts.Registry.State().Snapshot().FeatureLevel())
	return info, nil
}

func (f *fleet) configured(name string) bool {
	return slices.ContainsFunc(f.m.opts.Candidates.Candidates(), func(c discovery.Candidate) bool {
		return c.Name == name && sourceOf(c) == pmpb.ClusterSource_CLUSTER_SOURCE_STATIC
	})
}

func sourceOf(c discovery.Candidate) pmpb.ClusterSource {
	switch c.Source {
	case discovery.SourceStatic:
		return pmpb.ClusterSource_CLUSTER_SOURCE_STATIC
	case discovery.SourceAgent:
		return pmpb.ClusterSource_CLUSTER_SOURCE_AGENT
	default:
		return pmpb.ClusterSource_CLUSTER_SOURCE_GOSSIP
	}
}

func rejection(err error) string {
	if errors.Is(err, errOtherCluster) {
		return "identity"
	}
	if _, untrusted := untrustedBecause(err); untrusted {
		return "untrusted"
	}
	return "unreachable"
}

// byName groups candidates, keeping their order within a name.
func byName(candidates []discovery.Candidate) [][]discovery.Candidate {
	at := map[string]int{}
	var groups [][]discovery.Candidate
	for _, c := range candidates {
		i, ok := at[c.Name]
		if !ok {
			i = len(groups)
			at[c.Name] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], c)
	}
	return groups
}
