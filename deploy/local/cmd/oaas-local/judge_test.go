package main

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func judgedRuntime() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "cart-1", "uid": "u1", "generation": int64(2), "finalizers": []any{"x"}},
		"spec":     map[string]any{"package_class_key": "shop.Cart"},
		"status": map[string]any{
			"observedGeneration": int64(2),
			"conditions":         []any{map[string]any{"type": "Available", "status": "True"}},
		},
	}}
}

func judgedWorkload() workload {
	return workload{
		suffix: "-fn-0", serviceSuffix: "-fn-0", container: "function", image: "i:1", ports: []int32{8080}, replicas: 2,
		env: map[string]string{"A": "b"}, requests: map[string]string{"cpu": "50m"}, service: map[int32]int32{80: 8080},
	}
}

func judgedMeta() metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name: "cart-1-fn-0", Labels: map[string]string{ownerLabel: "cart-1"},
		OwnerReferences: []metav1.OwnerReference{{Kind: classRuntimeKind, Name: "cart-1", UID: "u1", Controller: &yes}},
	}
}

func judgedDeployment() *appsv1.Deployment {
	replicas := int32(2)
	labels := map[string]string{"app": "cart-1-fn-0"}
	return &appsv1.Deployment{
		ObjectMeta: judgedMeta(),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "function", Image: "i:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
					Env:       []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "ODGM_ENABLED", Value: "true"}},
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("0.05")}},
				}}},
			},
		},
		Status: appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2},
	}
}

func judgedService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: judgedMeta(),
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "cart-1-fn-0"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}

// A smoke test that cannot fail is worth nothing: every rule must notice when it is broken.
func TestJudgeNotices(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*unstructured.Unstructured, *appsv1.Deployment, *corev1.Service)
		want  string
	}{
		{"nothing wrong", func(*unstructured.Unstructured, *appsv1.Deployment, *corev1.Service) {}, ""},
		{"class", func(r *unstructured.Unstructured, _ *appsv1.Deployment, _ *corev1.Service) {
			r.Object["spec"] = map[string]any{"package_class_key": "shop.Order"}
		}, "is of class"},
		{"not available", func(r *unstructured.Unstructured, _ *appsv1.Deployment, _ *corev1.Service) {
			r.Object["status"] = map[string]any{"observedGeneration": int64(2)}
		}, "Available is absent"},
		{"old status", func(r *unstructured.Unstructured, _ *appsv1.Deployment, _ *corev1.Service) { r.SetGeneration(3) }, "generation 2"},
		{"no finalizer", func(r *unstructured.Unstructured, _ *appsv1.Deployment, _ *corev1.Service) { r.SetFinalizers(nil) }, "finalizer"},
		{"owner of another object", func(r *unstructured.Unstructured, _ *appsv1.Deployment, _ *corev1.Service) { r.SetUID("u2") }, "not owned"},
		{"label", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) { d.Labels = nil }, "label"},
		{"replicas", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) { *d.Spec.Replicas = 3 }, "wants 3 replicas"},
		{"unavailable", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) {
			d.Status.AvailableReplicas = 1
		}, "1 available"},
		{"selector", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Labels = map[string]string{"app": "other"}
		}, "selector"},
		{"image", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Containers[0].Image = "i:2"
		}, "image"},
		{"container", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Containers = nil
		}, "container"},
		{"port", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Containers[0].Ports = nil
		}, "ports"},
		{"env", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Containers[0].Env[0].Value = "c"
		}, "env"},
		{"requests", func(_ *unstructured.Unstructured, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Containers[0].Resources.Requests = nil
		}, "requests"},
		{"service port", func(_ *unstructured.Unstructured, _ *appsv1.Deployment, s *corev1.Service) { s.Spec.Ports[0].Port = 81 }, "ports"},
		{"service selector", func(_ *unstructured.Unstructured, _ *appsv1.Deployment, s *corev1.Service) { s.Spec.Selector = nil }, "selects"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			runtime, deployment, service := judgedRuntime(), judgedDeployment(), judgedService()
			test.spoil(runtime, deployment, service)
			problems := checkRuntime(runtime, placed{&expectation{key: "shop.Cart", class: "shop.Cart"}, "cart-1"})
			problems = append(problems, checkDeployment(deployment, runtime, judgedWorkload())...)
			problems = append(problems, checkService(service, runtime, judgedWorkload())...)
			got := strings.Join(problems, "; ")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if problems := checkDeployment(nil, judgedRuntime(), judgedWorkload()); len(problems) == 0 {
		t.Error("a missing deployment was not noticed")
	}
	if problems := checkService(nil, judgedRuntime(), judgedWorkload()); len(problems) == 0 {
		t.Error("a missing service was not noticed")
	}
}
