package server

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	k8sevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

// recorded keeps the events that are told.
type recorded struct{ notes chan string }

var _ k8sevents.EventRecorder = recorded{}

func (r recorded) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	r.notes <- reason + ": " + fmt.Sprintf(note, args...)
}

// patch changes an object by hand, as kubectl patch does.
func (h *harness) patch(name, body string) {
	h.t.Helper()
	object := &v1alpha1.ClassRuntime{}
	object.Namespace, object.Name = h.namespace, name
	if err := h.admin.Patch(h.ctx(), object, client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
		h.t.Fatal(err)
	}
}

// fullUnit has something in every part of a unit, the empty values included that an
// encoding may drop.
func fullUnit(id string, fence uint64) *oaaspb.DeploymentUnit {
	unit := unitOf(id, fence, "a:1")
	f := unit.Functions[0]
	f.Description, f.Config = proto.String(""), map[string]string{"KEY": "", "OTHER": "ü\u2028<>&"}
	f.NfrRequirements = &oaaspb.NfrRequirements{MinThroughputRps: proto.Uint32(0), Availability: proto.Float64(0.9999), CpuUtilizationTarget: proto.Float64(1.0 / 3)}
	f.ProvisionConfig.MaxScale, f.ProvisionConfig.Port = proto.Uint32(math.MaxUint32), proto.Uint32(0)
	unit.OdgmConfig = &oaaspb.OdgmConfig{
		Collections: []string{"c"}, PartitionCount: proto.Uint32(3), ReplicaCount: proto.Uint32(1), Options: map[string]string{"a": ""},
		OdgmNodeId: proto.Uint64(1<<62 + 1), EnvNodeIds: map[string]*oaaspb.OdgmNodeIds{"edge-1": {Ids: []uint64{1<<53 + 1}}},
		CollectionAssignments: map[string]*oaaspb.CollectionShardAssignments{"c": {Assignments: []*oaaspb.ShardAssignmentSpec{{Primary: proto.Uint64(0)}, {}}}, "d": {}},
		Invocations:           &oaaspb.InvocationRoutes{FnRoutes: map[string]*oaaspb.FunctionRoute{"echo": {FunctionKey: proto.String("Record.echo")}}},
	}
	unit.Telemetry = &oaaspb.TelemetrySpec{Enabled: true, SamplingRate: proto.Float64(1), ResourceAttributes: map[string]string{"x": ""}}
	unit.Pods = &oaaspb.PodSettings{Spread: proto.Bool(false), Tolerations: []*oaaspb.PodToleration{{Operator: "Exists", TolerationSeconds: nil}}}
	return unit
}

// What the API server makes of a spec has the same hash, and a repetition of what is
// stored writes nothing.
func TestStoredSpecMatchesItsHash(t *testing.T) {
	h := attachedServer(t)
	empty := unitOf("unit-empty", 10, "a:1")
	empty.Functions, empty.OdgmConfig, empty.Pods = nil, &oaaspb.OdgmConfig{}, &oaaspb.PodSettings{}
	wasm := unitOf("unit-wasm", 10, "a:1")
	wasm.Functions[0].ProvisionConfig = &oaaspb.ProvisionConfig{WasmModuleUrl: proto.String("http://modules/a.wasm")}
	for _, unit := range []*oaaspb.DeploymentUnit{unitOf("unit-plain", 10, "a:1"), fullUnit("unit-full", 10), empty, wasm} {
		t.Run(unit.GetId(), func(t *testing.T) {
			h.mustDeploy(unit)
			stored := h.object(unit.GetId())
			if drifted(stored) || stored.Annotations[AnnotationSpecHash] == "" {
				t.Fatalf("stored with hash %q as %+v", stored.Annotations[AnnotationSpecHash], stored.Spec)
			}
			h.mustDeploy(unit)
			if got := h.object(unit.GetId()).ResourceVersion; got != stored.ResourceVersion {
				t.Errorf("a repetition wrote: %s became %s", stored.ResourceVersion, got)
			}
			// What people may change.
			h.patch(unit.GetId(), `{"spec":{"addons":["odgm"],"enforcement":{"mode":"observe"}},"metadata":{"labels":{"a":"b"}}}`)
			if drifted(h.object(unit.GetId())) {
				t.Error("what people may change counts as drift")
			}
		})
	}
	h.patch("unit-plain", `{"spec":{"pods":{"node_selector":{"disk":"ssd"}}}}`)
	if drifted(h.object("unit-plain")) {
		t.Error("pods of a person count as drift")
	}
	h.patch("unit-full", `{"spec":{"pods":{"node_selector":{"disk":"ssd"}}}}`)
	if !drifted(h.object("unit-full")) {
		t.Error("pods of the unit can be changed unseen")
	}
}

// The hash of a spec does not change from build to build. If it has to, the version
// of the hash changes with it, lest all objects be sent again.
func TestSpecHashIsStable(t *testing.T) {
	object, err := toObject(fullUnit("unit-full", 10), "default", "")
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1:1/10:e4f2bb12c7d3addc68dc711db3670080fdb7eddc4e626a4874aac7b9e6f4caf0"
	if got := object.Annotations[AnnotationSpecHash]; got != want {
		t.Errorf("hash %q, want %q", got, want)
	}
	for name, change := range map[string]func(*v1alpha1.ClassRuntime){
		"no annotation":             func(o *v1alpha1.ClassRuntime) { delete(o.Annotations, AnnotationSpecHash) },
		"hash of another version":   func(o *v1alpha1.ClassRuntime) { o.Annotations[AnnotationSpecHash] = "v0:1/10:00" },
		"hash of an earlier change": func(o *v1alpha1.ClassRuntime) { o.Annotations[AnnotationSpecHash] = "v1:1/9:00" },
		"no delivery":               func(o *v1alpha1.ClassRuntime) { o.Spec.Delivery = nil },
	} {
		t.Run(name+" is believed", func(t *testing.T) {
			object := object.DeepCopy()
			object.Spec.Functions = nil
			if !drifted(object) {
				t.Fatal("a change is not seen")
			}
			change(object)
			if drifted(object) {
				t.Error("it counts as drift")
			}
		})
	}
}

// What was changed by hand is reported without a content, and the same delivery sets
// it back.
func TestChangesByHandAreSetBack(t *testing.T) {
	h := attachedServer(t)
	backend, err := h.server.backend()
	if err != nil {
		t.Fatal(err)
	}
	told := recorded{notes: make(chan string, 16)}
	backend.Events = told
	unit := fullUnit("record-1", 10)
	h.mustDeploy(unit)
	stored := h.object("record-1")
	stream := h.watch()
	if hash := stream.next().GetUpserted().GetDelivery().GetContentHash(); hash != "a:1" {
		t.Fatalf("inventory reports the hash %q", hash)
	}
	stream.next() // inventory complete
	for name, tc := range map[string]struct{ body, note string }{
		"functions":      {`{"spec":{"functions":null}}`, "SpecRestored: spec.functions was"},
		"image":          {`{"spec":{"functions":[{"function_key":"Record.echo","provision_config":{"container_image":"evil:1"}}]}}`, "SpecRestored: spec.functions was"},
		"store":          {`{"spec":{"odgm_config":{"replica_count":2},"telemetry":null}}`, "SpecRestored: spec.odgm_config, spec.telemetry was"},
		"the hash alone": {`{"metadata":{"annotations":{"oaas.io/spec-hash":"v1:1/10:00"}}}`, "SpecRestored: annotation oaas.io/spec-hash was"},
	} {
		t.Run(name, func(t *testing.T) {
			h.patch("record-1", tc.body)
			d := stream.next().GetUpserted().GetDelivery()
			if d.GetContentHash() != "" || d.GetFence() != 10 || d.GetEpoch() != 1 {
				t.Fatalf("the stream reports %v", d)
			}
			summary, err := h.deployments.GetClassRuntime(h.ctx(), &oaaspb.GetClassRuntimeRequest{DeploymentId: "record-1"})
			if err != nil || summary.GetDeployment().GetDelivery().GetContentHash() != "" {
				t.Fatalf("get reports %v (%v)", summary, err)
			}
			h.mustDeploy(unit)
			if hash := stream.next().GetUpserted().GetDelivery().GetContentHash(); hash != "a:1" {
				t.Fatalf("then the stream reports the hash %q", hash)
			}
			restored := h.object("record-1")
			if diff := changedFields(&stored.Spec, &restored.Spec); len(diff) > 0 || drifted(restored) {
				t.Errorf("%v is not as it was", diff)
			}
			if note := <-told.notes; !strings.HasPrefix(note, tc.note) {
				t.Errorf("told %q, want %q...", note, tc.note)
			}
		})
	}
	before := h.object("record-1").ResourceVersion
	h.mustDeploy(unit)
	if after := h.object("record-1").ResourceVersion; after != before || len(told.notes) > 0 {
		t.Errorf("at rest, %s became %s, and %d events were told", before, after, len(told.notes))
	}
}

// An order that was raised by hand refuses everything, and the refusal says how to get
// out of it.
func TestOrderRaisedByHand(t *testing.T) {
	h := attachedServer(t)
	h.mustDeploy(unitOf("record-1", 10, "a:1"))
	h.patch("record-1", `{"spec":{"delivery":{"fence":99999}}}`)
	_, changed := h.deploy(unitOf("record-1", 11, "b:1"))
	for what, err := range map[string]error{"change": changed, "deletion": h.delete("record-1", deliveryAt(11, ""))} {
		wantCode(t, err, codes.FailedPrecondition)
		if reasonOf(err) != ReasonStaleFence {
			t.Errorf("reason %s", reasonOf(err))
		}
		for _, part := range []string{
			"ClassRuntime " + h.namespace + "/record-1", "this " + what + " is of",
			orderOf(&v1alpha1.Delivery{Epoch: 1, Fence: 99999}).String(), order{Epoch: 1, Fence: 11}.String(),
			order{Epoch: 1, Fence: 10}.String() + " was stored last", "kubectl -n " + h.namespace + " delete classruntime record-1",
		} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	}
	if err := h.admin.Delete(h.ctx(), h.object("record-1")); err != nil {
		t.Fatal(err)
	}
	h.mustDeploy(unitOf("record-1", 11, "b:1"))
	h.patch("record-1", `{"spec":{"delivery":{"fence":99999}}}`)
	if err := h.admin.Delete(h.ctx(), h.object("record-1")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.delete("record-1", deliveryAt(12, "")), codes.NotFound)
}
