package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	appsv1client "k8s.io/client-go/kubernetes/typed/apps/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"oaas.io/control-plane/deploy/local"
)

// The custom resource and the label of everything that is made for it.
var classRuntimes = schema.GroupVersionResource{Group: "oaas.io", Version: "v1alpha1", Resource: "classruntimes"}

const (
	classRuntimeKind = "ClassRuntime"
	ownerLabel       = "oaas.io/owner"
)

// judge reads one cluster from its API server and compares.
type judge struct {
	cluster   string
	namespace string
	apps      *appsv1client.AppsV1Client
	core      *corev1client.CoreV1Client
	custom    dynamic.Interface
}

func newJudge(c *local.Cluster, namespace string) (*judge, error) {
	config := c.RESTConfig()
	j := &judge{cluster: c.Name, namespace: namespace}
	var err error
	if j.apps, err = appsv1client.NewForConfig(config); err != nil {
		return nil, err
	}
	if j.core, err = corev1client.NewForConfig(config); err != nil {
		return nil, err
	}
	j.custom, err = dynamic.NewForConfig(config)
	return j, err
}

// contents is everything of the product in the namespace.
type contents struct {
	runtimes    map[string]*unstructured.Unstructured
	deployments map[string]*appsv1.Deployment
	replicaSets []appsv1.ReplicaSet
	services    map[string]*corev1.Service
	pods        []corev1.Pod
}

func (j *judge) read(ctx context.Context) (*contents, error) {
	c := &contents{runtimes: map[string]*unstructured.Unstructured{}, deployments: map[string]*appsv1.Deployment{}, services: map[string]*corev1.Service{}}
	runtimes, err := j.custom.Resource(classRuntimes).Namespace(j.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list class runtimes: %w", err)
	}
	for i := range runtimes.Items {
		c.runtimes[runtimes.Items[i].GetName()] = &runtimes.Items[i]
	}
	deployments, err := j.apps.Deployments(j.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list deployments: %w", err)
	}
	for i := range deployments.Items {
		c.deployments[deployments.Items[i].Name] = &deployments.Items[i]
	}
	replicaSets, err := j.apps.ReplicaSets(j.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list replica sets: %w", err)
	}
	c.replicaSets = replicaSets.Items
	services, err := j.core.Services(j.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	for i := range services.Items {
		c.services[services.Items[i].Name] = &services.Items[i]
	}
	pods, err := j.core.Pods(j.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	c.pods = pods.Items
	return c, nil
}

// placed is an expectation together with the name of its ClassRuntime in one cluster.
type placed struct {
	*expectation
	name string
}

// check compares the whole namespace: everything that is expected is there and right, and there is nothing else.
func (j *judge) check(ctx context.Context, expected []placed) error {
	have, err := j.read(ctx)
	if err != nil {
		return err
	}
	var problems []error
	wrong := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(j.cluster+": "+format, args...))
	}
	wantDeployments, wantServices, wantRuntimes, wantPods := map[string]bool{}, map[string]bool{}, map[string]bool{}, 0
	for _, p := range expected {
		wantRuntimes[p.name] = true
		object := have.runtimes[p.name]
		if object == nil {
			wrong("class runtime %s of %s is missing", p.name, p.key)
			continue
		}
		for _, problem := range checkRuntime(object, p) {
			wrong("class runtime %s: %s", p.name, problem)
		}
		for _, w := range p.workload {
			wantDeployments[p.name+w.suffix], wantServices[p.name+w.serviceSuffix] = true, true
			wantPods += int(w.replicas)
			for _, problem := range checkDeployment(have.deployments[p.name+w.suffix], object, w) {
				wrong("deployment %s: %s", p.name+w.suffix, problem)
			}
			for _, problem := range checkService(have.services[p.name+w.serviceSuffix], object, w) {
				wrong("service %s: %s", p.name+w.serviceSuffix, problem)
			}
		}
	}
	for _, name := range unwanted(have.runtimes, wantRuntimes) {
		wrong("class runtime %s should not be there", name)
	}
	for _, name := range unwanted(have.deployments, wantDeployments) {
		wrong("deployment %s should not be there", name)
	}
	for _, name := range unwanted(have.services, wantServices) {
		wrong("service %s should not be there", name)
	}
	for _, set := range have.replicaSets {
		if !wantDeployments[owner(set.OwnerReferences)] {
			wrong("replica set %s should not be there", set.Name)
		}
	}
	if len(have.pods) != wantPods {
		wrong("%d pods, want %d", len(have.pods), wantPods)
	}
	return errors.Join(problems...)
}

func unwanted[T any](have map[string]T, want map[string]bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !want[name] {
			names = append(names, name)
		}
	}
	return names
}

func owner(references []metav1.OwnerReference) string {
	for _, reference := range references {
		if reference.Controller != nil && *reference.Controller {
			return reference.Name
		}
	}
	return ""
}

func checkRuntime(object *unstructured.Unstructured, p placed) []string {
	var problems []string
	if class, _, _ := unstructured.NestedString(object.Object, "spec", "package_class_key"); class != p.class {
		problems = append(problems, fmt.Sprintf("is of class %q, want %q", class, p.class))
	}
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	available := "absent"
	for _, item := range conditions {
		if condition, ok := item.(map[string]any); ok && condition["type"] == "Available" {
			available = fmt.Sprint(condition["status"])
		}
	}
	if available != "True" {
		problems = append(problems, "its condition Available is "+available)
	}
	if observed, _, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration"); observed != object.GetGeneration() {
		problems = append(problems, fmt.Sprintf("its status is of generation %d, want %d", observed, object.GetGeneration()))
	}
	if len(object.GetFinalizers()) == 0 {
		problems = append(problems, "has no finalizer")
	}
	return problems
}

// checkOwned compares what ties an object to its ClassRuntime.
func checkOwned(meta *metav1.ObjectMeta, object *unstructured.Unstructured) []string {
	var problems []string
	if meta.Labels[ownerLabel] != object.GetName() {
		problems = append(problems, fmt.Sprintf("label %s is %q", ownerLabel, meta.Labels[ownerLabel]))
	}
	controller := metav1.GetControllerOfNoCopy(meta)
	if controller == nil || controller.Kind != classRuntimeKind || controller.UID != object.GetUID() {
		problems = append(problems, fmt.Sprintf("is not owned by its class runtime but by %+v", controller))
	}
	return problems
}

func checkDeployment(have *appsv1.Deployment, object *unstructured.Unstructured, want workload) []string {
	if have == nil {
		return []string{"is missing"}
	}
	problems := checkOwned(&have.ObjectMeta, object)
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if have.Spec.Replicas == nil || *have.Spec.Replicas != want.replicas {
		wrong("wants %s replicas, want %d", number(have.Spec.Replicas), want.replicas)
	}
	if s := have.Status; s.AvailableReplicas != want.replicas || s.UpdatedReplicas != want.replicas || s.Replicas != want.replicas {
		wrong("has %d replicas, %d updated, %d available, want %d of each", s.Replicas, s.UpdatedReplicas, s.AvailableReplicas, want.replicas)
	}
	if !maps.Equal(have.Spec.Selector.MatchLabels, subset(have.Spec.Template.Labels, have.Spec.Selector.MatchLabels)) {
		wrong("its selector %v does not match its pods' labels %v", have.Spec.Selector.MatchLabels, have.Spec.Template.Labels)
	}
	containers := have.Spec.Template.Spec.Containers
	if len(containers) != 1 || containers[0].Name != want.container {
		wrong("want exactly the container %q", want.container)
		return problems
	}
	container := containers[0]
	if want.image != "" && container.Image != want.image {
		wrong("image %q, want %q", container.Image, want.image)
	}
	var ports []int32
	for _, port := range container.Ports {
		ports = append(ports, port.ContainerPort)
	}
	if !slices.Equal(ports, want.ports) {
		wrong("ports %v, want %v", ports, want.ports)
	}
	env := map[string]string{}
	for _, variable := range container.Env {
		env[variable.Name] = variable.Value
	}
	if !maps.Equal(subset(env, want.env), want.env) {
		wrong("env %v, want at least %v", env, want.env)
	}
	for name, quantity := range want.requests {
		got := container.Resources.Requests[corev1.ResourceName(name)]
		if got.Cmp(resource.MustParse(quantity)) != 0 {
			wrong("requests %s of %s, want %s", got.String(), name, quantity)
		}
	}
	return problems
}

func checkService(have *corev1.Service, object *unstructured.Unstructured, want workload) []string {
	if have == nil {
		return []string{"is missing"}
	}
	problems := checkOwned(&have.ObjectMeta, object)
	ports := map[int32]int32{}
	for _, port := range have.Spec.Ports {
		ports[port.Port] = port.TargetPort.IntVal
	}
	if !maps.Equal(ports, want.service) {
		problems = append(problems, fmt.Sprintf("ports %v, want %v", ports, want.service))
	}
	if app := object.GetName() + want.suffix; have.Spec.Selector["app"] != app {
		problems = append(problems, fmt.Sprintf("selects app=%q, want %q", have.Spec.Selector["app"], app))
	}
	return problems
}

// subset is the part of all whose keys are in keys.
func subset(all, keys map[string]string) map[string]string {
	part := map[string]string{}
	for key := range keys {
		if value, ok := all[key]; ok {
			part[key] = value
		}
	}
	return part
}

func number(n *int32) string {
	if n == nil {
		return "no"
	}
	return strings.TrimSpace(fmt.Sprint(*n))
}
