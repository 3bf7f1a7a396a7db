package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/jepsen/cluster"
)

// managers are the nemeses of the clusters' managers.
func managers() []Nemesis {
	own := []Part{Managers}
	return []Nemesis{
		&kind{name: "kill-crm", about: "A crm is killed and comes back.", parts: own, available: hasCRM, choose: killCRM},
		&kind{name: "pause-crm", about: "A crm stands still.", parts: own, available: hasCRM, choose: pauseCRM},
		&kind{
			name: "api-outage", about: "A crm cannot reach its API server.", parts: []Part{Managers, Network},
			available: both(hasCRM, needs(cluster.FaultCut)), choose: outage,
		},
		&kind{name: "unplug-agent", about: "A cluster's manager is off the network and comes back with all that it has.", parts: own, available: hasAgent, choose: unplug},
		&kind{name: "hang-agent", about: "A cluster's manager does not answer.", parts: own, available: hasAgent, choose: behaving(agent.Hanging, agent.Mute)},
		&kind{name: "garble-agent", about: "A cluster's manager answers nonsense, or drops connections.", parts: own, available: hasAgent, choose: behaving(agent.Garbling, agent.Dropping, agent.Doubling, agent.Endless)},
	}
}

func hasCRM(t *Target) error {
	if len(t.Cluster.Managers()) == 0 {
		return errors.New("needs a crm with its Kubernetes (--crms)")
	}
	return nil
}

func hasAgent(t *Target) error {
	if len(t.Cluster.Agents()) == 0 {
		return errors.New("needs an agent (--agents)")
	}
	return nil
}

func (t *Target) anyCRM(random *rand.Rand) *cluster.Manager {
	all := t.Cluster.Managers()
	return all[random.IntN(len(all))]
}

func (t *Target) anyAgent(random *rand.Rand) *cluster.Agent {
	all := t.Cluster.Agents()
	return all[random.IntN(len(all))]
}

func killCRM(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	m := t.anyCRM(random)
	return &Fault{
		Nodes: []string{m.Name()}, Text: "killed",
		Begin: func(context.Context) error { return m.Kill() },
		End:   func(ctx context.Context) error { return reviveCRM(ctx, m) },
	}, nil
}

func pauseCRM(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	m := t.anyCRM(random)
	return &Fault{
		Nodes: []string{m.Name()}, Text: "paused",
		Begin: func(context.Context) error { return m.Pause() },
		End:   func(ctx context.Context) error { return reviveCRM(ctx, m) },
	}, nil
}

// reviveCRM lets it go on, or starts it.
func reviveCRM(ctx context.Context, m *cluster.Manager) error {
	if m.Paused() {
		_ = m.Resume() // one that has ended meanwhile is started below
	}
	if m.Running() {
		return nil
	}
	return m.Start(ctx)
}

func outage(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	m := t.anyCRM(random)
	return cutting(t, []string{m.Name()}, "cannot reach "+m.KubeHost(), apart([]string{m.Name()}, []string{m.KubeHost()})), nil
}

func unplug(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	a := t.anyAgent(random)
	return &Fault{
		Nodes: []string{a.Name()}, Text: "unplugged",
		Begin: func(context.Context) error { return a.Unplug() },
		End:   func(context.Context) error { return a.Plug() },
	}, nil
}

// behaving has an agent depart from what it should do. Only behaviours that do not lose what the cluster has are among them: one
// that does is a cluster that lost its objects, and judged otherwise.
func behaving(ways ...agent.Behaviour) chooser {
	return func(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
		a, way := t.anyAgent(random), ways[random.IntN(len(ways))]
		return &Fault{
			Nodes: []string{a.Name()}, Text: fmt.Sprintf("is %s", way),
			Begin: func(context.Context) error { return a.Behave(way) },
			End:   func(context.Context) error { return a.Behave(agent.Faithful) },
		}, nil
	}
}
