package server

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"

	"google.golang.org/grpc"
)

func TestDeployStoresUpdatesAndRefuses(t *testing.T) {
	h := attachedServer(t)

	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	first := h.object("record-1")
	if got := first.Spec.Functions[0].ProvisionConfig.ContainerImage; got != "a:1" {
		t.Fatalf("stored image %q", got)
	}

	t.Run("a repetition writes nothing", func(t *testing.T) {
		h.mustDeploy(unitOf("record-1", 10, "a:1"))
		if got := h.object("record-1").ResourceVersion; got != first.ResourceVersion {
			t.Errorf("resourceVersion moved from %s to %s", first.ResourceVersion, got)
		}
	})
	t.Run("another content under the same fence is refused", func(t *testing.T) {
		_, err := h.deploy(unitOf("record-1", 10, "b:1"))
		wantCode(t, err, codes.FailedPrecondition)
	})
	t.Run("a newer fence updates", func(t *testing.T) {
		h.mustDeploy(unitOf("record-1", 11, "b:1"))
		if got := h.object("record-1").Spec.Functions[0].ProvisionConfig.ContainerImage; got != "b:1" {
			t.Errorf("image %q", got)
		}
	})
	t.Run("an older fence is refused", func(t *testing.T) {
		_, err := h.deploy(unitOf("record-1", 10, "a:1"))
		wantCode(t, err, codes.FailedPrecondition)
		if got := h.object("record-1").Spec.Delivery.Fence; got != 11 {
			t.Errorf("fence %d", got)
		}
	})
	t.Run("a newer epoch with a lower fence updates", func(t *testing.T) {
		unit := unitOf("record-1", 3, "c:1")
		unit.Delivery.Epoch = 2
		h.mustDeploy(unit)
		if got := h.object("record-1").Spec.Delivery; got.Epoch != 2 || got.Fence != 3 {
			t.Errorf("delivery %+v", got)
		}
	})
	t.Run("another deployment may not take the name", func(t *testing.T) {
		unit := unitOf("record-1", 99, "d:1")
		unit.Delivery.DeploymentUid = "uid-2"
		_, err := h.deploy(unit)
		wantCode(t, err, codes.AlreadyExists)
	})
	t.Run("nor another control plane", func(t *testing.T) {
		unit := unitOf("record-1", 99, "d:1")
		unit.Delivery.ControlPlaneId = "pm-2"
		_, err := h.deploy(unit)
		wantCode(t, err, codes.AlreadyExists)
	})
	t.Run("nor a package manager without fences", func(t *testing.T) {
		_, err := h.deploy(unitOf("record-1", 0, "d:1"))
		wantCode(t, err, codes.AlreadyExists)
	})
}

// The API server itself refuses a late message, whatever this server does.
func TestAPIServerRefusesStaleFence(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	for name, change := range map[string]func(*v1alpha1.ClassRuntime){
		"lower fence":            func(o *v1alpha1.ClassRuntime) { o.Spec.Delivery.Fence = 9 },
		"other content":          func(o *v1alpha1.ClassRuntime) { o.Spec.Delivery.ContentHash = "other" },
		"other deployment":       func(o *v1alpha1.ClassRuntime) { o.Spec.Delivery.DeploymentUID = "other" },
		"delivery taken away":    func(o *v1alpha1.ClassRuntime) { o.Spec.Delivery = nil },
		"other control plane id": func(o *v1alpha1.ClassRuntime) { o.Spec.Delivery.ControlPlaneID = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			object := h.object("record-1")
			change(object)
			err := h.admin.Update(h.ctx(), object)
			if !apierrors.IsInvalid(err) {
				t.Fatalf("update: %v, want Invalid", err)
			}
			wantCode(t, fromKubernetes(h.ctx(), "update", err), codes.FailedPrecondition)
		})
	}
}

func TestUnfencedPackageManager(t *testing.T) {
	h := attachedServer(t)
	ctx := metadata.AppendToOutgoingContext(h.ctx(), "x-correlation-id", "abc-123")
	var header metadata.MD
	response, err := h.deployments.Deploy(ctx, &oaaspb.DeployRequest{DeploymentUnit: unitOf("My_Record.1", 0, "a:1")}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if response.GetDeploymentId() != "My_Record.1" || response.GetMessage() != "accepted" {
		t.Errorf("response %v", response)
	}
	if diff := cmp.Diff([]string{"abc-123"}, header.Get("x-correlation-id")); diff != "" {
		t.Errorf("correlation id: %s", diff)
	}
	object := h.object("my-record-1")
	if object.Annotations[AnnotationCorrelationID] != "abc-123" || object.Labels[LabelDeploymentID] != "my-record-1" {
		t.Errorf("metadata %+v", object.ObjectMeta)
	}

	// A repeated id that needs cleaning is the same unit, and changed content is applied.
	h.mustDeploy(unitOf("My_Record.1", 0, "a:1"))
	h.mustDeploy(unitOf("My_Record.1", 0, "b:1"))
	if got := h.object("my-record-1").Spec.Functions[0].ProvisionConfig.ContainerImage; got != "b:1" {
		t.Errorf("image %q", got)
	}
	_, err = h.deploy(unitOf("my.record.1", 0, "b:1"))
	wantCode(t, err, codes.AlreadyExists)

	got, err := h.deployments.GetClassRuntime(h.ctx(), &oaaspb.GetClassRuntimeRequest{DeploymentId: "My_Record.1"})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetDeployment().GetId() != "My_Record.1" {
		t.Errorf("summary id %q, want the id that Deploy answered", got.GetDeployment().GetId())
	}

	// The first fenced change adopts the object.
	fenced := unitOf("My_Record.1", 5, "b:1")
	h.mustDeploy(fenced)
	wantCode(t, h.delete("My_Record.1", nil), codes.FailedPrecondition)
	if err := h.delete("My_Record.1", deliveryAt(6, "")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.delete("My_Record.1", deliveryAt(6, "")), codes.NotFound)
}

func TestDeployWhileDeletingIsAborted(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	object := h.object("record-1")
	object.Finalizers = []string{"oaas.io/finalizer"}
	if err := h.admin.Update(h.ctx(), object); err != nil {
		t.Fatal(err)
	}
	if err := h.delete("record-1", deliveryAt(11, "")); err != nil {
		t.Fatal(err)
	}
	_, err := h.deploy(unitOf("record-1", 12, "b:1"))
	wantCode(t, err, codes.Aborted)
	if err := h.delete("record-1", deliveryAt(11, "")); err != nil {
		t.Errorf("a repeated delete while the finalizer is pending: %v", err)
	}
	object = h.object("record-1")
	object.Finalizers = nil
	if err := h.admin.Update(h.ctx(), object); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.delete("record-1", deliveryAt(11, "")), codes.NotFound)
	h.mustDeploy(unitOf("record-1", 12, "b:1"))
}

func TestTombstones(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 10, "a:1"))

	// A delete that was overtaken leaves the object alone.
	wantCode(t, h.delete("record-1", deliveryAt(9, "")), codes.FailedPrecondition)
	if !h.exists("record-1") {
		t.Fatal("an old delete took a newer object")
	}
	if err := h.delete("record-1", deliveryAt(20, "")); err != nil {
		t.Fatal(err)
	}
	for _, fence := range []uint64{10, 19, 20} {
		_, err := h.deploy(unitOf("record-1", fence, "a:1"))
		wantCode(t, err, codes.FailedPrecondition)
	}
	if h.exists("record-1") {
		t.Fatal("a late message created the unit again")
	}
	h.mustDeploy(unitOf("record-1", 21, "a:1"))

	// A unit that never arrived is remembered as well.
	wantCode(t, h.delete("record-2", deliveryAt(30, "")), codes.NotFound)
	_, err := h.deploy(unitOf("record-2", 29, "a:1"))
	wantCode(t, err, codes.FailedPrecondition)

	// A repeated delete writes nothing.
	before := h.stateVersion()
	wantCode(t, h.delete("record-2", deliveryAt(30, "")), codes.NotFound)
	if after := h.stateVersion(); after != before {
		t.Errorf("state object moved from %s to %s", before, after)
	}
}

// Late creates and deletes of many units, concurrently and on two servers: no
// unit may exist whose delete was confirmed and is newer than its deploy.
func TestConcurrentDeleteAndLateCreate(t *testing.T) {
	h := attachedServer(t)
	other := unattached(t, h.namespace)
	other.attach(cluster(t).RESTConfig())
	const units = 25
	var wg sync.WaitGroup
	for i := range units {
		id := fmt.Sprintf("record-%d", i)
		wg.Add(2)
		go func() {
			defer wg.Done()
			_, _ = h.deploy(unitOf(id, 10, "a:1"))
		}()
		go func() {
			defer wg.Done()
			_ = other.delete(id, deliveryAt(11, ""))
		}()
	}
	wg.Wait()
	for i := range units {
		if id := fmt.Sprintf("record-%d", i); h.exists(id) {
			t.Errorf("%s exists after its delete was confirmed", id)
		}
	}
}

func (h *harness) stateVersion() string {
	h.t.Helper()
	backend, err := h.server.backend()
	if err != nil {
		h.t.Fatal(err)
	}
	object, _, err := backend.state.read(h.ctx())
	if err != nil || object == nil {
		h.t.Fatalf("state object %v: %v", object, err)
	}
	return object.ResourceVersion
}

func TestListFiltersAndPages(t *testing.T) {
	h := attachedServer(t)
	for i, class := range []string{"Alpha", "Beta", "Alpha"} {
		unit := unitOf(fmt.Sprintf("unit-%d", i), uint64(10+i), "a:1")
		unit.ClassKey, unit.TargetEnv = class, fmt.Sprintf("env-%d", i)
		unit.Delivery.DeploymentUid = fmt.Sprintf("uid-%d", i)
		h.mustDeploy(unit)
	}
	object := h.object("unit-1")
	object.Status.Phase, object.Status.ObservedGeneration = v1alpha1.PhaseAvailable, object.Generation
	object.Status.Conditions = []v1alpha1.Condition{{Type: v1alpha1.ConditionAvailable, Status: "True"}}
	if err := h.admin.Status().Update(h.ctx(), object); err != nil {
		t.Fatal(err)
	}
	ids := func(request *oaaspb.ListClassRuntimesRequest) []string {
		response, err := h.deployments.ListClassRuntimes(h.ctx(), request)
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, item := range response.GetItems() {
			out = append(out, item.GetId())
		}
		return out
	}
	eventually(t, "the cache holds all units and the status", func() bool {
		return len(ids(&oaaspb.ListClassRuntimesRequest{})) == 3 &&
			len(ids(&oaaspb.ListClassRuntimesRequest{Status: proto.String("Available")})) == 1
	})
	text := proto.String
	for name, tc := range map[string]struct {
		request *oaaspb.ListClassRuntimesRequest
		want    []string
	}{
		"all":                {&oaaspb.ListClassRuntimesRequest{}, []string{"unit-0", "unit-1", "unit-2"}},
		"package":            {&oaaspb.ListClassRuntimesRequest{PackageName: text("example")}, []string{"unit-0", "unit-1", "unit-2"}},
		"other package":      {&oaaspb.ListClassRuntimesRequest{PackageName: text("exam")}, []string{}},
		"class":              {&oaaspb.ListClassRuntimesRequest{ClassKey: text("Alpha")}, []string{"unit-0", "unit-2"}},
		"class with package": {&oaaspb.ListClassRuntimesRequest{ClassKey: text("example.Beta")}, []string{"unit-1"}},
		"env of the plan":    {&oaaspb.ListClassRuntimesRequest{TargetEnv: text("env-2")}, []string{"unit-2"}},
		"env of the cluster": {&oaaspb.ListClassRuntimesRequest{TargetEnv: text("edge-1")}, []string{"unit-0", "unit-1", "unit-2"}},
		"other env":          {&oaaspb.ListClassRuntimesRequest{TargetEnv: text("nowhere")}, []string{}},
		"status":             {&oaaspb.ListClassRuntimesRequest{Status: text("available")}, []string{"unit-1"}},
		"limit":              {&oaaspb.ListClassRuntimesRequest{Limit: proto.Uint32(2)}, []string{"unit-0", "unit-1"}},
		"limit 0":            {&oaaspb.ListClassRuntimesRequest{Limit: proto.Uint32(0)}, []string{}},
		"offset":             {&oaaspb.ListClassRuntimesRequest{Offset: proto.Uint32(2)}, []string{"unit-2"}},
		"page of a filter": {&oaaspb.ListClassRuntimesRequest{ClassKey: text("Alpha"), Offset: proto.Uint32(1), Limit: proto.Uint32(5)},
			[]string{"unit-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ids(tc.request)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	h := attachedServer(t)
	_, err := h.deployments.Deploy(h.ctx(), &oaaspb.DeployRequest{})
	wantCode(t, err, codes.InvalidArgument)
	_, err = h.deployments.GetClassRuntime(h.ctx(), &oaaspb.GetClassRuntimeRequest{DeploymentId: "--"})
	wantCode(t, err, codes.InvalidArgument)
	_, err = h.deployments.GetClassRuntime(h.ctx(), &oaaspb.GetClassRuntimeRequest{DeploymentId: "nothing"})
	wantCode(t, err, codes.NotFound)
	wantCode(t, h.delete("nothing", nil), codes.NotFound)
	wantCode(t, h.delete("nothing", &oaaspb.Delivery{Fence: 1}), codes.InvalidArgument)

	// What only the API server's schema knows is the caller's mistake as well.
	unit := unitOf("record-1", 1, "a:1")
	unit.OdgmConfig = &oaaspb.OdgmConfig{OdgmNodeId: proto.Uint64(1 << 63)}
	_, err = h.deploy(unit)
	wantCode(t, err, codes.InvalidArgument)

	list := &v1alpha1.ClassRuntimeList{}
	if err := h.admin.List(h.ctx(), list, client.InNamespace(h.namespace)); err != nil || len(list.Items) != 0 {
		t.Errorf("%d objects stored (%v)", len(list.Items), err)
	}
}
