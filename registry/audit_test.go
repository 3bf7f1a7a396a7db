package registry_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// Every change that a user asks for says in the audit log what it was and who
// asked; what is refused does not.
func TestChangesAreAudited(t *testing.T) {
	ctx := context.Background()
	r, store := fixture(t, "e1", "e2", "spare")
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.NotesFrom}}}
	if res, err := store.Apply(ctx, raise); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	ri := registry.RequestInfo{RequestID: "r-1", Principal: "ann", Address: "10.0.0.7:4711", Agent: "pmctl/1"}
	pkg := decodePackage(t, shop)
	dep := decodeDeployment(t, `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["e1"]}`)
	moved := decodeDeployment(t, `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["e2"]}`)
	var want []string
	did := func(note string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, note)
	}
	create := func() error { _, _, err := r.CreatePackage(ctx, ri, pkg); return err }
	deploy := func(d int) error {
		doc := dep
		if d > 0 {
			doc = moved
		}
		_, _, err := r.Deploy(ctx, ri, doc)
		return err
	}
	did("package.create shop ", create())
	_, _, err := r.UpdatePackage(ctx, ri, pkg)
	did("package.update shop ", err)
	did("deployment.create shop.Cart envs: e1", deploy(0))
	did("deployment.update shop.Cart envs: e2", deploy(1))
	if _, err := r.RemoveCluster(ctx, ri, "e2"); err == nil {
		t.Fatal("a cluster with a unit was removed")
	}
	_, _, err = r.DeleteDeployment(ctx, ri, "shop.Cart")
	did("deployment.delete shop.Cart ", err)
	_, err = r.DeletePackage(ctx, ri, "shop")
	did("package.delete shop ", err)
	_, err = r.RemoveCluster(ctx, ri, "spare")
	did("cluster.remove spare ", err)

	var have []string
	for e := range store.State().Snapshot().Audit(0) {
		n := e.GetNote()
		have = append(have, fmt.Sprintf("%s %s %s", n.GetAction(), n.GetObject(), n.GetDetail()))
		who := fmt.Sprintf("%s %s %s %s", e.GetRequestId(), e.GetPrincipal(), n.GetAddress(), n.GetAgent())
		if who != "r-1 ann 10.0.0.7:4711 pmctl/1" || n.GetOperator() != (n.GetAction() == "cluster.remove") {
			t.Errorf("%s by %s, operator %v", have[len(have)-1], who, n.GetOperator())
		}
	}
	slices.Reverse(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("audit log (-want +have):\n%s", diff)
	}
}
