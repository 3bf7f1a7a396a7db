package controller_test

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/controller/controllertest"
	"oaas.io/control-plane/deploy/local/localtest"
)

// A controller that may not write the status says so where it can: to its caller, and in
// the metric.
func TestDeniedStatusIsTold(t *testing.T) {
	t.Parallel()
	c := controllertest.Cluster(t)
	namespace := localtest.Namespace(t, c)
	admin, err := client.New(c.RESTConfig(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"*"}
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "confined"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"classruntimes"}, Verbs: all},
			{APIGroups: []string{"", "apps", "policy", "networking.k8s.io", "autoscaling", "events.k8s.io"}, Resources: all, Verbs: all},
		},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "confined"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "confined"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: namespace}},
	}
	for _, object := range []client.Object{role, binding} {
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	confined := rest.CopyConfig(c.RESTConfig())
	confined.Impersonate = rest.ImpersonationConfig{UserName: namespace}
	told := make(chan error, 1)
	w := controllertest.StartIn(t, confined, namespace, func(o *controller.Options) {
		o.Denied = func(err error) {
			select {
			case told <- err:
			default:
			}
		}
	})
	w.Create(w.ClassOf("record-1", "echo:1"))
	w.Eventually("the denial is told", func() bool {
		select {
		case err := <-told:
			if !strings.Contains(err.Error(), `cannot patch resource "classruntimes/status"`) {
				t.Errorf("told %v", err)
			}
			return true
		default:
			return false
		}
	})
	if w.CounterOf("oaas_crm_reconcile_errors_total", "reason", "Forbidden") == 0 {
		t.Error("the metric does not count it")
	}
	role.Rules[0].Resources = append(role.Rules[0].Resources, "classruntimes/status")
	if err := admin.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	w.Settled("record-1", v1alpha1.PhaseAvailable)
}
