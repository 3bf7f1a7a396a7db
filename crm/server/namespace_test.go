package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/proto/oaaspb"
)

// A namespace that is missing or on its way out is no refusal of the unit: as soon as
// it is there, the unit is taken.
func TestNamespaceMissingAndTerminating(t *testing.T) {
	config := cluster(t).RESTConfig()
	h := unattached(t, fmt.Sprintf("gone-%d", time.Now().UnixNano()))
	h.attach(config)
	refused := func(id, what string) {
		t.Helper()
		_, err := h.deploy(unitOf(id, 10, "a:1"))
		wantCode(t, err, codes.Unavailable)
		if reasonOf(err) != ReasonNamespace || !strings.Contains(err.Error(), what) {
			t.Fatalf("refused with %s: %v", reasonOf(err), err)
		}
	}
	refused("record-1", "namespace does not exist")
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.namespace}}
	if err := h.admin.Create(h.ctx(), namespace); err != nil {
		t.Fatal(err)
	}
	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	holder := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "holder", Finalizers: []string{"oaas.io/test"}}}
	if err := h.admin.Create(h.ctx(), holder); err != nil {
		t.Fatal(err)
	}
	if err := h.admin.Delete(h.ctx(), namespace); err != nil {
		t.Fatal(err)
	}
	refused("record-2", "namespace is being deleted")
	if err := h.admin.Get(h.ctx(), client.ObjectKeyFromObject(holder), holder); err != nil {
		t.Fatal(err)
	}
	holder.Finalizers = nil
	if err := h.admin.Update(h.ctx(), holder); err != nil {
		t.Fatal(err)
	}
}

// A right that the manager lacks is no refusal of the unit either, and whoever watches
// over the process is told. What a policy forbids is one.
func TestRightMissing(t *testing.T) {
	config := cluster(t).RESTConfig()
	h := unattached(t, localtest.Namespace(t, cluster(t)))
	told := make(chan error, 8)
	h.server.opts.Denied = func(err error) { told <- err }
	confined := rest.CopyConfig(config)
	confined.Impersonate = rest.ImpersonationConfig{UserName: h.namespace}
	admin, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "confined"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"oaas.io"}, Resources: []string{"classruntimes"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"*"}},
		},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "confined"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "confined"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: h.namespace}},
	}
	for _, object := range []client.Object{role, binding} {
		if err := admin.Create(h.ctx(), object); err != nil {
			t.Fatal(err)
		}
	}
	h.attachTo(confined, false)
	_, err = h.deploy(unitOf("record-1", 10, "a:1"))
	wantCode(t, err, codes.Unavailable)
	if reasonOf(err) != ReasonRight || !strings.Contains(err.Error(), `cannot create resource "classruntimes"`) {
		t.Errorf("refused with %s: %v", reasonOf(err), err)
	}
	if err := <-told; !strings.Contains(err.Error(), `cannot create resource "classruntimes"`) {
		t.Errorf("told %v", err)
	}
	_, err = h.agent.GetClusterInfo(h.ctx(), &oaaspb.GetClusterInfoRequest{})
	wantCode(t, err, codes.PermissionDenied)
	if len(told) > 0 {
		t.Errorf("a right that is not needed: %v", <-told)
	}
	role.Rules[0].Verbs = append(role.Rules[0].Verbs, "create")
	if err := admin.Update(h.ctx(), role); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the unit is taken", func() bool {
		_, err := h.deploy(unitOf("record-1", 10, "a:1"))
		return err == nil
	})
	for _, text := range []string{"exceeded quota: small", "unable to create new content in namespace oaas"} {
		forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "oaas.io", Resource: "classruntimes"}, "record-1", errors.New(text))
		wantCode(t, fromKubernetes(h.ctx(), "create", forbidden), codes.PermissionDenied)
	}
}

// Whoever asks is told that nothing can be stored.
func TestProblemIsReported(t *testing.T) {
	h := attachedServer(t)
	stream := h.watch()
	stream.next() // inventory complete
	const problem = "the namespace oaas does not exist"
	h.api.set(APIState{Ready: true, Problem: errors.New(problem)})
	eventually(t, "a heartbeat says so", func() bool {
		heartbeat := (<-stream.events).GetHeartbeat()
		return !heartbeat.GetApiServerReady() && heartbeat.GetProblem() == problem
	})
	info, err := h.agent.GetClusterInfo(h.ctx(), &oaaspb.GetClusterInfoRequest{})
	if err != nil || info.GetApiServerReady() || info.GetProblem() != problem {
		t.Errorf("info %v (%v)", info, err)
	}
	env, err := h.info.GetEnvHealth(h.ctx(), &oaaspb.CrmEnvRequest{})
	if err != nil || env.GetStatus() != "Unhealthy" {
		t.Errorf("health %v (%v)", env, err)
	}
	request, err := http.NewRequestWithContext(h.ctx(), http.MethodGet, "http://"+h.conn.Target()+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.(*http.Transport).Clone().RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text := make([]byte, 200)
	n, _ := response.Body.Read(text)
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text[:n]), problem) {
		t.Errorf("/readyz: %d %q", response.StatusCode, text[:n])
	}
	h.api.set(APIState{Ready: true})
	eventually(t, "a heartbeat says that it is over", func() bool {
		heartbeat := (<-stream.events).GetHeartbeat()
		return heartbeat.GetApiServerReady() && heartbeat.GetProblem() == ""
	})
}
