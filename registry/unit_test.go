package registry

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/scheduler"
)

func TestDNSLabel(t *testing.T) {
	tests := map[string]string{
		"Record":                 "record",
		"My.Class_Name":          "my-class-name",
		"--Foo--":                "foo",
		"9abc":                   "a9abc",
		"":                       "x",
		"---":                    "x",
		"日本Class":                "class",
		"e2e-test.E2EClass":      "e2e-test-e2eclass",
		strings.Repeat("A", 70):  strings.Repeat("a", 45),
		strings.Repeat("a-", 40): strings.TrimRight(strings.Repeat("a-", 40)[:45], "-"),
	}
	for in, want := range tests {
		if got := dnsLabel(in); got != want {
			t.Errorf("dnsLabel(%q) = %q, want %q", in, got, want)
		}
	}
}

var dns1035 = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)

// TestUnitIDIsAName guards I4: the id depends on nothing but uid, environment
// and class, and is usable as the name of everything that is derived from it.
func TestUnitIDIsAName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uid, env, class := rapid.String().Draw(t, "uid"), rapid.String().Draw(t, "env"), rapid.String().Draw(t, "class")
		id := UnitID(uid, env, class)
		if id != UnitID(uid, env, class) {
			t.Fatal("not a function of its arguments")
		}
		if longest := id + "-odgm-svc"; len(longest) > 63 || !dns1035.MatchString(longest) {
			t.Fatalf("%q is no Service name", longest)
		}
		if other := rapid.String().Draw(t, "other"); other != env && UnitID(uid, other, class) == id {
			t.Fatalf("environments %q and %q share %q", env, other, id)
		}
	})
}

// TestUnitIDIsStable pins the function itself: a change of it would make every
// running unit a stranger after an upgrade.
func TestUnitIDIsStable(t *testing.T) {
	if got, want := UnitID("6f1c1a52-0000-4000-8000-000000000000", "oaas-1", "Record"), "record-auq31vc3"; got != want {
		t.Errorf("UnitID = %q, want %q", got, want)
	}
}

func TestContentHashIgnoresDelivery(t *testing.T) {
	unit := &oaaspb.DeploymentUnit{Id: "a", Functions: []*oaaspb.FunctionDeploymentSpec{{FunctionKey: "f", Config: map[string]string{"a": "1", "b": "2"}}}}
	plain, err := ContentHash(unit)
	if err != nil {
		t.Fatal(err)
	}
	delivered := proto.CloneOf(unit)
	delivered.Delivery = &oaaspb.Delivery{Fence: 7}
	delivered.CreatedAt = &oaaspb.Timestamp{Seconds: 1}
	if got, _ := ContentHash(delivered); got != plain {
		t.Error("delivery or created_at changed the hash")
	}
	delivered.Functions[0].Config["b"] = "3"
	if got, _ := ContentHash(delivered); got == plain {
		t.Error("a changed value did not change the hash")
	}
}

// TestContentHashIsStable pins the hash of a unit that says nothing of its pods: a change
// of it would send every unit anew, and roll its pods, after an upgrade.
func TestContentHashIsStable(t *testing.T) {
	image, availability := "registry.local/cart:1", 0.99
	dep := &model.OClassDeployment{
		Key: "shop.Cart", PackageName: "shop", ClassKey: "Cart",
		NFRRequirements: model.NFRRequirements{Availability: &availability},
		Functions: []model.FunctionDeploymentSpec{{
			FunctionKey: "Cart.add", Config: map[string]string{"K": "v"}, ProvisionConfig: &model.ProvisionConfig{ContainerImage: &image},
		}},
		ODGM: &model.ODGMDataSpec{Collections: []string{"shop.Cart"}, EnvNodeIDs: map[string][]uint64{"oaas-1": {101}}},
	}
	cls := &model.OClass{Key: "Cart", FunctionBindings: []model.FunctionBinding{{Name: "add", FunctionKey: "Cart.add", AccessModifier: model.AccessPublic}}}
	got, err := ContentHash(buildUnit("uid-1", &scheduler.Assignment{Cluster: "oaas-1"}, dep, cls))
	if err != nil {
		t.Fatal(err)
	}
	if want := "0f66872afbc43e34693a291459ce0220938f34f7ff4d86dfbbb8a0fc369624f8"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestBuildUnit(t *testing.T) {
	image, port, minScale := "registry.local/cart:1", uint16(8080), uint32(3)
	availability := 0.99
	cls := &model.OClass{Key: "Cart", FunctionBindings: []model.FunctionBinding{
		{Name: "add", FunctionKey: "Cart.add", AccessModifier: model.AccessPublic, Stateless: true},
		{Name: "gone", FunctionKey: "Cart.gone", AccessModifier: model.AccessInternal},
	}}
	two := uint32(2)
	dep := &model.OClassDeployment{
		Key: "shop.Cart", PackageName: "shop", ClassKey: "Cart",
		NFRRequirements: model.NFRRequirements{Availability: &availability},
		EnvTemplates:    map[string]string{"oaas-2": "edge"},
		Functions: []model.FunctionDeploymentSpec{{
			FunctionKey: "Cart.add", Config: map[string]string{"K": "v"},
			ProvisionConfig: &model.ProvisionConfig{ContainerImage: &image, Port: &port, MinScale: &minScale},
		}, {FunctionKey: "Cart.gone"}}, // a macro: nothing runs in the cluster
		ODGM: &model.ODGMDataSpec{
			Collections: []string{"shop.Cart"}, ReplicaCount: &two,
			EnvNodeIDs: map[string][]uint64{"oaas-1": {101}, "oaas-2": {202}},
		},
		Telemetry: &model.TelemetryConfig{},
	}
	got := buildUnit("uid-1", &scheduler.Assignment{Cluster: "oaas-2"}, dep, cls)
	yes, no, primary, node := true, false, uint64(1), uint64(202)
	public, internal, key, port32, edge := "Public", "Internal", "Cart.add", uint32(8080), "edge"
	want := &oaaspb.DeploymentUnit{
		Id: UnitID("uid-1", "oaas-2", "Cart"), PackageName: "shop", ClassKey: "Cart", TargetEnv: "oaas-2",
		Functions: []*oaaspb.FunctionDeploymentSpec{{
			FunctionKey: "Cart.add", Config: map[string]string{"K": "v"},
			NfrRequirements: &oaaspb.NfrRequirements{Availability: &availability},
			ProvisionConfig: &oaaspb.ProvisionConfig{ContainerImage: &image, Port: &port32, MinScale: &minScale},
		}},
		FunctionBindings: []*oaaspb.ClassFunctionBinding{
			{Name: "add", FunctionKey: "Cart.add", AccessModifier: &public, Stateless: &yes},
			{Name: "gone", FunctionKey: "Cart.gone", AccessModifier: &internal, Stateless: &no},
		},
		OdgmConfig: &oaaspb.OdgmConfig{
			Collections: []string{"shop.Cart"}, ReplicaCount: &two,
			EnvNodeIds:  map[string]*oaaspb.OdgmNodeIds{"oaas-1": {Ids: []uint64{101}}, "oaas-2": {Ids: []uint64{202}}},
			OdgmNodeId:  &node,
			Invocations: &oaaspb.InvocationRoutes{FnRoutes: map[string]*oaaspb.FunctionRoute{"add": {Stateless: &yes, Standby: &no, FunctionKey: &key}}},
			CollectionAssignments: map[string]*oaaspb.CollectionShardAssignments{"shop.Cart": {Assignments: []*oaaspb.ShardAssignmentSpec{
				{Primary: &primary, Replica: []uint64{101, 202}, ShardIds: []uint64{1, 2}},
			}}},
		},
		SelectedTemplate: &edge,
		Telemetry:        &oaaspb.TelemetrySpec{Enabled: true},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
