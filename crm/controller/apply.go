package controller

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/template"
)

// FieldManager owns the fields of children. oaas-rs uses the same name, so what
// it created is taken over without a conflict.
const FieldManager = "oprc-crm"

// ConflictError says that another field manager holds fields that this one does
// not take from it.
type ConflictError struct {
	Child childID
	// Fields are paths with the manager that holds them.
	Fields []string
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: held by another manager: %s", e.Child, strings.Join(e.Fields, "; "))
}

// TakenError says that the name of a child belongs to an object of somebody else.
type TakenError struct {
	Child childID
	Owner string
}

// Error implements error.
func (e *TakenError) Error() string {
	return fmt.Sprintf("%s already exists and belongs to %s", e.Child, e.Owner)
}

// ApplyError is any other failure to apply one child.
type ApplyError struct {
	Child childID
	Err   error
}

// Error implements error.
func (e *ApplyError) Error() string { return fmt.Sprintf("apply %s: %v", e.Child, e.Err) }

// Unwrap implements errors.
func (e *ApplyError) Unwrap() error { return e.Err }

// applier writes children with server-side apply and remembers what it wrote,
// so that a child that stands as it was left costs no request.
type applier struct {
	client  client.Client
	live    client.Reader
	metrics *Metrics
	now     func() time.Time
	// dry says that the client's writes are thrown away.
	dry bool

	mu    sync.Mutex
	known map[types.NamespacedName]*memory
}

// memory is what is known of the children of one class runtime.
type memory struct {
	uid    types.UID // of the class runtime
	marks  map[childID]mark
	faults map[childID]*lifecycle.Fault
}

// mark is how a child looked after it was applied.
type mark struct {
	intent     string // hash of what was applied
	print      string // fingerprint of what came of it
	version    uint64 // resourceVersion of the answer
	generation int64  // of the answer
}

func newApplier(c client.Client, live client.Reader, metrics *Metrics, now func() time.Time) *applier {
	return &applier{client: c, live: live, metrics: metrics, now: now, known: map[types.NamespacedName]*memory{}}
}

// forget drops what is known of a class runtime's children.
func (a *applier) forget(owner types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, owner)
}

// knows reports whether anything is known of a class runtime's children.
func (a *applier) knows(owner *v1alpha1.ClassRuntime) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.of(owner)
	return len(m.marks)+len(m.faults) > 0
}

// of returns the memory of a class runtime, a new one for a new object of the
// same name. It is called with mu held.
func (a *applier) of(owner *v1alpha1.ClassRuntime) *memory {
	key := client.ObjectKeyFromObject(owner)
	m := a.known[key]
	if m == nil || m.uid != owner.UID {
		m = &memory{uid: owner.UID, marks: map[childID]mark{}, faults: map[childID]*lifecycle.Fault{}}
		a.known[key] = m
	}
	return m
}

func (a *applier) recall(owner *v1alpha1.ClassRuntime, id childID) (mark, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, ok := a.of(owner).marks[id]
	return m, ok
}

// fault is why the last try to apply a child failed, nil if it did not.
func (a *applier) fault(owner *v1alpha1.ClassRuntime, id childID) *lifecycle.Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of(owner).faults[id]
}

// standing reports whether a child is as the last apply of this intent left it.
func (a *applier) standing(owner *v1alpha1.ClassRuntime, intent *template.Object, existing client.Object) bool {
	m, ok := a.recall(owner, childID{gvk: intent.GVK, name: intent.Name})
	return ok && m.intent == intent.Hash && m.print == fingerprint(existing, intent.Replicas)
}

// apply brings one child to its intent and returns how it stands then.
// existing is the child as it is known, nil when there is none.
func (a *applier) apply(ctx context.Context, owner *v1alpha1.ClassRuntime, intent *template.Object, existing client.Object) (client.Object, error) {
	id := childID{gvk: intent.GVK, name: intent.Name}
	kind := kindWord(intent.GVK)
	if existing != nil {
		if existing.GetDeletionTimestamp() != nil {
			return existing, nil // it is made anew once it is gone
		}
		if a.standing(owner, intent, existing) || a.recognize(owner, intent, existing) {
			a.metrics.applies.WithLabelValues(kind, applySkipped).Inc()
			return existing, nil
		}
	}
	var answer client.Object
	intent, err := a.endRolling(ctx, intent, existing)
	if err == nil {
		answer, err = a.write(ctx, owner, intent, id, existing != nil)
	}
	a.metrics.applies.WithLabelValues(kind, applyOutcome(err)).Inc()
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.of(owner)
	if err != nil {
		since := a.now()
		if earlier := m.faults[id]; earlier != nil {
			since = earlier.Since
		}
		m.faults[id] = applyFault(err, since)
		delete(m.marks, id)
		return nil, err
	}
	delete(m.faults, id)
	m.marks[id] = markOf(intent, answer)
	return answer, nil
}

// markOf is the mark of a child that stands as the intent wants it.
func markOf(intent *template.Object, child client.Object) mark {
	return mark{
		intent: intent.Hash, print: fingerprint(child, intent.Replicas), version: version(child), generation: child.GetGeneration(),
	}
}

// write applies without force first. A conflict is settled by force only when
// the object is ours and every field in conflict is part of the contract: that
// repairs edits by hand. Replicas that somebody scales by hand are reported instead
// of fought over; those that an autoscaler left when it went are kept.
//
// A child of which nothing is known is applied as a new one: an object of somebody
// else need not share a field with ours, and a plain apply would take it over
// without a conflict. Only when there is one, it is looked at.
func (a *applier) write(ctx context.Context, owner *v1alpha1.ClassRuntime, intent *template.Object, id childID, known bool) (client.Object, error) {
	prepare := asNew
	if known {
		prepare = document
		if err := a.release(ctx, owner, intent); err != nil {
			return nil, &ApplyError{Child: id, Err: err}
		}
	}
	sent, err := prepare(intent)
	if err != nil {
		return nil, &ApplyError{Child: id, Err: err}
	}
	err = a.mend(ctx, owner, intent, sent)
	if !known && asksForVersion(err) {
		if err := a.mayTake(ctx, owner, id); err != nil {
			return nil, err
		}
		if err := a.release(ctx, owner, intent); err != nil {
			return nil, &ApplyError{Child: id, Err: err}
		}
		if sent, err = document(intent); err != nil {
			return nil, &ApplyError{Child: id, Err: err}
		}
		err = a.mend(ctx, owner, intent, sent)
	}
	if apierrors.IsConflict(err) {
		if err := a.mayForce(ctx, owner, intent, err); err != nil {
			return nil, err
		}
		if orphaned(err) {
			// The next pass finds the note and leaves the number as it is.
			return nil, errors.Join(&ApplyError{Child: id, Err: err}, a.keep(ctx, owner, intent))
		}
		err = a.mend(ctx, owner, intent, sent, client.ForceOwnership)
	}
	if err != nil {
		return nil, &ApplyError{Child: id, Err: err}
	}
	answer, err := answerOf(intent.GVK, sent)
	if err == nil {
		answer, err = a.within(ctx, intent, answer)
	}
	if err != nil {
		return nil, &ApplyError{Child: id, Err: err}
	}
	return answer, nil
}

// send applies a document, which becomes the API server's answer.
func (a *applier) send(ctx context.Context, object *unstructured.Unstructured, opts ...client.ApplyOption) error {
	return a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), append(opts, client.FieldOwner(FieldManager))...)
}

// asksForVersion reports whether an apply as a new object failed for its version: there
// is an object, or the API server takes no version for one that is to be made.
func asksForVersion(err error) bool {
	return apierrors.IsConflict(err) || err != nil && strings.Contains(err.Error(), "resourceVersion")
}

// neverVersion is a resourceVersion that no object has: the first write to any
// cluster's storage gets a higher one.
const neverVersion = "1"

// asNew is a configuration that creates the object and changes none that exists.
// An API server holds the resourceVersion of an apply against that of the object,
// and drops it when there is none. That is one request where a look before the
// apply would be another, and nobody can come in between.
func asNew(intent *template.Object) (*unstructured.Unstructured, error) {
	object, err := document(intent)
	if err != nil {
		return nil, err
	}
	if r := intent.Replicas; r != nil && r.By != template.BySpec {
		// It begins with the fewest pods, not with one. The next apply gives the number up.
		if err := unstructured.SetNestedField(object.Object, int64(r.Min), "spec", "replicas"); err != nil {
			return nil, fmt.Errorf("set the replicas: %w", err)
		}
	}
	object.SetResourceVersion(neverVersion)
	return object, nil
}

func (a *applier) mayForce(ctx context.Context, owner *v1alpha1.ClassRuntime, intent *template.Object, conflict error) error {
	id := childID{gvk: intent.GVK, name: intent.Name}
	if err := a.mayTake(ctx, owner, id); err != nil {
		return err
	}
	claims := claimsOf(conflict)
	if len(claims) == 0 {
		return &ApplyError{Child: id, Err: conflict} // not a conflict between managers
	}
	// Nobody but the class says how many pods an object store has: two of one node would
	// answer for the same shards.
	if intent.Replicas != nil && slices.ContainsFunc(claims, claim.negotiable) {
		held := make([]string, len(claims))
		for i, c := range claims {
			held[i] = c.path + " (" + c.text + ")"
		}
		slices.Sort(held)
		return &ConflictError{Child: id, Fields: held}
	}
	return nil
}

// mayTake refuses a name that an object of somebody else has.
func (a *applier) mayTake(ctx context.Context, owner *v1alpha1.ClassRuntime, id childID) error {
	live := &metav1.PartialObjectMetadata{}
	live.SetGroupVersionKind(id.gvk)
	if err := a.live.Get(ctx, types.NamespacedName{Namespace: owner.Namespace, Name: id.name}, live); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return &ApplyError{Child: id, Err: err}
	}
	if whose := foreign(live, owner); whose != "" {
		return &TakenError{Child: id, Owner: whose}
	}
	return nil
}

// claim is a field that another manager holds.
type claim struct{ path, text string }

// negotiable reports whether the other manager may decide the field. Replicas that
// an autoscaler left behind are nobody's any more: where one scales the Deployment,
// they are no part of what is applied.
func (c claim) negotiable() bool {
	return c.path == ".spec.replicas" && !strings.Contains(c.text, `"`+ScaleManager+`"`) && !c.autoscalers()
}

// autoscalers reports whether an autoscaler wrote the field.
func (c claim) autoscalers() bool {
	return slices.ContainsFunc(autoscalerManagers, func(name string) bool {
		return strings.Contains(c.text, `"`+name+`" with subresource "scale"`)
	})
}

// orphaned reports whether the replicas in conflict were decided by an autoscaler that is
// gone, and are not kept yet.
func orphaned(conflict error) bool {
	left := false
	for _, c := range claimsOf(conflict) {
		if c.path != ".spec.replicas" {
			continue
		}
		if strings.Contains(c.text, `"`+ScaleManager+`"`) {
			return false // kept before; now the spec asks for another number
		}
		left = left || c.autoscalers()
	}
	return left
}

// claimsOf reads what is in conflict.
func claimsOf(err error) []claim {
	var api apierrors.APIStatus
	if !errors.As(err, &api) || api.Status().Details == nil {
		return nil
	}
	var out []claim
	for _, cause := range api.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		out = append(out, claim{path: cause.Field, text: cause.Message})
	}
	return out
}

// deploymentController prefixes the annotations with which Kubernetes' own
// controller counts revisions.
const deploymentController = "deployment.kubernetes.io/"

// answerOf is the object that an apply left behind: the client decoded the
// answer into the configuration.
func answerOf(gvk schema.GroupVersionKind, configuration any) (client.Object, error) {
	out := newObject(gvk)
	if out == nil {
		return nil, fmt.Errorf("templates render %s, which has no row in childKinds", gvk)
	}
	text, err := json.Marshal(configuration)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("decode the answer: %w", err)
	}
	out.SetManagedFields(nil)
	return out, nil
}

// fingerprint changes when anything but the status of a child changes. The spec
// itself is hashed: the generation of a Deployment also counts annotations, and a
// Service has none. Of replicas that others may change at any time only the bounds
// matter.
func fingerprint(object client.Object, replicas *template.Replicas) string {
	h := sha256.New()
	add := func(parts ...string) {
		for _, part := range parts {
			h.Write([]byte(part))
			h.Write([]byte{0})
		}
	}
	if d, ok := object.(*appsv1.Deployment); ok && replicas != nil && replicas.By != template.BySpec {
		loose := *d
		within := replicas.By == template.ByOthers || d.Spec.Replicas != nil && replicas.Clamp(*d.Spec.Replicas) == *d.Spec.Replicas
		loose.Spec.Replicas = nil
		object = &loose
		add(strconv.FormatBool(within))
	}
	add(string(object.GetUID()), specText(object))
	for _, pairs := range []map[string]string{object.GetLabels(), object.GetAnnotations()} {
		for _, key := range sortedKeys(pairs) {
			if !strings.HasPrefix(key, deploymentController) && key != AnnotationKept {
				add(key, pairs[key])
			}
		}
		add("")
	}
	refs := slices.Clone(object.GetOwnerReferences())
	slices.SortFunc(refs, func(x, y metav1.OwnerReference) int { return cmp.Compare(x.UID, y.UID) })
	for _, ref := range refs {
		add(string(ref.UID), ref.Kind, ref.Name, strconv.FormatBool(ref.Controller != nil && *ref.Controller))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// specText is the spec of a child as JSON. Where it cannot be had, the
// resourceVersion takes its place: then too much is applied, never too little.
func specText(object client.Object) string {
	var spec any
	switch o := object.(type) {
	case *appsv1.Deployment:
		spec = o.Spec
	case *corev1.Service:
		spec = o.Spec
	case *policyv1.PodDisruptionBudget:
		spec = o.Spec
	case *networkingv1.NetworkPolicy:
		spec = o.Spec
	case *autoscalingv2.HorizontalPodAutoscaler:
		spec = o.Spec
	case *servingv1.Service:
		spec = o.Spec
	default:
		return object.GetResourceVersion()
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return object.GetResourceVersion()
	}
	return string(text)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// version reads a resourceVersion, which is comparable within one kind.
func version(object metav1.Object) uint64 {
	v, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return v
}
