package server

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

// What can never be stored is the caller's mistake: UNAVAILABLE would be retried
// for ever, FAILED_PRECONDITION would say that a newer change is there.
func TestWhatCanNeverBeStoredIsInvalid(t *testing.T) {
	h := attachedServer(t)
	long := strings.Repeat("x", 600)
	for name, change := range map[string]func(*oaaspb.DeploymentUnit){
		"sampling rate NaN": func(u *oaaspb.DeploymentUnit) {
			u.Telemetry = &oaaspb.TelemetrySpec{SamplingRate: proto.Float64(math.NaN())}
		},
		"sampling rate infinite": func(u *oaaspb.DeploymentUnit) {
			u.Telemetry = &oaaspb.TelemetrySpec{SamplingRate: proto.Float64(math.Inf(1))}
		},
		"larger than etcd takes": func(u *oaaspb.DeploymentUnit) { u.Functions[0].Description = proto.String(strings.Repeat("d", 2<<20)) },
		"larger than the API server takes": func(u *oaaspb.DeploymentUnit) {
			u.Functions[0].Description = proto.String(strings.Repeat("d", 4<<20-4096))
		},
		"content hash too long":     func(u *oaaspb.DeploymentUnit) { u.Delivery.ContentHash = long },
		"control plane id too long": func(u *oaaspb.DeploymentUnit) { u.Delivery.ControlPlaneId = long },
		"deployment uid too long":   func(u *oaaspb.DeploymentUnit) { u.Delivery.DeploymentUid = long },
		"deployment key too long":   func(u *oaaspb.DeploymentUnit) { u.Delivery.DeploymentKey = long },
		"environment too long":      func(u *oaaspb.DeploymentUnit) { u.TargetEnv = long },
		"unit id too long":          func(u *oaaspb.DeploymentUnit) { u.Id = strings.Repeat("-", 600) + "record-1" },
		"function key too long":     func(u *oaaspb.DeploymentUnit) { u.Functions[0].FunctionKey = long + long },
		"unit id of 64 characters":  func(u *oaaspb.DeploymentUnit) { u.Id = strings.Repeat("r", 64) },
		"class of nothing":          func(u *oaaspb.DeploymentUnit) { u.ClassKey = "" },
	} {
		t.Run(name, func(t *testing.T) {
			unit := unitOf("record-1", 1, "a:1")
			change(unit)
			_, err := h.deploy(unit)
			wantCode(t, err, codes.InvalidArgument)
		})
	}
	// An identity that no object can carry must not fill the memory of deletes.
	stone := deliveryAt(1, "")
	stone.ControlPlaneId = strings.Repeat("x", 800<<10)
	wantCode(t, h.delete("record-1", stone), codes.InvalidArgument)

	for _, list := range []client.ObjectList{&v1alpha1.ClassRuntimeList{}, &corev1.ConfigMapList{}} {
		if err := h.admin.List(h.ctx(), list, client.InNamespace(h.namespace)); err != nil {
			t.Fatal(err)
		}
	}
	if h.exists("record-1") {
		t.Error("something half-written stays")
	}
}

// Two ids that become the same object name are two units: the deletion of one
// must not take the other, and an object made by hand belongs to nobody's plan.
func TestDeletionTakesOnlyItsOwnUnit(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("My_Record.1", 0, "a:1"))
	wantCode(t, h.delete("my.record.1", nil), codes.NotFound)
	wantCode(t, h.delete("my.record.1", deliveryAt(7, "")), codes.NotFound)
	if !h.exists("my-record-1") {
		t.Fatal("the deletion of another unit took this one")
	}
	if err := h.delete("My_Record.1", nil); err != nil {
		t.Errorf("its own deletion: %v", err)
	}

	made := &v1alpha1.ClassRuntime{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "by-hand"}}
	if err := h.admin.Create(h.ctx(), made); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.delete("by-hand", nil), codes.FailedPrecondition)
	wantCode(t, h.delete("by-hand", deliveryAt(7, "")), codes.FailedPrecondition)
	if !h.exists("by-hand") {
		t.Error("an object that no package manager stored was deleted")
	}
}

// A deletion that is refused because the unit is another deployment's leaves no
// tombstone behind that would stop its owner.
func TestRefusedDeletionDoesNotStopTheOwner(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	stone := deliveryAt(20, "")
	stone.DeploymentUid = "uid-2"
	wantCode(t, h.delete("record-1", stone), codes.FailedPrecondition)
	h.mustDeploy(unitOf("record-1", 15, "b:1"))
}

// A load balancer in front of the API server that knows no route says 404 to
// everything. That is no statement about a unit.
func TestNotFoundOfAnotherServerConfirmsNothing(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	backend, err := h.server.backend()
	if err != nil {
		t.Fatal(err)
	}
	lost, err := client.New(&rest.Config{Host: elsewhere.URL}, client.Options{Scheme: scheme(t), Mapper: h.admin.RESTMapper()})
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*attached{
		"reads":           {Backend: Backend{Client: backend.Client, Live: lost}, state: backend.state},
		"reads and state": {Backend: Backend{Client: lost, Live: lost}, state: newStateStore(h.namespace, lost, lost, h.server.opts.Clock)},
	} {
		t.Run(name, func(t *testing.T) {
			key := client.ObjectKey{Namespace: h.namespace, Name: "record-1"}
			request := &oaaspb.DeleteDeploymentRequest{DeploymentId: "record-1", Delivery: deliveryAt(11, "")}
			wantCode(t, a.remove(h.ctx(), key, request, h.server.opts.Clock()), codes.Unavailable)
			desired, err := toObject(unitOf("record-1", 12, "b:1"), h.namespace, "")
			if err != nil {
				t.Fatal(err)
			}
			_, err = a.deliver(h.ctx(), desired)
			wantCode(t, err, codes.Unavailable)
		})
	}
}

// The namespace is gone: nothing can be stored, and neither can a tombstone, so
// nothing is confirmed.
func TestNamespaceThatDoesNotExist(t *testing.T) {
	h := attachedServer(t)
	other := unattached(t, "no-such-namespace")
	other.attach(cluster(t).RESTConfig())
	_, err := other.deploy(unitOf("record-1", 10, "a:1"))
	wantCode(t, err, codes.Unavailable)
	wantCode(t, other.delete("record-1", deliveryAt(11, "")), codes.Unavailable)
	_ = h
}

// A delete is confirmed while the create of an older change is under way, and
// that change's caller gives up before the create is looked at again.
func TestLateCreateWithoutCallerIsWithdrawn(t *testing.T) {
	for name, fail := range map[string]bool{"answered": false, "answer lost": true} {
		t.Run(name, func(t *testing.T) {
			h := attachedServer(t)
			backend, err := h.server.backend()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(h.ctx())
			defer cancel()
			inner, ok := backend.Client.(client.WithWatch)
			if !ok {
				var err error
				if inner, err = client.NewWithWatch(cluster(t).RESTConfig(), client.Options{Scheme: scheme(t)}); err != nil {
					t.Fatal(err)
				}
			}
			slow := interceptor.NewClient(inner, interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption) error {
					if _, unit := object.(*v1alpha1.ClassRuntime); !unit {
						return c.Create(ctx, object, opts...)
					}
					wantCode(t, h.delete("record-1", deliveryAt(11, "")), codes.NotFound)
					err := c.Create(ctx, object, opts...)
					cancel()
					if fail {
						object.SetUID("")
						return context.Canceled
					}
					return err
				},
			})
			a := &attached{Backend: Backend{Client: slow, Live: backend.Live}, state: backend.state}
			desired, err := toObject(unitOf("record-1", 10, "a:1"), h.namespace, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.deliver(ctx, desired); err == nil {
				t.Error("a change that was overtaken is accepted")
			}
			if h.exists("record-1") {
				t.Error("the unit outlives its confirmed deletion")
			}
		})
	}
}

// A repeated change brings back what was edited by hand: OK means that the
// content is stored.
func TestRepetitionRepairsEdits(t *testing.T) {
	h := attachedServer(t)
	unit := unitOf("record-1", 10, "a:1")
	h.mustDeploy(unit)
	object := h.object("record-1")
	object.Spec.Functions[0].ProvisionConfig.ContainerImage = "edited:1"
	if err := h.admin.Update(h.ctx(), object); err != nil {
		t.Fatal(err)
	}
	h.mustDeploy(unit)
	if got := h.object("record-1").Spec.Functions[0].ProvisionConfig.ContainerImage; got != "a:1" {
		t.Errorf("image %q", got)
	}
}
