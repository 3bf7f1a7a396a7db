package server

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// Objects can be selected by what people know of them, whatever the names are.
func TestObjectsCanBeSelected(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("unit-0", 10, "a:1"))
	odd := unitOf("unit-1", 10, "a:1")
	odd.PackageName, odd.ClassKey, odd.Delivery.DeploymentKey = strings.Repeat("pä ", 30), "Record", "shop/Cart ä"
	h.mustDeploy(odd)
	plain := unitOf("unit-2", 0, "a:1")
	plain.PackageName = ""
	h.mustDeploy(plain)
	object := h.object("unit-0")
	object.Status.Phase = v1alpha1.PhaseDegraded
	if err := h.admin.Status().Update(h.ctx(), object); err != nil {
		t.Fatal(err)
	}

	want := map[string]string{
		LabelDeploymentID: "unit-0", LabelClass: "example.Record", LabelPackage: "example", LabelDeployment: "example.Record",
	}
	if diff := cmp.Diff(want, h.object("unit-0").Labels); diff != "" {
		t.Error(diff)
	}
	oddLabels := h.object("unit-1").Labels
	for _, label := range []string{LabelClass, LabelPackage, LabelDeployment} {
		if value := oddLabels[label]; value == "" || len(validation.IsValidLabelValue(value)) > 0 {
			t.Errorf("%s is %q", label, value)
		}
	}
	if diff := cmp.Diff(map[string]string{LabelDeploymentID: "unit-2", LabelClass: "Record"}, h.object("unit-2").Labels); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		option client.ListOption
		want   []string
	}{
		"class":       {client.MatchingLabels{LabelClass: "example.Record"}, []string{"unit-0"}},
		"class field": {client.MatchingFields{"spec.package_class_key": "example.Record"}, []string{"unit-0"}},
		"phase":       {client.MatchingFields{"status.phase": "degraded"}, []string{"unit-0"}},
		"deployment":  {client.MatchingFields{"spec.delivery.deployment_uid": "uid-1"}, []string{"unit-0", "unit-1"}},
	} {
		list := &v1alpha1.ClassRuntimeList{}
		if err := h.admin.List(h.ctx(), list, client.InNamespace(h.namespace), tc.option); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for i := range list.Items {
			got = append(got, list.Items[i].Name)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}

	// What a change no longer has goes, and what people set stays.
	h.patch("unit-2", `{"metadata":{"labels":{"team":"blue","oaas.io/package":"old"}}}`)
	plain.Functions[0].ProvisionConfig.ContainerImage = &[]string{"b:1"}[0]
	h.mustDeploy(plain)
	if diff := cmp.Diff(map[string]string{LabelDeploymentID: "unit-2", LabelClass: "Record", "team": "blue"}, h.object("unit-2").Labels); diff != "" {
		t.Error(diff)
	}
}
