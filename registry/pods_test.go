package registry_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// A deployment says what its pods have, else its class does; a unit of one that says
// nothing has the content that it always had.
func TestDeployWithPods(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1")
	deploy := func(pods string) error {
		_, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, `{"key":"shop.Cart","package_name":"shop","class_key":"Cart"`+pods+`}`))
		return err
	}
	shop := func(pods *model.PodSettings) error {
		pkg := store.State().Snapshot().Package("shop").Doc.Clone()
		for i := range pkg.Classes {
			pkg.Classes[i].Pods = pods
		}
		_, _, err := r.UpdatePackage(ctx, registry.RequestInfo{}, pkg)
		return err
	}
	unit := func() (*oaaspb.DeploymentUnit, string) {
		t.Helper()
		snap := store.State().Snapshot()
		units := snap.Units()
		if len(units) != 1 {
			t.Fatalf("%d units", len(units))
		}
		content := &oaaspb.DeploymentUnit{}
		if err := proto.Unmarshal(units[0].GetDesired(), content); err != nil {
			t.Fatal(err)
		}
		return content, units[0].GetContentHash()
	}
	for name, err := range map[string]error{"a deployment": deploy(`,"pods":{}`), "a class": shop(&model.PodSettings{ServiceAccount: "shop"})} {
		if registry.CodeOf(err) != registry.FailedPrecondition || !strings.Contains(err.Error(), "feature level") {
			t.Fatalf("%s, with servers that do not know pods: %v", name, err)
		}
	}
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.PodsFrom}}}
	if _, err := store.Apply(ctx, raise); err != nil {
		t.Fatal(err)
	}

	if err := deploy(""); err != nil {
		t.Fatal(err)
	}
	_, silent := unit()
	if err := deploy(`,"pods":{}`); err != nil {
		t.Fatal(err)
	}
	if content, hash := unit(); content.GetPods() != nil || hash != silent {
		t.Errorf("pods that say nothing change the content: %v", content.GetPods())
	}
	if err := deploy(`,"pods":{"node_selector":{"disk":"ssd"},"tolerations":[{"key":"spot","operator":"Exists","effect":"NoExecute","toleration_seconds":60}],"spread":false}`); err != nil {
		t.Fatal(err)
	}
	no, seconds := false, uint64(60)
	want := &oaaspb.PodSettings{
		NodeSelector: map[string]string{"disk": "ssd"}, Spread: &no,
		Tolerations: []*oaaspb.PodToleration{{Key: "spot", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &seconds}},
	}
	content, hash := unit()
	if diff := cmp.Diff(want, content.GetPods(), protocmp.Transform()); diff != "" || hash == silent {
		t.Error(diff)
	}

	if err := shop(&model.PodSettings{ServiceAccount: "shop"}); err != nil {
		t.Fatal(err)
	}
	if err := deploy(""); err != nil {
		t.Fatal(err)
	}
	if content, _ := unit(); content.GetPods().GetServiceAccount() != "shop" {
		t.Errorf("not those of the class: %v", content.GetPods())
	}
	if err := deploy(`,"pods":{"priority_class":"high"}`); err != nil {
		t.Fatal(err)
	}
	if content, _ := unit(); content.GetPods().GetServiceAccount() != "" || content.GetPods().GetPriorityClass() != "high" {
		t.Errorf("those of the class beside those of the deployment: %v", content.GetPods())
	}
	if err := deploy(`,"pods":{"service_account":"A"}`); registry.CodeOf(err) != registry.Unprocessable || !strings.Contains(err.Error(), "pods.service_account") {
		t.Errorf("a name that is none: %v", err)
	}
}

// Everything that a deployment can say of its pods reaches the clusters.
func TestPodSettingsHaveOneFieldEach(t *testing.T) {
	text, err := model.PodSettings{
		ServiceAccount: "a", PullSecrets: []string{"a"}, NodeSelector: map[string]string{"a": "b"}, Tolerations: []model.PodToleration{{}},
		Security: model.SecurityNone, CPURequest: "1", MemoryRequest: "1", Spread: new(bool), DisruptionBudget: new(bool),
		NetworkPolicy: model.NetworkNone, PriorityClass: "a", ImagePullPolicy: model.PullNever,
	}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	fields := (&oaaspb.PodSettings{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if name := string(fields.Get(i).Name()); !strings.Contains(string(text), `"`+name+`":`) {
			t.Errorf("the model has no %s", name)
		}
	}
	// The one label and the operator of the toleration are members of members.
	if n := strings.Count(string(text), `":`) - 2; n != fields.Len() {
		t.Errorf("%d members, %d fields: %s", n, fields.Len(), text)
	}
}
