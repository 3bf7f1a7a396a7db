package server

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// Patches of all kinds that lower, remove or replace the delivery.
func TestAPIServerRefusesPatchesOfTheDelivery(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	for name, patch := range map[string]client.Patch{
		"merge null":         client.RawPatch(types.MergePatchType, []byte(`{"spec":{"delivery":null}}`)),
		"merge empty":        client.RawPatch(types.MergePatchType, []byte(`{"spec":{"delivery":{"fence":null}}}`)),
		"merge spec null":    client.RawPatch(types.MergePatchType, []byte(`{"spec":null}`)),
		"merge lower":        client.RawPatch(types.MergePatchType, []byte(`{"spec":{"delivery":{"fence":3}}}`)),
		"merge negative":     client.RawPatch(types.MergePatchType, []byte(`{"spec":{"delivery":{"epoch":-1,"fence":11}}}`)),
		"json remove":        client.RawPatch(types.JSONPatchType, []byte(`[{"op":"remove","path":"/spec/delivery"}]`)),
		"json replace spec":  client.RawPatch(types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec","value":{}}]`)),
		"json other content": client.RawPatch(types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/delivery/content_hash","value":"b"}]`)),
		"json other unit":    client.RawPatch(types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/delivery/unit_id","value":"b"},{"op":"replace","path":"/spec/delivery/fence","value":99}]`)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := h.admin.Patch(h.ctx(), h.object("record-1"), patch); !apierrors.IsInvalid(err) {
				t.Errorf("patch: %v, want Invalid", err)
			}
		})
	}
	before := h.object("record-1")
	if err := h.admin.Status().Patch(h.ctx(), h.object("record-1"), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"delivery":null}}`))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.Spec, h.object("record-1").Spec); diff != "" {
		t.Errorf("the spec moved through the status: %s", diff)
	}
}

// Many changes of one unit at a time, on two servers: the newest wins, whatever
// the order of arrival, and no content is stored under another's fence.
func TestConcurrentChangesOfOneUnit(t *testing.T) {
	h := attachedServer(t)
	other := unattached(t, h.namespace)
	other.attach(cluster(t).RESTConfig())
	const changes = 20
	var wg sync.WaitGroup
	for i := range changes {
		to := []*harness{h, other}[i%2]
		fence := uint64(1 + (i*7)%changes)
		wg.Go(func() {
			for {
				_, err := to.deploy(unitOf("record-1", fence, fmt.Sprintf("a:%d", fence)))
				switch status.Code(err) {
				case codes.Aborted:
					continue
				case codes.OK, codes.FailedPrecondition:
				default:
					t.Errorf("fence %d: %v", fence, err)
				}
				return
			}
		})
	}
	wg.Wait()
	object := h.object("record-1")
	if object.Spec.Delivery.Fence != changes || object.Spec.Functions[0].ProvisionConfig.ContainerImage != fmt.Sprintf("a:%d", changes) {
		t.Errorf("stored %+v", object.Spec)
	}
}

// Whatever arrives on the port, the next call is answered, and nothing is stored.
func TestGarbageOnThePort(t *testing.T) {
	h := attachedServer(t)
	address := h.conn.Target()
	for _, garbage := range []string{
		"\x00\x01\x02", "GET / HTTP/1.1\r\n\r\n", "GET " + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\n\r\n",
		"PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 4096), "PRI garbage" + strings.Repeat("x", 1<<16),
		"POST /oaas.deployment.DeploymentService/Deploy HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{}",
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(garbage))
		_ = conn.Close()
	}
	for name, message := range map[string][]byte{
		"no protobuf":     []byte("\xff\xff\xff\xff garbage"),
		"invalid UTF-8":   append([]byte{0x0a, 0x04, 0x0a, 0x02}, 0xff, 0xfe), // deployment_unit.id
		"nothing":         {},
		"empty unit":      {0x0a, 0x00},
		"larger than 4MB": make([]byte, 5<<20),
	} {
		err := h.conn.Invoke(h.ctx(), oaaspb.DeploymentService_Deploy_FullMethodName, message, &[]byte{}, grpc.ForceCodec(raw{}))
		switch status.Code(err) {
		case codes.Internal, codes.InvalidArgument, codes.ResourceExhausted:
		default:
			t.Errorf("%s: %v", name, err)
		}
	}
	h.mustDeploy(unitOf("record-1", 1, "a:1"))
	list := &v1alpha1.ClassRuntimeList{}
	if err := h.admin.List(h.ctx(), list, client.InNamespace(h.namespace)); err != nil || len(list.Items) != 1 {
		t.Errorf("%d objects (%v)", len(list.Items), err)
	}
}

// raw sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (raw) Name() string                       { return "proto" }

// A class at the bounds of what users write is stored, or refused in words.
func TestLargeUnits(t *testing.T) {
	h := attachedServer(t)
	many := unitOf("many", 1, "a:1")
	for i := range 300 {
		many.Functions = append(many.Functions, &oaaspb.FunctionDeploymentSpec{
			FunctionKey: fmt.Sprintf("Record.f%d", i), ProvisionConfig: &oaaspb.ProvisionConfig{ContainerImage: proto.String("a:1")},
		})
		many.FunctionBindings = append(many.FunctionBindings, &oaaspb.ClassFunctionBinding{
			Name: fmt.Sprintf("日本-%d", i), FunctionKey: fmt.Sprintf("Record.f%d", i),
		})
	}
	h.mustDeploy(many)
	config := unitOf("config", 1, "a:1")
	config.Functions[0].Config = map[string]string{}
	for i := range 5000 {
		config.Functions[0].Config[fmt.Sprintf("KEY_%d", i)] = strings.Repeat("v", 40)
	}
	h.mustDeploy(config)
	none := unitOf("none", 1, "a:1")
	none.Functions = nil
	h.mustDeploy(none)
	scale := unitOf("scale", 1, "a:1")
	scale.Functions[0].ProvisionConfig.MinScale = proto.Uint32(math.MaxUint32)
	_, err := h.deploy(scale)
	wantCode(t, err, codes.InvalidArgument)
	for field, bad := range map[string]func(*oaaspb.ProvisionConfig){
		"cpu":   func(p *oaaspb.ProvisionConfig) { p.CpuRequest = proto.String("-1") },
		"mem":   func(p *oaaspb.ProvisionConfig) { p.MemoryLimit = proto.String("lots") },
		"port":  func(p *oaaspb.ProvisionConfig) { p.Port = proto.Uint32(70000) },
		"image": func(p *oaaspb.ProvisionConfig) { p.ContainerImage = proto.String("  ") },
	} {
		unit := unitOf("bad", 1, "a:1")
		bad(unit.Functions[0].ProvisionConfig)
		_, err := h.deploy(unit)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", field, err)
		}
	}
}
