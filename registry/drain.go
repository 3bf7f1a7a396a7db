package registry

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// dateDrain fills in since when a cluster is drained, and of how many deployments.
func (r *Registry) dateDrain(snap *fsm.Snapshot, have *pmpb.Cluster, policy *pmpb.ClusterPolicy) error {
	policy.DrainSince, policy.DrainDeployments = nil, 0
	if !policy.GetDraining() {
		return nil
	}
	if level := snap.FeatureLevel(); level < fsm.FailoverFrom {
		return errorf(FailedPrecondition, "Draining needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.FailoverFrom, level)
	}
	if before := have.GetPolicy(); before.GetDraining() {
		policy.DrainSince, policy.DrainDeployments = before.GetDrainSince(), before.GetDrainDeployments()
		return nil
	}
	policy.DrainSince, policy.DrainDeployments = timestamppb.New(r.now()), uint32(unitsIn(snap, have.GetName()))
	return nil
}

// Drain is how far the draining of a cluster is.
type Drain struct {
	Reason string
	Since  time.Time
	// Deployments ran there when it began, and Moved of them do not any more. Moving have
	// begun to leave.
	Deployments, Moved, Moving int
	// Held are those that do not leave now, by key.
	Held []HeldDeployment
}

// HeldDeployment is a deployment that does not leave a cluster now.
type HeldDeployment struct {
	Key, Code, Message string
	Since              time.Time
}

// Done reports that nothing runs there any more.
func (d *Drain) Done() bool { return d.Moved == d.Deployments }

// DrainOf tells how far the draining of a cluster is; nil when it is not drained.
func DrainOf(snap *fsm.Snapshot, c *pmpb.Cluster) *Drain {
	p := c.GetPolicy()
	if !p.GetDraining() {
		return nil
	}
	out := &Drain{Reason: p.GetDrainReason(), Since: p.GetDrainSince().AsTime()}
	left := 0
	for _, u := range snap.UnitsByEnv(c.GetName()) {
		dep := snap.DeploymentByUID(u.GetDeploymentUid())
		if u.GetTombstone() || dep == nil {
			continue
		}
		left++
		leaves := dep.Leaves(c.GetName())
		if leaves {
			out.Moving++
		}
		if h := dep.Move.GetHeld(); h != nil && (leaves || h.GetEnv() == c.GetName()) {
			out.Held = append(out.Held, HeldDeployment{Key: dep.Doc.Key, Code: h.GetCode(), Message: h.GetMessage(), Since: h.GetSince().AsTime()})
		}
	}
	out.Deployments = max(int(p.GetDrainDeployments()), left)
	out.Moved = out.Deployments - left
	return out
}
