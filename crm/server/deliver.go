package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

func orderOf(d *v1alpha1.Delivery) order {
	return order{Epoch: uint64(d.Epoch), Fence: uint64(d.Fence)}
}

// deliver stores the desired object unless the API server, another owner or a
// newer change stands against it, and says what it did.
//
// A create has no earlier object that the transition rules of the definition
// could compare with. That is what tombstones are for: a delete records one
// before it looks at the object, a create looks for one before and after it
// writes. Whichever order the two run in, on whichever replica, one of them sees
// the other.
func (a *attached) deliver(ctx context.Context, desired *v1alpha1.ClassRuntime) (string, error) {
	outcome := outcomeUnchanged
	err := decide(ctx, func() error {
		if err := a.checkTombstone(ctx, desired); err != nil {
			return err
		}
		live := &v1alpha1.ClassRuntime{}
		err := a.Live.Get(ctx, client.ObjectKeyFromObject(desired), live)
		switch {
		case absent(err):
			outcome = outcomeCreated
			return a.create(ctx, desired)
		case err != nil:
			return fromKubernetes(ctx, "read the class runtime", err)
		}
		changed, err := mayReplace(live, desired)
		if err != nil || !changed {
			outcome = outcomeUnchanged
			return err
		}
		outcome = outcomeUpdated
		if err := a.update(ctx, live, desired); err != nil || !drifted(live) {
			return err
		}
		outcome = outcomeRestored
		a.tellRestored(live, desired)
		return nil
	})
	return outcome, err
}

// tellRestored says that what somebody changed by hand was overwritten. The recorder
// makes one event of repetitions.
func (a *attached) tellRestored(live, desired *v1alpha1.ClassRuntime) {
	if a.Events == nil {
		return
	}
	what := strings.Join(changedFields(&live.Spec, &merged(live, desired).Spec), ", ")
	if what == "" {
		what = "annotation " + AnnotationSpecHash
	}
	a.Events.Eventf(live, nil, corev1.EventTypeWarning, string(v1alpha1.ReasonSpecRestored), "Deploy",
		"%s was changed by hand and is set back to what the control plane sent; change the deployment instead", what)
}

func (a *attached) checkTombstone(ctx context.Context, desired *v1alpha1.ClassRuntime) error {
	d := desired.Spec.Delivery
	if d == nil {
		return nil
	}
	stone, found, err := a.state.lookup(ctx, desired.Name, d.ControlPlaneID)
	if err != nil {
		return fromKubernetes(ctx, "read the agent state", err)
	}
	if found && stone.compare(orderOf(d)) >= 0 {
		return refusal(codes.FailedPrecondition, ReasonTombstoned,
			"unit %q was deleted by a change of %s; this change is of %s", d.UnitID, stone.order, orderOf(d))
	}
	return nil
}

// withdrawBudget is the time for undoing a create, whose caller may be gone.
const withdrawBudget = 5 * time.Second

// create stores a new object. Also when the caller gives up, or the answer of the
// API server is lost, the second look at the tombstones takes place: what was
// confirmed as deleted must not appear after all.
func (a *attached) create(ctx context.Context, desired *v1alpha1.ClassRuntime) error {
	err := a.Client.Create(ctx, desired.DeepCopy(), client.FieldOwner(agentFieldName))
	if apierrors.IsAlreadyExists(err) {
		return errMoved
	}
	err = fromKubernetes(ctx, "create the class runtime", err)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawBudget)
	defer cancel()
	refused := a.checkTombstone(after, desired)
	if status.Code(refused) != codes.FailedPrecondition {
		return cmp.Or(err, refused)
	}
	// A delete ran between the two looks at the tombstones and found nothing to
	// delete.
	if err := a.withdraw(after, desired); err != nil {
		return err
	}
	return refused
}

// withdraw deletes what a create of this very change has stored, if it has. The
// controller may write the object at the same time, so a conflict is tried again.
func (a *attached) withdraw(ctx context.Context, desired *v1alpha1.ClassRuntime) error {
	return decide(ctx, func() error {
		live := &v1alpha1.ClassRuntime{}
		err := a.Live.Get(ctx, client.ObjectKeyFromObject(desired), live)
		if absent(err) || err == nil && !equality.Semantic.DeepEqual(live.Spec.Delivery, desired.Spec.Delivery) {
			return nil
		}
		if err == nil {
			err = a.Client.Delete(ctx, live, client.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion})
		}
		if apierrors.IsConflict(err) {
			return errMoved
		}
		return fromKubernetes(ctx, "withdraw a class runtime that was deleted meanwhile", client.IgnoreNotFound(err))
	})
}

// mayReplace decides whether desired may take the place of live, and whether
// there is anything to write.
func mayReplace(live, desired *v1alpha1.ClassRuntime) (changed bool, err error) {
	if live.DeletionTimestamp != nil {
		return false, refusal(codes.Aborted, ReasonDeleting, "unit %q is being deleted; retry when it is gone", unitID(desired))
	}
	if err := sameOwner(live, desired); err != nil {
		return false, err
	}
	have, want := live.Spec.Delivery, desired.Spec.Delivery
	if have == nil || want == nil {
		// An unfenced package manager has no order of changes: the last one wins.
		return !equality.Semantic.DeepEqual(live.Spec, merged(live, desired).Spec), nil
	}
	switch c := orderOf(have).compare(orderOf(want)); {
	case c > 0:
		return false, stale(live, "change", orderOf(want))
	case c == 0 && have.ContentHash != want.ContentHash:
		return false, refusal(codes.FailedPrecondition, ReasonContentMismatch,
			"unit %q was delivered at %s with another content", want.UnitID, orderOf(have))
	case c == 0:
		// A repetition. It brings back what was edited by hand under this change.
		return !equality.Semantic.DeepEqual(live.Spec, merged(live, desired).Spec) ||
			live.Annotations[AnnotationSpecHash] != desired.Annotations[AnnotationSpecHash], nil
	}
	return true, nil
}

// sameOwner refuses a unit whose name another deployment or control plane holds.
// An object without a delivery was stored by an unfenced package manager; the
// first fenced change of the same unit adopts it.
func sameOwner(live, desired *v1alpha1.ClassRuntime) error {
	have, want := live.Spec.Delivery, desired.Spec.Delivery
	taken := func(by string) error {
		return refusal(codes.AlreadyExists, ReasonOtherOwner, "the name %q belongs to %s", live.Name, by)
	}
	switch {
	case have != nil && want == nil:
		return taken("a unit of control plane " + have.ControlPlaneID)
	case have != nil && have.ControlPlaneID != want.ControlPlaneID:
		return taken("a unit of control plane " + have.ControlPlaneID)
	case have != nil && have.DeploymentUID != want.DeploymentUID:
		return taken("deployment " + have.DeploymentUID)
	case live.Labels[LabelDeploymentID] != desired.Name:
		return taken("an object that no package manager stored")
	case unitID(live) != unitID(desired):
		return taken("unit " + unitID(live))
	}
	return nil
}

// merged is live with everything that a package manager decides taken from
// desired. What other people set beside it stays.
func merged(live, desired *v1alpha1.ClassRuntime) *v1alpha1.ClassRuntime {
	next := live.DeepCopy()
	addons, enforcement := next.Spec.Addons, next.Spec.Enforcement
	desired.DeepCopy().Spec.DeepCopyInto(&next.Spec)
	next.Spec.Addons, next.Spec.Enforcement = addons, enforcement
	if next.Spec.Pods == nil {
		next.Spec.Pods = keptPods(live)
	}
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	for _, owned := range []string{AnnotationCorrelationID, AnnotationUnitID, annotationCPUTarget, AnnotationPods, AnnotationSpecHash} {
		delete(next.Annotations, owned)
	}
	for _, owned := range []string{LabelClass, LabelPackage, LabelDeployment} {
		delete(next.Labels, owned)
	}
	maps.Copy(next.Labels, desired.Labels)
	maps.Copy(next.Annotations, desired.Annotations)
	return next
}

// update writes under the resourceVersion that the decision was made on.
func (a *attached) update(ctx context.Context, live, desired *v1alpha1.ClassRuntime) error {
	err := a.Client.Update(ctx, merged(live, desired), client.FieldOwner(agentFieldName))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return errMoved
	}
	return fromKubernetes(ctx, "update the class runtime", err)
}

// remove issues the deletion of a unit. With a delivery, the tombstone is made
// durable before the object is looked at for the last time, so that a late message
// cannot bring the unit back. A deletion that is refused leaves none.
func (a *attached) remove(ctx context.Context, key types.NamespacedName, request *oaaspb.DeleteDeploymentRequest, now time.Time) error {
	if stone := request.GetDelivery(); stone != nil {
		if _, err := a.deletable(ctx, key, request); err != nil && status.Code(err) != codes.NotFound {
			return err
		}
		err := a.state.record(ctx, tombstone{
			UnitID: key.Name, ControlPlane: stone.GetControlPlaneId(),
			order: order{Epoch: stone.GetEpoch(), Fence: stone.GetFence()}, DeletedAt: now.Unix(),
		})
		if err != nil {
			return fromKubernetes(ctx, "record the tombstone", err)
		}
	}
	return decide(ctx, func() error {
		live, err := a.deletable(ctx, key, request)
		if err != nil || live.DeletionTimestamp != nil {
			return err
		}
		err = a.Client.Delete(ctx, live, client.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return errMoved
		}
		return fromKubernetes(ctx, "delete the class runtime", err)
	})
}

// deletable reads the object that a deletion is about. NOT_FOUND means that the
// API server has no such unit.
func (a *attached) deletable(ctx context.Context, key types.NamespacedName, request *oaaspb.DeleteDeploymentRequest) (*v1alpha1.ClassRuntime, error) {
	live := &v1alpha1.ClassRuntime{}
	if err := a.Live.Get(ctx, key, live); err != nil {
		if absent(err) {
			return nil, noUnit(request.GetDeploymentId())
		}
		return nil, fromKubernetes(ctx, "read the class runtime", err)
	}
	return live, mayDelete(live, request)
}

func noUnit(id string) error { return status.Errorf(codes.NotFound, "no deployment unit %q", id) }

// mayDelete decides whether a deletion of that order may take the object. Two
// unit ids may become the same object name; the one that has it is meant.
func mayDelete(live *v1alpha1.ClassRuntime, request *oaaspb.DeleteDeploymentRequest) error {
	have, stone := live.Spec.Delivery, request.GetDelivery()
	switch {
	case have == nil && live.Labels[LabelDeploymentID] != live.Name:
		return refusal(codes.FailedPrecondition, ReasonOtherOwner, "the object %q was stored by no package manager", live.Name)
	case unitID(live) != request.GetDeploymentId():
		return noUnit(request.GetDeploymentId())
	case have == nil:
		return nil
	case stone == nil:
		return refusal(codes.FailedPrecondition, ReasonOtherOwner,
			"unit %q belongs to control plane %s; its deletion must carry a delivery", have.UnitID, have.ControlPlaneID)
	case have.ControlPlaneID != stone.GetControlPlaneId(), have.DeploymentUID != stone.GetDeploymentUid():
		return refusal(codes.FailedPrecondition, ReasonOtherOwner,
			"unit %q belongs to deployment %s of control plane %s", have.UnitID, have.DeploymentUID, have.ControlPlaneID)
	}
	deletion := order{Epoch: stone.GetEpoch(), Fence: stone.GetFence()}
	if orderOf(have).compare(deletion) > 0 {
		return stale(live, "deletion", deletion)
	}
	return nil
}

// stale refuses what is older than the object. Nothing here can tell an order that a
// person raised from one of a control plane that knows more, so the way out is for a
// person: an object that is deleted is made anew with the order of whoever wants it.
func stale(live *v1alpha1.ClassRuntime, what string, sent order) error {
	doubt := ""
	if last, ok := hashedOrder(live); ok && last != orderOf(live.Spec.Delivery) {
		doubt = fmt.Sprintf(" Its annotation says that %s was stored last: probably spec.delivery was changed by hand.", last)
	}
	return refusal(codes.FailedPrecondition, ReasonStaleFence,
		"ClassRuntime %s/%s (unit %q) is at %s; this %s is of %s, which is older.%s If no other control plane raised it, "+
			"delete the object, and it is made anew as far as it is wanted: kubectl -n %s delete classruntime %s",
		live.Namespace, live.Name, unitID(live), orderOf(live.Spec.Delivery), what, sent, doubt, live.Namespace, live.Name)
}
