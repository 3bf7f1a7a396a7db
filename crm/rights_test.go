package crm

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/proto/oaaspb"
)

// The rights of deploy/crm/rbac.yaml are enough for a unit's whole life.
func TestRightsAreEnough(t *testing.T) {
	admin := localtest.Cluster(t).RESTConfig()
	namespace := fmt.Sprintf("rights-%d", time.Now().UnixNano())
	kube, err := client.New(admin, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	applyRights(t, kube, namespace)
	confined := rest.CopyConfig(admin)
	confined.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + namespace + ":oaas-crm"}
	r := start(t, confined, namespace)

	r.eventually("the manager knows its cluster", func() bool {
		info, err := r.agent.GetClusterInfo(r.ctx(), &oaaspb.GetClusterInfoRequest{})
		return err == nil && info.GetUid() != "" && info.GetNodeCount() > 0
	})
	r.eventually("the first deploy is taken", func() bool { return r.deploy("record-1", 10, "echo:1") == nil })
	r.available("record-1", 10)
	if err := r.deploy("record-1", 11, "echo:2"); err != nil {
		t.Fatal(err)
	}
	r.available("record-1", 11)
	// A class may say who calls it, and not that it has the rights of the manager.
	for fence, pods := range map[uint64]*oaaspb.PodSettings{12: {NetworkPolicy: "namespace"}, 13: {ServiceAccount: "oaas-crm"}} {
		unit := previewed("record-2", fence, "Record.echo=echo:1")
		unit.Id, unit.Pods = fmt.Sprintf("record-%d", fence), pods
		unit.Delivery.DeploymentUid = unit.Id
		if _, err := r.deployments.Deploy(r.ctx(), &oaaspb.DeployRequest{DeploymentUnit: unit}); err != nil {
			t.Fatal(err)
		}
	}
	r.available("record-12", 12)
	policy := &networkingv1.NetworkPolicy{}
	if err := kube.Get(r.ctx(), client.ObjectKey{Namespace: namespace, Name: "record-12"}, policy); err != nil {
		t.Error(err)
	}
	r.eventually("the account is refused", func() bool {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(v1alpha1.GroupVersionKind)
		if err := kube.Get(r.ctx(), client.ObjectKey{Namespace: namespace, Name: "record-13"}, object); err != nil {
			t.Fatal(err)
		}
		message, _, _ := unstructured.NestedString(object.Object, "status", "message")
		return strings.Contains(message, "spec.pods.service_account") && strings.Contains(message, "the manager's own account")
	})
	for fence := range uint64(2) {
		id := fmt.Sprintf("record-%d", 12+fence)
		stone := delivery(20+fence, "")
		stone.DeploymentUid = id
		if _, err := r.deployments.DeleteDeployment(r.ctx(), &oaaspb.DeleteDeploymentRequest{DeploymentId: id, Delivery: stone}); err != nil {
			t.Fatal(err)
		}
	}
	r.eventually("events are told", func() bool {
		list := &eventsv1.EventList{}
		if err := kube.List(r.ctx(), list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			if list.Items[i].Regarding.Kind == "ClassRuntime" {
				return true
			}
		}
		return false
	})
	remove := &oaaspb.DeleteDeploymentRequest{DeploymentId: "record-1", Delivery: delivery(30, "")}
	if _, err := r.deployments.DeleteDeployment(r.ctx(), remove); err != nil {
		t.Fatal(err)
	}
	r.eventually("the unit is gone", func() bool {
		list, err := r.deployments.ListClassRuntimes(r.ctx(), &oaaspb.ListClassRuntimesRequest{})
		return err == nil && len(list.GetItems()) == 0
	})
}

// namespaceIn matches the manifest's namespace wherever it is a whole value.
var namespaceIn = regexp.MustCompile(`(?m)(: |\[)oaas(\]|$)`)

func applyRights(t *testing.T, kube client.Client, namespace string) {
	t.Helper()
	raw, err := os.ReadFile("../deploy/crm/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := namespaceIn.ReplaceAllString(string(raw), "${1}"+namespace+"${2}")
	for _, document := range strings.Split(text, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		err := kube.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test"), client.ForceOwnership)
		if err != nil {
			t.Fatalf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}
