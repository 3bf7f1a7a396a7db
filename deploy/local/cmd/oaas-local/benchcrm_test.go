package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/local/system"
)

// The harness of bench-crm, with few classes. Figures that time decides are not held against their bounds here: tests share
// the machine. What must never be doubled or lost is.
func TestBenchCRM(t *testing.T) {
	options := &crmOptions{
		stackOptions: stackOptions{bin: os.Getenv(system.BinEnv), dir: t.TempDir()},
		classes:      minClasses, pairs: 1, rest: time.Second, only: []string{"leader-kill"},
	}
	results, err := measureCRM(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range results {
		names[r.Name] = true
		if !r.OK && r.Bound == "= 0" {
			t.Errorf("%s is %g, want %s: %s", r.Name, r.Value, r.Bound, r.Note)
		}
	}
	for _, name := range []string{"leader_kill_takeover", "leader_kill_wrong_children", "leader_kill_recreated"} {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestCRMOptions(t *testing.T) {
	good := crmOptions{classes: minClasses, pairs: 1, rest: time.Second, only: []string{"faults"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []crmOptions{
		{classes: minClasses - 1, pairs: 1, rest: time.Second}, {classes: minClasses, rest: time.Second},
		{classes: minClasses, pairs: 1}, {classes: minClasses, pairs: 1, rest: time.Second, only: []string{"all"}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

const storedService = `
apiVersion: v1
kind: Service
metadata:
  name: bench-0001-fn-0
  namespace: oaas
  uid: 6c1f
  resourceVersion: "77"
  creationTimestamp: "2026-01-01T00:00:00Z"
  labels: {app: bench-0001-fn-0, oaas.io/owner: bench-0001, added: by-hand}
  finalizers: [example.com/ours, example.com/theirs]
  ownerReferences: [{apiVersion: oaas.io/v1alpha1, kind: ClassRuntime, name: bench-0001, uid: u1, controller: true}]
  managedFields:
  - {manager: kube-controller-manager, operation: Update, apiVersion: v1, subresource: status, fieldsType: FieldsV1, fieldsV1: {"f:status": {}}}
  - manager: oprc-crm
    operation: Apply
    apiVersion: v1
    fieldsType: FieldsV1
    fieldsV1:
      f:metadata:
        f:labels: {"f:app": {}, "f:oaas.io/owner": {}}
        f:annotations: {".": {}}
        f:finalizers: {'v:"example.com/ours"': {}}
        f:ownerReferences: {'k:{"uid":"u1"}': {}}
      f:spec:
        f:selector: {}
        f:ports:
          'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}
spec:
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7]
  selector: {app: bench-0001-fn-0}
  type: ClusterIP
  ports:
  - {name: http, port: 80, protocol: TCP, targetPort: 8080, nodePort: 30007}
  - {name: other, port: 81, protocol: TCP, targetPort: 8081}
status: {loadBalancer: {}}
`

func TestAppliedIsWhatTheManagerOwns(t *testing.T) {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(storedService), &u.Object); err != nil {
		t.Fatal(err)
	}
	got, err := applied(u, childManager)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got.Object)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"v1","kind":"Service","metadata":{"finalizers":["example.com/ours"],` +
		`"labels":{"app":"bench-0001-fn-0","oaas.io/owner":"bench-0001"},"name":"bench-0001-fn-0"},` +
		`"spec":{"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":8080}],"selector":{"app":"bench-0001-fn-0"}}}`
	if string(text) != want {
		t.Errorf("applied:\n%s\nwant:\n%s", text, want)
	}
	if _, err := applied(u, "somebody"); err == nil {
		t.Error("fields of a manager that applied nothing")
	}
}

func TestKindsOf(t *testing.T) {
	all := metav1.Verbs{"list", "watch", "create"}
	got, err := kindsOf([]*metav1.APIResourceList{
		{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "services", Kind: "Service", Verbs: all}, {Name: "pods", Kind: "Pod", Verbs: all}, {Name: "bindings", Kind: "Binding", Verbs: metav1.Verbs{"create"}},
		}},
		{GroupVersion: "serving.knative.dev/v1", APIResources: []metav1.APIResource{{Name: "services", Kind: "Service", Verbs: all}}},
	})
	if err != nil || len(got) != 2 || got[0].String() != "/v1, Kind=Service" || got[1].Group != "serving.knative.dev" {
		t.Errorf("kinds %v, %v", got, err)
	}
}

// childrenOf are what a class has, and further kinds.
func childrenOf(owner string, more ...string) []childRef {
	var out []childRef
	for _, key := range append(slices.Clone(leastShape), more...) {
		kind, name, _ := strings.Cut(strings.Replace(key, "*", owner, 1), "/")
		out = append(out, childRef{kind: kind, name: name, owner: owner, uid: owner + key, generation: 1})
	}
	return out
}

func TestCompareShapes(t *testing.T) {
	classes := []string{"a", "b", "c"}
	const budget = "PodDisruptionBudget/*-fn-0"
	whole := slices.Concat(childrenOf("a", budget), childrenOf("b", budget), childrenOf("c", budget))
	if problems := compareShapes(classes, whole); len(problems) != 0 {
		t.Errorf("kinds that are new to this program: %v", problems)
	}
	tests := map[string][]childRef{
		"one is missing":   whole[:len(whole)-1],
		"one is doubled":   append(slices.Clone(whole), childRef{kind: "Service", name: "b-fn-0-2", owner: "b"}),
		"a class is alien": slices.Concat(whole, childrenOf("d")),
		"nothing there":    whole[:10],
	}
	for name, children := range tests {
		if problems := compareShapes(classes, children); len(problems) != 1 {
			t.Errorf("%s: %v", name, problems)
		}
	}
	if problems := compareShapes(classes, nil); len(problems) < len(leastShape) {
		t.Errorf("no children at all: %v", problems)
	}
}

func TestReplaced(t *testing.T) {
	before := childrenOf("a")
	after := childrenOf("a")
	after[0].uid, after[1].uid = "new", "new"
	after = append(after, childRef{kind: "Service", name: "a-more", uid: "new"})
	if got := replaced(before, after, map[string]bool{after[1].key(): true}); !slices.Equal(got, []string{after[0].key()}) {
		t.Errorf("replaced %v", got)
	}
}

func TestHistory(t *testing.T) {
	h := &history{uids: map[string]map[string]bool{}, deleted: map[string]bool{}}
	h.note("Service/a", "1", watch.Added)
	h.note("Service/a", "1", watch.Modified)
	if got := h.recreated(); len(got) != 0 {
		t.Errorf("recreated %v", got)
	}
	h.note("Service/b", "1", watch.Added)
	h.note("Service/b", "2", watch.Added)
	h.note("Service/c", "1", watch.Deleted)
	if got := h.recreated(); len(got) != 2 {
		t.Errorf("recreated %v", got)
	}
}

func TestFollowerCountsWhatIsReady(t *testing.T) {
	f := &follower{want: 2, ready: rolledOut, seen: map[string]bool{}, now: map[string]bool{}}
	deployment := func(name string, available int32) *appsv1.Deployment {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: available}
		return d
	}
	for i, step := range []struct {
		name      string
		available int32
		what      watch.EventType
		all       bool
	}{
		{"a", 1, watch.Added, false}, {"a", 0, watch.Modified, false}, {"b", 1, watch.Added, false},
		{"b", 1, watch.Deleted, false}, {"b", 1, watch.Added, false}, {"a", 1, watch.Modified, true},
	} {
		if all := f.note(deployment(step.name, step.available), step.what); all != step.all {
			t.Errorf("step %d: all ready is %v", i, all)
		}
	}
}

func availableClass(name string) v1alpha1.ClassRuntime {
	c := *benchClass("oaas", name)
	c.Generation = 2
	c.Status.Phase, c.Status.ObservedGeneration = v1alpha1.PhaseAvailable, 2
	c.Status.Conditions = []v1alpha1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
	return c
}

func TestCheckClasses(t *testing.T) {
	versions := map[string]int{"a": 1, "b": 1}
	good := []v1alpha1.ClassRuntime{availableClass("a"), availableClass("b")}
	if problems := checkClasses(versions, good); len(problems) != 0 {
		t.Errorf("good: %v", problems)
	}
	behind := availableClass("b")
	behind.Generation = 3
	for name, classes := range map[string][]v1alpha1.ClassRuntime{
		"missing": good[:1], "behind": {good[0], behind}, "left over": append(slices.Clone(good), availableClass("c")),
	} {
		if problems := checkClasses(versions, classes); len(problems) != 1 {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestCheckDeployments(t *testing.T) {
	versions := map[string]int{"a": 3}
	deployment := func(name, image string) appsv1.Deployment {
		d := appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{ownerLabel: name[:1]}}}
		d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Image: image})
		d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
		return d
	}
	first, second := deployment("a-fn-0", image("one", 3)), deployment("a-fn-1", image("two", 1))
	if problems := checkDeployments(versions, []appsv1.Deployment{first, second}); len(problems) != 0 {
		t.Errorf("good: %v", problems)
	}
	down := second
	down.Status.AvailableReplicas = 0
	for name, d := range map[string]appsv1.Deployment{
		"old image": deployment("a-fn-0", image("one", 2)), "down": down, "of nobody": deployment("z-fn-0", image("one", 1)),
	} {
		if problems := checkDeployments(versions, []appsv1.Deployment{d}); len(problems) != 1 {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestUnexpected(t *testing.T) {
	degraded := availableClass("b")
	degraded.Status.Phase = v1alpha1.PhaseDegraded
	degraded.Status.Conditions = append(degraded.Status.Conditions, v1alpha1.Condition{Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonInvalidSpec})
	objects := []badObject{
		{name: "a", want: availableObject}, {name: "b", want: degradedBy(v1alpha1.ReasonInvalidSpec)},
		{name: "c", want: availableObject}, {name: "d", want: refusedObject}, {name: "e", want: availableObject},
	}
	classes := []v1alpha1.ClassRuntime{availableClass("a"), degraded}
	if got := unexpected(objects, classes, map[string]string{"e": "known"}); !slices.Equal(got, []string{"c"}) {
		t.Errorf("unexpected %v", got)
	}
	objects[0].want = degradedBy(v1alpha1.ReasonNameTaken)
	if got := unexpected(objects, classes, nil); !slices.Equal(got, []string{"a", "c", "e"}) {
		t.Errorf("unexpected %v", got)
	}
}

// The names of the objects are unique, because their status is looked up by them, and each depends on one before it.
func TestBadObjectsAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range badObjects() {
		if seen[o.name] || o.about == "" || o.after != "" && !seen[o.after] {
			t.Errorf("%s (%s)", o.name, o.about)
		}
		seen[o.name] = true
	}
}

func TestProcessorTime(t *testing.T) {
	const line = "4242 (kube) (odd name) S 17 4242 17 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 12 0 100"
	parent, used, ok := processorTimeOf(line)
	if !ok || parent != 17 || used != 2*time.Second {
		t.Errorf("parent %d, used %s, %v", parent, used, ok)
	}
	for _, bad := range []string{"", "1 (x) S", "no parentheses"} {
		if _, _, ok := processorTimeOf(bad); ok {
			t.Errorf("%q is read", bad)
		}
	}
	if _, err := processorTime(); err != nil {
		t.Error(err)
	}
}

func TestRequestsText(t *testing.T) {
	if got := requestsText(map[string]int{"b": 10, "a": 10, "c": 25}, 10); got != "2.5 c, 1 a, 1 b" {
		t.Error(got)
	}
}
