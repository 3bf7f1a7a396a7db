package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/history"
)

// rest waits until every cluster has confirmed all that is wanted of it, and no deletion is left.
func (s *stack) rest(ctx context.Context) error {
	return system.Poll(ctx, "the clusters have nothing left to do", func(ctx context.Context) (bool, error) {
		pending, err := s.pending(ctx)
		if err != nil {
			return false, err
		}
		if pending > 0 {
			return false, fmt.Errorf("%d units are not confirmed", pending)
		}
		return true, nil
	})
}

// vote waits until every node has a vote. One that came back as a new server has none before it was stable for a while.
func (s *stack) vote(ctx context.Context) error {
	return system.Poll(ctx, "every node votes", func(ctx context.Context) (bool, error) {
		members, err := s.cluster.Client(s.nodes()[0]).MembersWithHealth(ctx)
		if err != nil {
			return false, err
		}
		for _, m := range members {
			if !m.Voter {
				return false, fmt.Errorf("%s has no vote yet", m.Name)
			}
		}
		return true, nil
	})
}

// pending are the units that clusters have not confirmed, and the deletions that are not complete, by the leader.
func (s *stack) pending(ctx context.Context) (int, error) {
	name, _, err := s.cluster.Leader(ctx)
	if err != nil {
		return 0, err
	}
	node := s.cluster.Node(name)
	if node == nil {
		return 0, errors.New("nobody leads")
	}
	metrics, err := node.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	if leads, _ := metrics.Sum("oaas_pm_raftstore_leader_ready"); leads != 1 {
		return 0, fmt.Errorf("%s does not lead any more", name)
	}
	units, _ := metrics.Sum("oaas_pm_dispatch_pending_units") // none is 0
	deletions, err := s.cluster.Client(name).Deletions(ctx)
	return int(units) + len(deletions), err
}

// runtimes are what the clusters have.
func (s *stack) runtimes(ctx context.Context) (map[string][]history.Runtime, error) {
	out := map[string][]history.Runtime{}
	for _, a := range s.cluster.Agents() {
		have := []history.Runtime{}
		for name, d := range a.Deliveries() {
			have = append(have, history.Runtime{
				Name: name, DeploymentUID: d.GetDeploymentUid(), Epoch: d.GetEpoch(), Fence: d.GetFence(), Hash: d.GetContentHash(),
			})
		}
		out[a.Name()] = have
	}
	var errs []error
	for _, m := range s.cluster.Managers() {
		have, err := classRuntimes(ctx, m)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name(), err))
			continue
		}
		out[m.Name()] = have
	}
	return out, errors.Join(errs...)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o600)
}
