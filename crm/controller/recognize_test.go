package controller

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

const someHash = "abc"

// stood is an intent and what stands of it.
type stood struct {
	intent *template.Object
	child  *appsv1.Deployment
}

// newStood is a Deployment as an earlier controller left it, with what the API server
// filled in.
func newStood() *stood {
	container := corev1ac.Container().WithName("function").WithImage("echo:1").
		WithEnv(corev1ac.EnvVar().WithName("A").WithValue("1"), corev1ac.EnvVar().WithName("B").WithValue("")).
		WithResources(corev1ac.ResourceRequirements().WithRequests(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000m")}))
	configuration := appsv1ac.Deployment("f", "n").WithLabels(map[string]string{"app": "f"}).
		WithOwnerReferences(metav1ac.OwnerReference().WithUID("1").WithKind("ClassRuntime").WithName("record").WithController(true)).
		WithSpec(appsv1ac.DeploymentSpec().WithReplicas(2).
			WithTemplate(corev1ac.PodTemplateSpec().WithSpec(corev1ac.PodSpec().WithContainers(container))))
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Name: "f", Namespace: "n", UID: "2", ResourceVersion: "7", Generation: 1,
		Labels: map[string]string{"app": "f"}, Annotations: map[string]string{AnnotationIntent: someHash},
		OwnerReferences: []metav1.OwnerReference{{UID: "1", Kind: "ClassRuntime", Name: "record", Controller: ptr.To(true)}},
	}}
	d.Spec.Replicas, d.Spec.ProgressDeadlineSeconds = ptr.To[int32](2), ptr.To[int32](600)
	d.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "function", Image: "echo:1", ImagePullPolicy: corev1.PullIfNotPresent, Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B"}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
	}}
	return &stood{child: d, intent: &template.Object{
		GVK: deploymentKind, Name: "f", Configuration: configuration, Hash: someHash,
		Replicas: &template.Replicas{By: template.BySpec, Min: 2, Max: 2},
	}}
}

func (s *stood) container() *corev1.Container { return &s.child.Spec.Template.Spec.Containers[0] }

// scaledBy leaves the number of replicas to somebody, within 2 and 5.
func (s *stood) scaledBy(who template.Decider, replicas int32) {
	s.intent.Replicas = &template.Replicas{By: who, Min: 2, Max: 5}
	if d, ok := s.intent.Configuration.(*appsv1ac.DeploymentApplyConfiguration); ok {
		d.Spec.Replicas = nil
	}
	s.child.Spec.Replicas = ptr.To(replicas)
}

func TestRecognize(t *testing.T) {
	t.Parallel()
	owner := &v1alpha1.ClassRuntime{ObjectMeta: metav1.ObjectMeta{Name: "record", Namespace: "n", UID: "1"}}
	for name, test := range map[string]struct {
		change func(*stood)
		want   bool
	}{
		"as it was left":               {func(*stood) {}, true},
		"the controllers' annotations": {func(s *stood) { s.child.Annotations["deployment.kubernetes.io/revision"] = "3" }, true},
		"another intent":               {func(s *stood) { s.intent.Hash = "def" }, false},
		"no mark":                      {func(s *stood) { delete(s.child.Annotations, AnnotationIntent) }, false},
		"of another owner":             {func(s *stood) { s.child.OwnerReferences[0].UID = "2" }, false},
		"of nobody":                    {func(s *stood) { s.child.OwnerReferences = nil }, false},
		"another image":                {func(s *stood) { s.container().Image = "echo:2" }, false},
		"a variable more":              {func(s *stood) { s.container().Env = append(s.container().Env, corev1.EnvVar{Name: "C"}) }, false},
		"a variable less":              {func(s *stood) { s.container().Env = s.container().Env[:1] }, false},
		"no variables":                 {func(s *stood) { s.container().Env = nil }, false},
		"a label less":                 {func(s *stood) { s.child.Labels = nil }, false},
		"no request":                   {func(s *stood) { s.container().Resources = corev1.ResourceRequirements{} }, false},
		"scaled by hand":               {func(s *stood) { s.child.Spec.Replicas = ptr.To[int32](3) }, false},
		"the note of an autoscaler":    {func(s *stood) { s.child.Annotations[AnnotationKept] = "1" }, false},
		"scaled within its bounds":     {func(s *stood) { s.scaledBy(template.ByAutoscaler, 4) }, true},
		"scaled beyond its bounds":     {func(s *stood) { s.scaledBy(template.ByAutoscaler, 6) }, false},
		"scaled by somebody else":      {func(s *stood) { s.scaledBy(template.ByOthers, 6) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStood()
			test.change(s)
			a := newApplier(nil, nil, nil, nil)
			if got := a.recognize(owner, s.intent, s.child); got != test.want {
				t.Fatalf("recognized: %v", got)
			}
			if got := a.standing(owner, s.intent, s.child); got != test.want {
				t.Errorf("standing from then on: %v", got)
			}
			if test.want && a.recognize(owner, s.intent, s.child) {
				t.Error("recognized although it is known")
			}
		})
	}
}
