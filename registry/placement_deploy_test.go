package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

func raised(t *testing.T, store *registrytest.Store) {
	t.Helper()
	if _, err := store.Apply(context.Background(), &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom}}}); err != nil {
		t.Fatal(err)
	}
}

// Documents with a placement are planned by it.
func TestDeployWithAPlacement(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3")
	deploy := func(placement string) (*registry.DeployOutcome, error) {
		out, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","placement":`+placement+`}`))
		return out, err
	}
	if _, err := deploy(`{"allow":["oaas-2"]}`); registry.CodeOf(err) != registry.FailedPrecondition || !strings.Contains(err.Error(), "feature level") {
		t.Fatalf("with servers that do not know placements: %v", err)
	}
	raised(t, store)
	for _, tc := range []struct {
		placement string
		envs      []string
		code      registry.Code
		text      string
	}{
		{`{"allow":["oaas-2"]}`, []string{"oaas-2"}, "", ""},
		{`{"deny":["oaas-1","oaas-2"]}`, []string{"oaas-3"}, "", ""},
		{`{"allow":["oaas-1"],"windows":[{"days":["` + closedDay() + `"],"start":"00:00","duration":"1m","zone":"UTC"}]}`, []string{"oaas-1"}, "", ""},
		{`{"selector":"tier=gold"}`, nil, registry.InvalidArgument, "its labels do not match"},
		{`{"selector":"tier in ("}`, nil, registry.Unprocessable, "placement.selector"},
		{`{"expression":"cluster.name"}`, nil, registry.Unprocessable, "placement.expression"},
		{`{"spread":[{"topology":"region","min_domains":2}]}`, nil, registry.InvalidArgument, "says no region"},
		{`{"windows":[{"start":"02:00","duration":"4h","zone":"Nowhere/Land"}]}`, nil, registry.Unprocessable, "Nowhere/Land"},
	} {
		out, err := deploy(tc.placement)
		switch {
		case tc.code == "" && (err != nil || !slices.Equal(out.Envs, tc.envs)):
			t.Errorf("%s: %+v, %v", tc.placement, out, err)
		case tc.code != "" && (registry.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.text)):
			t.Errorf("%s: %v, want %s with %q", tc.placement, err, tc.code, tc.text)
		}
		var refused *registry.Error
		if tc.code == registry.Unprocessable && (!errors.As(err, &refused) || len(refused.Problems) != 1 || !strings.HasPrefix(refused.Problems[0].Path, "placement.")) {
			t.Errorf("%s: the field is not named: %+v", tc.placement, refused)
		}
	}
}

// closedDay is the day before yesterday, whatever the hour.
func closedDay() string {
	return strings.ToLower(time.Now().UTC().AddDate(0, 0, -2).Weekday().String()[:3])
}

// A deployment keeps apart from others where they are now.
func TestApartFromAnotherDeployment(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2")
	raised(t, store)
	if _, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, `{"key":"shop.Other","package_name":"shop","class_key":"Cart","target_envs":["oaas-2"]}`)); err != nil {
		t.Fatal(err)
	}
	out, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","placement":{"anti_affinity":{"deployments":["shop.Other","shop.None"]}}}`))
	if err != nil || !slices.Equal(out.Envs, []string{"oaas-1"}) {
		t.Errorf("%+v, %v", out, err)
	}
}
