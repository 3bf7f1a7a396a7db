package controller_test

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/controller/controllertest"
	"oaas.io/control-plane/crm/template"
	"oaas.io/control-plane/deploy/local/gate"
	"oaas.io/control-plane/deploy/local/localtest"
)

// ledBefore runs a controller for as long as f takes. What it returns has nobody to lead it.
func ledBefore(t *testing.T, namespace string, f func(*world), change ...func(*controller.Options)) *world {
	t.Helper()
	c := controllertest.Cluster(t)
	t.Run("before", func(t *testing.T) {
		f(&world{controllertest.StartIn(t, c.RESTConfig(), namespace, change...)})
	})
	direct, err := client.New(c.RESTConfig(), client.Options{Scheme: controllertest.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return &world{&controllertest.World{T: t, Namespace: namespace, Client: direct}}
}

// counted is a way to the API server that counts.
func counted(t *testing.T) *gate.Gate {
	t.Helper()
	g, err := gate.Start(controllertest.Cluster(t).RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// Whoever takes over finds what rests as it was left, of every template and with all that
// can be asked for, and writes nothing. What was edited meanwhile is repaired.
func TestTakeoverWritesNothing(t *testing.T) {
	t.Parallel()
	namespace := localtest.Namespace(t, controllertest.Cluster(t))
	opts := func(o *controller.Options) {
		o.Environment.Profile, o.Environment.HPA = "full", true
		o.Environment.Pods.NetworkPolicy = template.NetworkNamespace
	}
	templates := []string{"dev", "edge", "k8s_deployment"}
	children := 0
	nobody := ledBefore(t, namespace, func(w *world) {
		for _, name := range templates {
			object := w.ScaledClass("record-"+strings.ReplaceAll(name, "_", "-"), 2, 5)
			object.Spec.SelectedTemplate, object.Spec.Addons = name, nil
			object.Spec.Functions = append(object.Spec.Functions, w.ClassOf("x", "echo:2").Spec.Functions...)
			object.Spec.Functions[1].FunctionKey = "Record.fixed"
			w.Create(object)
		}
		for _, name := range templates {
			children += len(w.Settled("record-"+strings.ReplaceAll(name, "_", "-"), v1alpha1.PhaseAvailable).Status.ResourceRefs)
		}
	}, opts)
	change(nobody, &appsv1.Deployment{}, "record-dev-fn-1", func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = "echo:3"
	})

	way := counted(t)
	w := &world{controllertest.StartIn(t, way.RESTConfig(), namespace, opts)}
	w.Eventually("every child was looked at", func() bool { return w.Applies("skipped")+w.Applies("applied") >= children })
	w.Settled("record-dev", v1alpha1.PhaseAvailable)
	if image := w.Deployment("record-dev-fn-1").Spec.Template.Spec.Containers[0].Image; image != "echo:2" {
		t.Errorf("runs %s", image)
	}
	for request := range way.Counts().ByRequest {
		if verb, kind, _ := strings.Cut(request, " "); verb == "apply" && kind != "deployments" && kind != "classruntimes/status" {
			t.Errorf("written: %s", kind)
		}
	}
	for _, line := range way.Recent() {
		if strings.Contains(line, "(apply ") && !strings.Contains(line, "/record-dev-fn-1 ") && !strings.Contains(line, "/record-dev/status ") {
			t.Errorf("written: %s", line)
		}
	}
}

// What was changed while nobody led is not kept waiting by the many that rest.
func TestChangesComeFirstAfterTakeover(t *testing.T) {
	t.Parallel()
	namespace := localtest.Namespace(t, controllertest.Cluster(t))
	const count = 20
	last := fmt.Sprintf("record-%02d", count-1)
	nobody := ledBefore(t, namespace, func(w *world) {
		for i := range count {
			w.Create(w.ClassOf(fmt.Sprintf("record-%02d", i), "echo:1"))
		}
		for i := range count {
			w.Settled(fmt.Sprintf("record-%02d", i), v1alpha1.PhaseAvailable)
		}
	})
	change(nobody, &v1alpha1.ClassRuntime{}, last, func(o *v1alpha1.ClassRuntime) {
		o.Spec.Functions[0].ProvisionConfig.ContainerImage = "echo:2"
	})
	// The manager before this one was of another build, so that nothing is recognised.
	for i := range count {
		change(nobody, &appsv1.Deployment{}, fmt.Sprintf("record-%02d", i), func(d *appsv1.Deployment) {
			delete(d.Annotations, controller.AnnotationIntent)
		})
	}
	way := counted(t)
	w := &world{controllertest.StartIn(t, way.RESTConfig(), namespace, func(o *controller.Options) { o.Concurrency = 1 })}
	w.Settled(last, v1alpha1.PhaseAvailable)
	w.Eventually("the others are looked at too", func() bool { return way.Counts().ByRequest["apply deployments"] >= count })
	for _, line := range way.Recent() {
		if strings.Contains(line, "apply deployments") {
			if !strings.Contains(line, last) {
				t.Errorf("the first child written is that of another class: %s", line)
			}
			break
		}
	}
}
