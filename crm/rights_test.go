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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

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
	remove := &oaaspb.DeleteDeploymentRequest{DeploymentId: "record-1", Delivery: delivery(12, "")}
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
