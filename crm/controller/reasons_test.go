package controller_test

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/controller/controllertest"
)

// reasonCase brings one fault about and takes it away again.
type reasonCase struct {
	options func(*controller.Options)
	// prepare is done before the class is made.
	prepare func(*world)
	// spec of the class.
	spec func(*v1alpha1.ClassRuntime)
	// after is done once the class is available; nil when it is degraded from the start.
	after func(*world)
	// heal takes the cause away; the class is available then. Without it the class goes.
	heal func(*world)
	// says is a part of the message.
	says string
}

const reasonClass = "record-1"

func behave(behavior string) func(*v1alpha1.ClassRuntime) {
	return func(o *v1alpha1.ClassRuntime) {
		o.Spec.Functions[0].Config = map[string]string{"SIM_BEHAVIOR": behavior}
	}
}

// edit changes the spec of the class.
func edit(spec func(*v1alpha1.ClassRuntime)) func(*world) {
	return func(w *world) { w.T.Helper(); change(w, &v1alpha1.ClassRuntime{}, reasonClass, spec) }
}

func image(name string) func(*v1alpha1.ClassRuntime) {
	return func(o *v1alpha1.ClassRuntime) { o.Spec.Functions[0].ProvisionConfig.ContainerImage = name }
}

func cpu(request string) func(*v1alpha1.ClassRuntime) {
	return func(o *v1alpha1.ClassRuntime) { o.Spec.Functions[0].ProvisionConfig.CPURequest = request }
}

// reasonCases has a row for every reason that degrades, but for those of elsewhere.
func reasonCases() map[v1alpha1.Reason]reasonCase {
	patient := func(o *controller.Options) { o.Lifecycle.ProbeGrace = time.Hour }
	return map[v1alpha1.Reason]reasonCase{
		v1alpha1.ReasonInvalidSpec:          {spec: cpu("lots"), heal: edit(cpu("10m")), says: "cpu_request"},
		v1alpha1.ReasonApplyRejected:        {prepare: deny(metav1.StatusReasonInvalid), heal: allow, says: "not on my watch"},
		v1alpha1.ReasonForbidden:            {prepare: deny(metav1.StatusReasonForbidden), heal: allow, says: "not on my watch"},
		v1alpha1.ReasonApplyFailed:          {prepare: (*world).brokenWebhook, heal: (*world).noWebhook, says: "webhook"},
		v1alpha1.ReasonFieldConflict:        {after: func(w *world) { w.scaleAs("kubectl", reasonClass, 3) }, heal: func(w *world) { w.scaleAs("kubectl", reasonClass, 1) }, says: "kubectl"},
		v1alpha1.ReasonNameTaken:            {prepare: takeName, heal: freeName, says: "belongs to somebody else"},
		v1alpha1.ReasonQuotaExceeded:        {prepare: quota("0"), heal: quota("10"), says: "exceeded quota"},
		v1alpha1.ReasonCapabilityMissing:    {spec: func(o *v1alpha1.ClassRuntime) { o.Spec.SelectedTemplate = "knative" }, heal: edit(func(o *v1alpha1.ClassRuntime) { o.Spec.SelectedTemplate = "dev" }), says: "Knative Serving"},
		v1alpha1.ReasonPodsRejected:         {prepare: enforce("restricted"), heal: enforce("privileged"), says: "restricted"},
		v1alpha1.ReasonInsufficientCapacity: {spec: cpu("1k"), heal: edit(cpu("10m")), says: "Insufficient cpu"},
		v1alpha1.ReasonImagePullFailed:      {spec: image("echo:missing"), heal: edit(image("echo:1")), says: "echo:missing"},
		v1alpha1.ReasonCrashLoop:            {spec: behave("crash-loop"), heal: edit(behave("healthy")), says: "exit code 1"},
		v1alpha1.ReasonContainerConfigError: {options: patient, spec: behave("not-ready"), prepare: (*world).spoilPods, heal: edit(behave("healthy")), says: "cannot be started"},
		v1alpha1.ReasonProbeFailed:          {spec: behave("not-ready"), heal: edit(behave("healthy")), says: "does not answer its probe"},
		v1alpha1.ReasonProgressDeadlineExceeded: {
			options: func(o *controller.Options) { patient(o); o.ProgressDeadline = 2 * time.Second },
			spec:    behave("not-ready"), heal: edit(behave("healthy")), says: "not ready in time",
		},
		v1alpha1.ReasonReplicasUnavailable: {options: patient, after: (*world).losePods, heal: edit(image("echo:2")), says: "0 of 1 replicas available"},
		v1alpha1.ReasonDeletionBlocked: {
			options: func(o *controller.Options) { o.Lifecycle.DeletionDeadline = time.Second },
			after:   (*world).deleteHeld, says: "example.com/held",
		},
	}
}

// elsewhere names the tests of the other reasons that degrade.
var elsewhere = map[v1alpha1.Reason]string{
	v1alpha1.ReasonKnativeFailed:        "knativetest.TestKnative",
	v1alpha1.ReasonNamespaceTerminating: "TestNamespaceThatGoes and TestFaultOfANamespaceThatGoes",
}

func TestReasons(t *testing.T) {
	t.Parallel()
	cases := reasonCases()
	for _, doc := range v1alpha1.ReasonDocs() {
		c, here := cases[doc.Reason]
		if _, there := elsewhere[doc.Reason]; doc.Degrades && !here && !there {
			t.Errorf("no test of %s", doc.Reason)
		}
		if here {
			t.Run(string(doc.Reason), func(t *testing.T) {
				t.Parallel()
				c.run(t, doc)
			})
		}
	}
}

func (c reasonCase) run(t *testing.T, doc v1alpha1.ReasonDoc) {
	var options []func(*controller.Options)
	if c.options != nil {
		options = append(options, c.options)
	}
	w := start(t, options...)
	if c.prepare != nil {
		c.prepare(w)
	}
	object := w.ClassOf(reasonClass, "echo:1")
	if c.spec != nil {
		c.spec(object)
	}
	w.Create(object)
	if c.after != nil {
		w.Settled(reasonClass, v1alpha1.PhaseAvailable)
		c.after(w)
	}
	object = w.Degraded(reasonClass, doc.Reason)
	if !strings.Contains(object.Status.Message, c.says) || c.heal != nil && !strings.HasSuffix(object.Status.Message, doc.Recovery) {
		t.Errorf("message %q, want %q and the recovery in it", object.Status.Message, c.says)
	}
	w.Eventually("an event tells of it", func() bool { return w.EventCount(reasonClass, doc.Reason) > 0 })
	if c.heal != nil {
		c.heal(w)
		w.Settled(reasonClass, v1alpha1.PhaseAvailable)
		return
	}
	w.releaseHeld()
	w.Eventually("the class is gone", func() bool { return !w.Get(&v1alpha1.ClassRuntime{}, reasonClass) })
}

// deny has the API server refuse the Deployments of the namespace, for a reason.
func deny(reason metav1.StatusReason) func(*world) {
	return func(w *world) {
		w.T.Helper()
		name := "deny-" + w.Namespace
		policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
		policy.Spec.MatchConstraints = &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
			},
		}}}
		policy.Spec.Validations = []admissionv1.Validation{{Expression: "false", Message: "not on my watch", Reason: &reason}}
		w.Create(policy)
		binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}}
		binding.Spec.PolicyName = name
		binding.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Deny}
		binding.Spec.MatchResources = &admissionv1.MatchResources{NamespaceSelector: w.here()}
		w.Create(binding)
		w.T.Cleanup(func() { w.discard(binding, policy) })
		w.Eventually("Deployments are refused", func() bool { return w.tryDeployment() != nil })
	}
}

func allow(w *world) {
	w.T.Helper()
	name := "deny-" + w.Namespace
	w.discard(&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}},
		&admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}})
	// What a person has to change is retried rarely; a change of the class is looked at now.
	w.Eventually("Deployments are taken", func() bool { return w.tryDeployment() == nil })
	edit(image("echo:2"))(w)
}

// brokenWebhook has the API server ask a webhook that is not there.
func (w *world) brokenWebhook() {
	w.T.Helper()
	hooks := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "hook-" + w.Namespace}}
	none, fail := admissionv1.SideEffectClassNone, admissionv1.Fail
	hooks.Webhooks = []admissionv1.ValidatingWebhook{{
		Name: "hook.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail,
		ClientConfig:      admissionv1.WebhookClientConfig{URL: ptr.To("https://127.0.0.1:1/")},
		NamespaceSelector: w.here(),
		Rules: []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
		}},
	}}
	w.Create(hooks)
	w.T.Cleanup(func() { w.discard(hooks) })
	w.Eventually("Deployments are refused", func() bool { return w.tryDeployment() != nil })
}

func (w *world) noWebhook() {
	w.T.Helper()
	w.discard(&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "hook-" + w.Namespace}})
}

// here selects the namespace of the test.
func (w *world) here() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.Namespace}}
}

// discard deletes objects also after the test.
func (w *world) discard(objects ...client.Object) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), controllertest.Patience)
	defer cancel()
	for _, object := range objects {
		if err := client.IgnoreNotFound(w.Client.Delete(ctx, object)); err != nil {
			w.T.Error(err)
		}
	}
}

// tryDeployment asks whether a Deployment would be taken.
func (w *world) tryDeployment() error {
	return client.NewDryRunClient(w.Client).Create(w.Context(), w.someDeployment())
}

// someDeployment is one of nobody.
func (w *world) someDeployment() *appsv1.Deployment {
	labels := map[string]string{"app": "tried"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "tried", Namespace: w.Namespace}}
	d.Spec.Selector, d.Spec.Template.Labels = &metav1.LabelSelector{MatchLabels: labels}, labels
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: "echo:1"}}
	return d
}

func takeName(w *world) {
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: reasonClass, Namespace: w.Namespace}}
	theirs.Spec.Ports = []corev1.ServicePort{{Name: "theirs", Port: 9000}}
	w.Create(theirs)
}

func freeName(w *world) {
	w.discard(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: reasonClass, Namespace: w.Namespace}})
}

func quota(pods string) func(*world) {
	return func(w *world) {
		w.T.Helper()
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "pods", Namespace: w.Namespace}}
		hard := corev1.ResourceList{corev1.ResourcePods: resource.MustParse(pods)}
		if w.Get(q, "pods") {
			change(w, q, "pods", func(q *corev1.ResourceQuota) { q.Spec.Hard = hard })
			return
		}
		q.Spec.Hard = hard
		w.Create(q)
		w.Eventually("the quota counts", func() bool { return w.Get(q, "pods") && len(q.Status.Hard) > 0 })
	}
}

func enforce(level string) func(*world) {
	return func(w *world) {
		w.T.Helper()
		w.Eventually("label the namespace", func() bool {
			namespace := &corev1.Namespace{}
			if err := w.Client.Get(w.Context(), client.ObjectKey{Name: w.Namespace}, namespace); err != nil {
				w.T.Fatal(err)
			}
			namespace.Labels["pod-security.kubernetes.io/enforce"] = level
			return w.Client.Update(w.Context(), namespace) == nil
		})
	}
}

// pod is a pod of the class, nil while there is none that runs.
func (w *world) pod() *corev1.Pod {
	w.T.Helper()
	list := &corev1.PodList{}
	if err := w.Client.List(w.Context(), list, client.InNamespace(w.Namespace)); err != nil {
		w.T.Fatal(err)
	}
	for i := range list.Items {
		if p := &list.Items[i]; p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			return p
		}
	}
	return nil
}

// spoilPods lets containers wait for a configuration that is not there, as a kubelet says
// it.
func (w *world) spoilPods() {
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	w.T.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			list := &corev1.PodList{}
			if err := w.Client.List(ctx, list, client.InNamespace(w.Namespace)); err == nil {
				for i := range list.Items {
					w.spoil(ctx, &list.Items[i])
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
}

func (w *world) spoil(ctx context.Context, p *corev1.Pod) {
	const waiting = "CreateContainerConfigError"
	if p.Status.Phase != corev1.PodRunning || p.Spec.Containers[0].Env[0].Value != "not-ready" ||
		p.Status.ContainerStatuses[0].State.Waiting != nil {
		return
	}
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: waiting, Message: `secret "db" not found`}}
	_ = w.Client.Status().Update(ctx, p) // it is looked at again
}

// losePods makes the pods of a class that is available cease to be ready.
func (w *world) losePods() {
	w.T.Helper()
	// The status tells times in whole seconds: a loss in the second of the application
	// would not count as one.
	applied := w.Class(reasonClass).Status.Applied.AppliedAt.Time
	w.Eventually("the second is over", func() bool { return time.Since(applied) > 2*time.Second })
	w.Eventually("a pod ceases to be ready", func() bool {
		p := w.pod()
		if p == nil {
			return false
		}
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations["sim.kwok/behavior"] = "not-ready"
		return w.Client.Update(w.Context(), p) == nil
	})
}

// deleteHeld deletes the class while a finalizer of somebody else holds a child.
func (w *world) deleteHeld() {
	w.T.Helper()
	service := &corev1.Service{}
	change(w, service, reasonClass, func(s *corev1.Service) { s.Finalizers = append(s.Finalizers, "example.com/held") })
	if err := w.Client.Delete(w.Context(), w.Class(reasonClass)); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) releaseHeld() {
	w.T.Helper()
	change(w, &corev1.Service{}, reasonClass, func(s *corev1.Service) { s.Finalizers = nil })
}

// A namespace that is being deleted takes its classes along, and no class of it keeps the
// controller from the others.
func TestNamespaceThatGoes(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Create(w.ClassOf(reasonClass, "echo:1", "echo:2"))
	w.Settled(reasonClass, v1alpha1.PhaseAvailable)
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Namespace: w.Namespace, Finalizers: []string{"example.com/held"}}}
	w.Create(held)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}
	if err := w.Client.Delete(w.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	w.Eventually("the classes are gone", func() bool { return !w.Get(&v1alpha1.ClassRuntime{}, reasonClass) })

	// What is written into it then is refused for the cause that TestFaultOfANamespaceThatGoes
	// makes a reason of.
	w.Eventually("nothing is taken any more", func() bool {
		err := w.Client.Create(w.Context(), w.someDeployment())
		return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
	})
	change(w, held, "held", func(c *corev1.ConfigMap) { c.Finalizers = nil })
	w.Eventually("the namespace is gone", func() bool {
		return apierrors.IsNotFound(w.Client.Get(w.Context(), client.ObjectKey{Name: w.Namespace}, namespace))
	})
}
