package crm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/proto/oaaspb"
)

func previewed(id string, fence uint64, functions ...string) *oaaspb.DeploymentUnit {
	unit := &oaaspb.DeploymentUnit{
		Id: id, PackageName: "example", ClassKey: "Record", TargetEnv: "edge-1",
		Delivery: delivery(fence, strings.Join(functions, " ")),
	}
	for _, f := range functions {
		key, image, _ := strings.Cut(f, "=")
		unit.Functions = append(unit.Functions, &oaaspb.FunctionDeploymentSpec{
			FunctionKey: key, ProvisionConfig: &oaaspb.ProvisionConfig{ContainerImage: proto.String(image)},
		})
	}
	return unit
}

// changes are the lines of a preview without the object store's.
func changes(p *oaaspb.UnitPreview) []string {
	var out []string
	for _, o := range p.GetObjects() {
		line := o.GetChange() + " " + o.GetKind() + " " + o.GetName()
		if o.GetReason() != "" {
			line += ": " + o.GetReason()
		}
		if !strings.Contains(o.GetName(), "odgm") {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

func (r *running) preview(unit *oaaspb.DeploymentUnit) *oaaspb.UnitPreview {
	r.t.Helper()
	out, err := r.agent.PreviewUnit(r.ctx(), &oaaspb.PreviewUnitRequest{DeploymentUnit: unit})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// A preview tells of every object what a delivery would do to it, as the API server
// sees it, and leaves nothing behind.
func TestPreviewUnit(t *testing.T) {
	cluster := localtest.Cluster(t)
	namespace := fmt.Sprintf("preview-%d", time.Now().UnixNano())
	r := start(t, cluster.RESTConfig(), namespace)
	r.eventually("the manager answers", func() bool {
		_, err := r.agent.PreviewUnit(r.ctx(), &oaaspb.PreviewUnitRequest{DeploymentUnit: previewed("rec-1", 10, "echo=echo:1")})
		return err == nil
	})
	admin, err := kubernetes.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	deployments := func() int {
		list, err := admin.AppsV1().Deployments(namespace).List(r.ctx(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}

	first := r.preview(previewed("rec-1", 10, "echo=echo:1", "resize=resize:1"))
	if first.GetTemplate() == "" {
		t.Error("the preview names no template")
	}
	want := []string{
		"create ClassRuntime rec-1", "create Deployment rec-1-fn-0", "create Deployment rec-1-fn-1",
		"create Service rec-1-fn-0", "create Service rec-1-fn-1",
	}
	if diff := cmp.Diff(want, changes(first)); diff != "" {
		t.Error(diff)
	}
	if n := deployments(); n != 0 {
		t.Fatalf("the preview left %d Deployments behind", n)
	}
	if _, err := r.deployments.GetClassRuntime(r.ctx(), &oaaspb.GetClassRuntimeRequest{DeploymentId: "rec-1"}); status.Code(err) != codes.NotFound {
		t.Fatalf("the preview left a class runtime behind: %v", err)
	}

	if _, err := r.deployments.Deploy(r.ctx(), &oaaspb.DeployRequest{DeploymentUnit: previewed("rec-1", 10, "echo=echo:1", "resize=resize:1")}); err != nil {
		t.Fatal(err)
	}
	r.available("rec-1", 10)

	t.Run("nothing", func(t *testing.T) {
		for _, line := range changes(r.preview(previewed("rec-1", 11, "echo=echo:1", "resize=resize:1"))) {
			if !strings.HasPrefix(line, "none ") {
				t.Error(line)
			}
		}
	})
	t.Run("another image, one function less", func(t *testing.T) {
		got := changes(r.preview(previewed("rec-1", 11, "echo=echo:2", "resize=resize:1")))
		want := []string{
			"none Deployment rec-1-fn-1", "none Service rec-1-fn-0", "none Service rec-1-fn-1",
			"update ClassRuntime rec-1", "update Deployment rec-1-fn-0",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// A class with one function has other names.
		got = changes(r.preview(previewed("rec-1", 11, "echo=echo:1")))
		want = []string{
			"create Deployment rec-1", "create Service rec-1", "delete Deployment rec-1-fn-0", "delete Deployment rec-1-fn-1",
			"delete Service rec-1-fn-0", "delete Service rec-1-fn-1", "update ClassRuntime rec-1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if n := deployments(); n == 0 {
			t.Error("the preview took the Deployments away")
		}
	})
	t.Run("what Deploy refuses", func(t *testing.T) {
		_, err := r.agent.PreviewUnit(r.ctx(), &oaaspb.PreviewUnitRequest{DeploymentUnit: previewed("rec-1", 9, "echo=echo:2")})
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("an older change: %v", err)
		}
		_, err = r.agent.PreviewUnit(r.ctx(), &oaaspb.PreviewUnitRequest{})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("no unit: %v", err)
		}
		foreign := previewed("rec-1", 12, "echo=echo:2")
		foreign.Delivery.ControlPlaneId = "pm-2"
		if _, err = r.agent.PreviewUnit(r.ctx(), &oaaspb.PreviewUnitRequest{DeploymentUnit: foreign}); status.Code(err) != codes.AlreadyExists {
			t.Errorf("another control plane: %v", err)
		}
	})
	t.Run("the quota of the namespace", func(t *testing.T) {
		none := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ResourceQuotaSpec{
			Hard: corev1.ResourceList{"count/deployments.apps": resource.MustParse("1")},
		}}
		if _, err := admin.CoreV1().ResourceQuotas(namespace).Create(r.ctx(), none, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		r.eventually("the preview tells of the quota", func() bool {
			return slices.ContainsFunc(changes(r.preview(previewed("rec-2", 12, "echo=echo:1"))), func(s string) bool {
				return strings.HasPrefix(s, "create Deployment") && strings.HasSuffix(s, ": QuotaExceeded")
			})
		})
	})
	t.Run("the name of a child is taken", func(t *testing.T) {
		c, err := client.New(cluster.RESTConfig(), client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(r.ctx(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "rec-3-fn-0", Namespace: namespace},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}); err != nil {
			t.Fatal(err)
		}
		got := changes(r.preview(previewed("rec-3", 12, "echo=echo:1", "resize=resize:1")))
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "create Service rec-3-fn-0: ") }) {
			t.Error(got)
		}
	})
}
