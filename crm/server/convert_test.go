package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

func container(key, image string) *oaaspb.FunctionDeploymentSpec {
	return &oaaspb.FunctionDeploymentSpec{FunctionKey: key, ProvisionConfig: &oaaspb.ProvisionConfig{ContainerImage: &image}}
}

func wasm(key, url string) *oaaspb.FunctionDeploymentSpec {
	return &oaaspb.FunctionDeploymentSpec{FunctionKey: key, ProvisionConfig: &oaaspb.ProvisionConfig{WasmModuleUrl: &url}}
}

func TestUnitBecomesObject(t *testing.T) {
	unit := &oaaspb.DeploymentUnit{
		Id: "Record-1", PackageName: "example", ClassKey: "Record", TargetEnv: "edge-1",
		SelectedTemplate: proto.String("dev"),
		Functions: []*oaaspb.FunctionDeploymentSpec{
			{
				FunctionKey: "Record.echo", Description: proto.String("d"), AvailableLocation: proto.String("eu"),
				Config: map[string]string{"K": "v"},
				NfrRequirements: &oaaspb.NfrRequirements{
					MinThroughputRps: proto.Uint32(100), Availability: proto.Float64(0.99), CpuUtilizationTarget: proto.Float64(0.7),
				},
				ProvisionConfig: &oaaspb.ProvisionConfig{
					ContainerImage: proto.String("echo:1"), Port: proto.Uint32(8080), MaxConcurrency: 5, NeedHttp2: true,
					CpuRequest: proto.String("250m"), MemoryLimit: proto.String("64Mi"), MinScale: proto.Uint32(2), MaxScale: proto.Uint32(4),
				},
			},
			wasm("Record.wasm", "http://modules/x.wasm"),
		},
		FunctionBindings: []*oaaspb.ClassFunctionBinding{
			{Name: "echo", FunctionKey: "Record.echo", Stateless: proto.Bool(true)},
			{Name: "fast", FunctionKey: "Record.wasm"},
			{Name: "elsewhere", FunctionKey: "Other.fn"},
		},
		OdgmConfig: &oaaspb.OdgmConfig{
			Collections: []string{"example.Record"}, PartitionCount: proto.Uint32(2), ReplicaCount: proto.Uint32(1),
			Log: proto.String("info"), OdgmNodeId: proto.Uint64(7),
			EnvNodeIds: map[string]*oaaspb.OdgmNodeIds{"edge-1": {Ids: []uint64{7}}},
			CollectionAssignments: map[string]*oaaspb.CollectionShardAssignments{"example.Record": {Assignments: []*oaaspb.ShardAssignmentSpec{
				{Primary: proto.Uint64(1), Replica: []uint64{7}, ShardIds: []uint64{1}},
			}}},
		},
		Telemetry: &oaaspb.TelemetrySpec{Enabled: true, SamplingRate: proto.Float64(0.5)},
		Delivery: &oaaspb.Delivery{
			Epoch: 1, Fence: 2, Generation: 3, DeploymentUid: "uid", DeploymentKey: "key", ControlPlaneId: "pm", ContentHash: "h",
		},
	}
	got, err := toObject(unit, "oaas", "corr")
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.ClassRuntime{
		ObjectMeta: metav1.ObjectMeta{
			Name: "record-1", Namespace: "oaas",
			Labels: map[string]string{
				"oaas.io/deployment-id": "record-1", "oaas.io/class": "example.Record",
				"oaas.io/package": "example", "oaas.io/deployment": "key",
			},
			Annotations: map[string]string{
				"oaas.io/correlation-id": "corr",
				"oaas.io/spec-hash":      "v1:1/2:c890f5bb18c07366161dff8c77252d71c7d4de8db493f88cda3631c48f68b02b",
			},
		},
		Spec: v1alpha1.ClassRuntimeSpec{
			PackageClassKey: "example.Record", SelectedTemplate: "dev",
			Functions: []v1alpha1.FunctionSpec{
				{
					FunctionKey: "Record.echo", Description: "d", AvailableLocation: "eu", Config: map[string]string{"K": "v"},
					QosRequirement: &v1alpha1.QosRequirement{Throughput: 100, Availability: 0.99},
					ProvisionConfig: &v1alpha1.ProvisionConfig{
						ContainerImage: "echo:1", Port: ptr.To(int32(8080)), MaxConcurrency: 5, NeedHTTP2: true,
						CPURequest: "250m", MemoryLimit: "64Mi", MinScale: ptr.To(uint32(2)), MaxScale: ptr.To(uint32(4)),
					},
				},
				{FunctionKey: "Record.wasm", ProvisionConfig: &v1alpha1.ProvisionConfig{WasmModuleURL: "http://modules/x.wasm"}},
			},
			NfrRequirements: &v1alpha1.NfrRequirements{MinThroughputRPS: ptr.To(uint32(100)), AvailabilityPct: ptr.To(99.0), CPUUtilizationTarget: ptr.To(0.7)},
			OdgmConfig: &v1alpha1.OdgmConfig{
				Collections: []string{"example.Record"}, PartitionCount: ptr.To(int32(2)), ReplicaCount: ptr.To(int32(1)),
				Log: "info", NodeID: ptr.To(v1alpha1.NodeID(7)), EnvNodeIDs: map[string][]v1alpha1.NodeID{"edge-1": {7}},
				CollectionAssignments: map[string][]v1alpha1.ShardAssignment{"example.Record": {{
					Primary: ptr.To(v1alpha1.NodeID(1)), Replica: []v1alpha1.NodeID{7}, ShardIDs: []v1alpha1.NodeID{1},
				}}},
				Invocations: &v1alpha1.Invocations{FnRoutes: map[string]v1alpha1.FunctionRoute{
					// Index and count are those of all functions, WASM ones included.
					"echo": {URL: "http://record-1-fn-0:80/", Stateless: ptr.To(true), Standby: ptr.To(false), FunctionKey: "Record.echo"},
					"fast": {
						URL: "wasm://Record.wasm", WasmModuleURL: "http://modules/x.wasm", Standby: ptr.To(false), FunctionKey: "Record.wasm",
					},
				}},
			},
			Telemetry: &v1alpha1.Telemetry{Enabled: ptr.To(true), SamplingRate: ptr.To(0.5)},
			Delivery: &v1alpha1.Delivery{
				UnitID: "Record-1", DeploymentUID: "uid", ControlPlaneID: "pm", Epoch: 1, Fence: 2, Generation: 3,
				ContentHash: "h", DeploymentKey: "key", TargetEnv: "edge-1",
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// What an answer tells of the unit is what was sent, but for bindings and routes.
	back := toUnit(got, "edge-1")
	if back.GetId() != unit.GetId() || back.GetPackageName() != "example" || back.GetClassKey() != "Record" ||
		back.GetTargetEnv() != "edge-1" || !proto.Equal(back.GetDelivery(), unit.GetDelivery()) ||
		!proto.Equal(back.GetFunctions()[1], unit.GetFunctions()[1]) {
		t.Errorf("unit %v", back)
	}
}

func TestRoutes(t *testing.T) {
	two := []*oaaspb.FunctionDeploymentSpec{container("C.a", "a:1"), wasm("C.b", "http://m/b.wasm")}
	for name, tc := range map[string]struct {
		unit *oaaspb.DeploymentUnit
		want *v1alpha1.Invocations
	}{
		"no functions and no configuration": {&oaaspb.DeploymentUnit{OdgmConfig: &oaaspb.OdgmConfig{}}, nil},
		"sent routes keep names and options": {
			&oaaspb.DeploymentUnit{
				Functions: two,
				FunctionBindings: []*oaaspb.ClassFunctionBinding{
					{Name: "bound", FunctionKey: "C.a"}, {Name: "unrouted", FunctionKey: "C.b"},
				},
				OdgmConfig: &oaaspb.OdgmConfig{Invocations: &oaaspb.InvocationRoutes{
					DisabledFn: []string{"off"},
					FnRoutes: map[string]*oaaspb.FunctionRoute{
						"bound":    {Standby: proto.Bool(true), ActiveGroup: []uint64{1}},
						"module":   {FunctionKey: proto.String("C.b")},
						"external": {Url: "http://elsewhere/"},
					},
				}},
			},
			&v1alpha1.Invocations{
				DisabledFn: []string{"off"},
				FnRoutes: map[string]v1alpha1.FunctionRoute{
					"bound":    {URL: "http://x-fn-0:80/", FunctionKey: "C.a", Standby: ptr.To(true), ActiveGroup: []v1alpha1.NodeID{1}},
					"module":   {URL: "wasm://C.b", FunctionKey: "C.b", WasmModuleURL: "http://m/b.wasm"},
					"external": {URL: "http://elsewhere/"},
				},
			},
		},
		"one function has the object's own name": {
			&oaaspb.DeploymentUnit{
				Functions:        two[:1],
				FunctionBindings: []*oaaspb.ClassFunctionBinding{{Name: "a", FunctionKey: "C.a"}},
				OdgmConfig:       &oaaspb.OdgmConfig{},
			},
			&v1alpha1.Invocations{FnRoutes: map[string]v1alpha1.FunctionRoute{
				"a": {URL: "http://x:80/", FunctionKey: "C.a", Standby: ptr.To(false)},
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, invocationsOf(tc.unit, "x")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnitWithoutOdgmGetsACollection(t *testing.T) {
	unit := unitOf("record-1", 0, "a:1")
	object, err := toObject(unit, "oaas", "")
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.OdgmConfig{
		Collections: []string{"record-1"}, PartitionCount: ptr.To(int32(1)), ReplicaCount: ptr.To(int32(1)),
		ShardType: "mst", Invocations: &v1alpha1.Invocations{},
	}
	if diff := cmp.Diff(want, object.Spec.OdgmConfig); diff != "" {
		t.Error(diff)
	}
	unit.Functions = nil
	if object, err = toObject(unit, "oaas", ""); err != nil || object.Spec.OdgmConfig != nil {
		t.Errorf("a class without functions got %+v (%v)", object.Spec.OdgmConfig, err)
	}
}

func TestInvalidUnitsNameTheField(t *testing.T) {
	long := make([]byte, 64)
	for i := range long {
		long[i] = 'a'
	}
	for name, tc := range map[string]struct {
		change func(*oaaspb.DeploymentUnit)
		field  string
	}{
		"no id":             {func(u *oaaspb.DeploymentUnit) { u.Id = "--" }, "deployment_unit.id"},
		"id too long":       {func(u *oaaspb.DeploymentUnit) { u.Id = string(long) }, "deployment_unit.id"},
		"no class":          {func(u *oaaspb.DeploymentUnit) { u.ClassKey = "" }, "deployment_unit.class_key"},
		"no function key":   {func(u *oaaspb.DeploymentUnit) { u.Functions[0].FunctionKey = "" }, "deployment_unit.functions[0].function_key"},
		"nothing to run":    {func(u *oaaspb.DeploymentUnit) { u.Functions[0].ProvisionConfig = nil }, "deployment_unit.functions[0].provision_config"},
		"port out of range": {func(u *oaaspb.DeploymentUnit) { u.Functions[0].ProvisionConfig.Port = proto.Uint32(65536) }, "deployment_unit.functions[0].provision_config.port"},
		"bad quantity": {func(u *oaaspb.DeploymentUnit) {
			u.Functions[0].ProvisionConfig.MemoryLimit = proto.String("much")
		}, "deployment_unit.functions[0].provision_config.memory_limit"},
		"max below min": {func(u *oaaspb.DeploymentUnit) {
			u.Functions[0].ProvisionConfig.MinScale, u.Functions[0].ProvisionConfig.MaxScale = proto.Uint32(2), proto.Uint32(1)
		}, "deployment_unit.functions[0].provision_config.max_scale"},
		"too many functions": {func(u *oaaspb.DeploymentUnit) {
			for range maxFunctions {
				u.Functions = append(u.Functions, container("x", "a:1"))
			}
		}, "deployment_unit.functions"},
		"no deployment uid": {func(u *oaaspb.DeploymentUnit) { u.Delivery.DeploymentUid = "" }, "deployment_unit.delivery.deployment_uid"},
		"no control plane":  {func(u *oaaspb.DeploymentUnit) { u.Delivery.ControlPlaneId = "" }, "deployment_unit.delivery.control_plane_id"},
		"no content hash":   {func(u *oaaspb.DeploymentUnit) { u.Delivery.ContentHash = "" }, "deployment_unit.delivery.content_hash"},
		"fence too large":   {func(u *oaaspb.DeploymentUnit) { u.Delivery.Fence = 1 << 53 }, "deployment_unit.delivery"},
		"partitions too large": {func(u *oaaspb.DeploymentUnit) {
			u.OdgmConfig = &oaaspb.OdgmConfig{PartitionCount: proto.Uint32(1 << 31)}
		}, "deployment_unit.odgm_config.partition_count"},
	} {
		t.Run(name, func(t *testing.T) {
			unit := unitOf("record-1", 1, "a:1")
			tc.change(unit)
			_, err := toObject(unit, "oaas", "")
			wantCode(t, err, codes.InvalidArgument)
			if got := violation(err); got != tc.field {
				t.Errorf("field %q, want %q (%v)", got, tc.field, err)
			}
		})
	}
}

func violation(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(interface {
			GetFieldViolations() []*errdetails.BadRequest_FieldViolation
		}); ok && len(bad.GetFieldViolations()) > 0 {
			return bad.GetFieldViolations()[0].GetField()
		}
	}
	return ""
}

func FuzzToObject(f *testing.F) {
	seed, err := proto.Marshal(unitOf("record-1", 1, "a:1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		unit := &oaaspb.DeploymentUnit{}
		if proto.Unmarshal(data, unit) != nil {
			return
		}
		object, err := toObject(unit, "oaas", "")
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Fatalf("code %v", status.Code(err))
			}
			return
		}
		if len(object.Spec.Functions) != len(unit.GetFunctions()) {
			t.Fatal("functions were dropped")
		}
		toUnit(object, "edge-1")
	})
}
