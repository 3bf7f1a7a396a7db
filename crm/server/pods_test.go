package server

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

func settings() *oaaspb.PodSettings {
	return &oaaspb.PodSettings{
		ServiceAccount: "shop", PullSecrets: []string{"registry"}, NodeSelector: map[string]string{"disk": "ssd"},
		Tolerations: []*oaaspb.PodToleration{{Key: "a", Value: "b"}, {Operator: "Exists", Effect: "NoExecute", TolerationSeconds: proto.Uint64(60)}},
		Security:    "restricted", CpuRequest: "1", MemoryRequest: "1Gi", Spread: proto.Bool(true), DisruptionBudget: proto.Bool(false),
		NetworkPolicy: "namespace", PriorityClass: "high", ImagePullPolicy: "Always",
	}
}

func TestPodsOfAUnit(t *testing.T) {
	unit := unitOf("record-1", 1, "a:1")
	unit.Pods = settings()
	object, err := toObject(unit, "oaas", "")
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.PodSettings{
		ServiceAccount: "shop", PullSecrets: []string{"registry"}, NodeSelector: map[string]string{"disk": "ssd"},
		Tolerations: []v1alpha1.Toleration{{Key: "a", Value: "b"}, {Operator: "Exists", Effect: "NoExecute", TolerationSeconds: ptr.To(int64(60))}},
		Security:    "restricted", CPURequest: "1", MemoryRequest: "1Gi", Spread: ptr.To(true), DisruptionBudget: ptr.To(false),
		NetworkPolicy: "namespace", PriorityClass: "high", ImagePullPolicy: "Always",
	}
	if diff := cmp.Diff(want, object.Spec.Pods); diff != "" {
		t.Error(diff)
	}
	if len(object.Spec.Pods.Members()) != unit.GetPods().ProtoReflect().Descriptor().Fields().Len() {
		t.Error("the message and the custom resource differ in their members")
	}
	if diff := cmp.Diff(unit.GetPods(), toUnit(object, "edge-1").GetPods(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	unit.Pods.Tolerations[1].TolerationSeconds = proto.Uint64(math.MaxUint64)
	_, err = toObject(unit, "oaas", "")
	wantCode(t, err, codes.InvalidArgument)
	unit.Pods = nil
	if object, err = toObject(unit, "oaas", ""); err != nil || object.Spec.Pods != nil || object.Annotations[AnnotationPods] != "" {
		t.Errorf("a unit that says nothing: %+v, %v", object, err)
	}
}

// What a person says of the pods of a unit stays when the unit is delivered again, as long
// as the unit does not say something itself; and that goes when the unit no longer says it.
func TestPodsOfAPersonSurviveDeliveries(t *testing.T) {
	h := attachedServer(t)
	deliver := func(fence uint64, image string, pods *oaaspb.PodSettings) {
		t.Helper()
		unit := unitOf("record-1", fence, image)
		unit.Pods = pods
		h.mustDeploy(unit)
	}
	expect := func(when string, want *v1alpha1.PodSettings) {
		t.Helper()
		if diff := cmp.Diff(want, h.object("record-1").Spec.Pods); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	deliver(1, "a:1", nil)
	object := h.object("record-1")
	mine := &v1alpha1.PodSettings{NodeSelector: map[string]string{"disk": "ssd"}}
	object.Spec.Pods = mine
	if err := h.admin.Update(h.ctx(), object, client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
	deliver(1, "a:1", nil)
	expect("after the same change again", mine)
	deliver(2, "a:2", nil)
	expect("after the next change", mine)
	deliver(3, "a:3", &oaaspb.PodSettings{Security: "baseline"})
	expect("when the unit says something", &v1alpha1.PodSettings{Security: "baseline"})
	deliver(4, "a:4", &oaaspb.PodSettings{Security: "none"})
	expect("when the unit says something else", &v1alpha1.PodSettings{Security: "none"})
	deliver(5, "a:5", nil)
	expect("when the unit says nothing again", nil)

	// What the definition does not take is refused.
	for name, pods := range map[string]*oaaspb.PodSettings{
		"a toleration of nothing":  {Tolerations: []*oaaspb.PodToleration{{Value: "v"}}},
		"a value beside Exists":    {Tolerations: []*oaaspb.PodToleration{{Key: "k", Operator: "Exists", Value: "v"}}},
		"seconds without an end":   {Tolerations: []*oaaspb.PodToleration{{Key: "k", TolerationSeconds: proto.Uint64(1)}}},
		"a word that is none":      {Security: "strict"},
		"too many secrets":         {PullSecrets: make([]string, 17)},
		"a network that is no net": {NetworkPolicy: "off"},
	} {
		unit := unitOf("record-1", 6, "a:6")
		unit.Pods = pods
		if _, err := h.deploy(unit); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
