package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

// withCarts has a deployment in three clusters, with the levels and states of these.
func withCarts(t *testing.T, level uint32, health map[string]pmpb.ClusterHealth) (*registry.Registry, *registrytest.Store) {
	t.Helper()
	r, store := withShop(t, "oaas-1", "oaas-2", "oaas-3")
	if _, err := store.Apply(context.Background(), &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}}}); err != nil {
		t.Fatal(err)
	}
	deployCart(t, r)
	for env, h := range health {
		setHealth(t, r, env, h)
	}
	return r, store
}

func deployCart(t *testing.T, r *registry.Registry) string {
	t.Helper()
	doc := `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2","oaas-3"]}`
	out, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, doc))
	if err != nil {
		t.Fatal(err)
	}
	return out.UID
}

func setHealth(t *testing.T, r *registry.Registry, env string, h pmpb.ClusterHealth) {
	t.Helper()
	if err := r.PutCluster(context.Background(), 0, env, func(row *pmpb.Cluster) error { row.Health = h; return nil }); err != nil {
		t.Fatal(err)
	}
}

const (
	healthy     = pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	degraded    = pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED
	unreachable = pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
	suspect     = pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT
	eligible    = pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE
)

func orphanedEnvs(out *registry.OrphanOutcome) []string {
	var envs []string
	for _, o := range out.Orphans {
		envs = append(envs, o.Env)
	}
	return envs
}

// Only what cannot confirm may be given up; what may not be leaves everything as it is.
func TestForceDeleteChoosesEnvironments(t *testing.T) {
	tests := map[string]struct {
		health        map[string]pmpb.ClusterHealth
		envs          []string
		orphans, left []string
		refused       string
	}{
		"the unreachable one":          {health: map[string]pmpb.ClusterHealth{"oaas-2": unreachable}, orphans: []string{"oaas-2"}, left: []string{"oaas-1", "oaas-3"}},
		"all that are lost":            {health: map[string]pmpb.ClusterHealth{"oaas-2": unreachable, "oaas-3": eligible}, orphans: []string{"oaas-2", "oaas-3"}, left: []string{"oaas-1"}},
		"one of two":                   {health: map[string]pmpb.ClusterHealth{"oaas-2": unreachable, "oaas-3": unreachable}, envs: []string{"oaas-3"}, orphans: []string{"oaas-3"}, left: []string{"oaas-1", "oaas-2"}},
		"named twice":                  {health: map[string]pmpb.ClusterHealth{"oaas-2": unreachable}, envs: []string{"oaas-2", "oaas-2"}, orphans: []string{"oaas-2"}, left: []string{"oaas-1", "oaas-3"}},
		"a suspect that is named":      {health: map[string]pmpb.ClusterHealth{"oaas-2": suspect}, envs: []string{"oaas-2"}, orphans: []string{"oaas-2"}, left: []string{"oaas-1", "oaas-3"}},
		"a suspect that is not":        {health: map[string]pmpb.ClusterHealth{"oaas-2": suspect}, refused: "None of the environments that have to confirm is unreachable (oaas-1, oaas-2, oaas-3)"},
		"none is lost":                 {refused: "None of the environments"},
		"a healthy one that is named":  {envs: []string{"oaas-1"}, refused: "oaas-1 is within reach"},
		"a degraded one that is named": {health: map[string]pmpb.ClusterHealth{"oaas-1": degraded}, envs: []string{"oaas-1"}, refused: "oaas-1 is within reach"},
		"a stranger":                   {health: map[string]pmpb.ClusterHealth{"oaas-2": unreachable}, envs: []string{"mars"}, refused: "mars has nothing to confirm; waiting are: oaas-1, oaas-2, oaas-3"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r, store := withCarts(t, fsm.FailoverFrom, tc.health)
			before := store.State().Snapshot().Index()
			out, _, err := r.ForceDelete(context.Background(), registry.RequestInfo{}, "shop.Cart", tc.envs)
			snap := store.State().Snapshot()
			if tc.refused != "" {
				if registry.CodeOf(err) != registry.FailedPrecondition || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("error %v, want %q", err, tc.refused)
				}
				if snap.Index() != before || snap.Deployment("shop.Cart") == nil {
					t.Error("what was refused had an effect")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.orphans, orphanedEnvs(out)); diff != "" {
				t.Errorf("orphans (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.left, out.Pending); diff != "" {
				t.Errorf("pending (-want +got):\n%s", diff)
			}
			if snap.Deployment("shop.Cart") != nil || len(snap.UnitsByDeployment("uid-1")) != len(tc.left) {
				t.Errorf("left are %v", snap.UnitsByDeployment("uid-1"))
			}
			for _, env := range tc.orphans {
				if s := snap.Cluster(env).GetStrays(); len(s) != 1 || !s[0].GetOrphaned() || s[0].GetUnitId() != registry.UnitID("uid-1", env, "Cart") {
					t.Errorf("%s remembers %v", env, s)
				}
			}
		})
	}
}

// Who did it, and what is left behind, is in the audit log and in the timeline.
func TestOrphanIsAudited(t *testing.T) {
	r, store := withCarts(t, fsm.FailoverFrom, map[string]pmpb.ClusterHealth{"oaas-2": unreachable})
	ri := registry.RequestInfo{RequestID: "req-7", Principal: "ann", Address: "10.0.0.9", Agent: "pmctl"}
	if _, _, err := r.ForceDelete(context.Background(), ri, "shop.Cart", nil); err != nil {
		t.Fatal(err)
	}
	snap := store.State().Snapshot()
	for e := range snap.Audit(0) {
		id := registry.UnitID("uid-1", "oaas-2", "Cart")
		n := e.GetNote()
		if n.GetAction() != "deletion.orphan" || n.GetObject() != "shop.Cart" || !strings.Contains(n.GetDetail(), id+" in oaas-2") || !n.GetOperator() ||
			e.GetPrincipal() != "ann" || e.GetRequestId() != "req-7" || n.GetAddress() != "10.0.0.9" {
			t.Errorf("audited %v", e)
		}
		break
	}
	if !slices.ContainsFunc(snap.Timeline("shop.Cart"), func(e *pmpb.TimelineEvent) bool {
		return e.GetType() == fsm.EventOrphaned && e.GetEnv() == "oaas-2"
	}) {
		t.Errorf("timeline %v", snap.Timeline("shop.Cart"))
	}
}

// A deletion that waits already is found by its uid, and by its key while nothing else has it.
func TestOrphanOfAWaitingDeletion(t *testing.T) {
	ctx := context.Background()
	r, store := withCarts(t, fsm.FailoverFrom, nil)
	if _, _, err := r.DeleteDeployment(ctx, registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	setHealth(t, r, "oaas-3", unreachable)
	out, _, err := r.ForceDelete(ctx, registry.RequestInfo{}, "shop.Cart", nil)
	if err != nil || out.UID != "uid-1" || !slices.Equal(orphanedEnvs(out), []string{"oaas-3"}) {
		t.Fatalf("%v, %v", out, err)
	}
	setHealth(t, r, "oaas-3", healthy)
	again := deployCart(t, r)
	setHealth(t, r, "oaas-1", unreachable)
	out, _, err = r.Orphan(ctx, registry.RequestInfo{}, "uid-1", nil)
	if err != nil || !slices.Equal(orphanedEnvs(out), []string{"oaas-1"}) || !slices.Equal(out.Pending, []string{"oaas-2"}) {
		t.Fatalf("%v, %v", out, err)
	}
	snap := store.State().Snapshot()
	if dep := snap.Deployment("shop.Cart"); dep == nil || dep.UID != again || len(snap.UnitsByDeployment(again)) != 3 {
		t.Error("the new deployment of the key was touched")
	}
	if _, _, err := r.Orphan(ctx, registry.RequestInfo{}, again, nil); registry.CodeOf(err) != registry.NotFound {
		t.Errorf("what is wanted was given up: %v", err)
	}
	if _, _, err := r.ForceDelete(ctx, registry.RequestInfo{}, "none", nil); registry.CodeOf(err) != registry.NotFound {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestForceDeleteNeedsItsLevel(t *testing.T) {
	r, store := withCarts(t, fsm.FailoverFrom-1, map[string]pmpb.ClusterHealth{"oaas-2": unreachable})
	_, _, err := r.ForceDelete(context.Background(), registry.RequestInfo{}, "shop.Cart", nil)
	if registry.CodeOf(err) != registry.FailedPrecondition || !strings.Contains(err.Error(), "feature level 7") {
		t.Errorf("error %v", err)
	}
	if store.State().Snapshot().Deployment("shop.Cart") == nil {
		t.Error("it was deleted all the same")
	}
}

// A request whose first step took effect and whose answer was lost does not delete what has
// the key since.
func TestForceDeleteAgainAfterALostAnswer(t *testing.T) {
	ctx := context.Background()
	r, store := withCarts(t, fsm.FailoverFrom, map[string]pmpb.ClusterHealth{"oaas-2": unreachable})
	ri := registry.RequestInfo{Idempotency: &registry.Idempotency{Key: "once", RequestHash: []byte("h"), Reply: func(any) (int, []byte) { return 200, []byte("{}") }}}
	store.BeforeApply = func(cmd *pmpb.Command) error {
		if cmd.GetOrphanUnits() != nil {
			return raftstore.ErrOutcomeUnknown
		}
		return nil
	}
	if _, _, err := r.ForceDelete(ctx, ri, "shop.Cart", nil); registry.CodeOf(err) != registry.OutcomeUnknown {
		t.Fatalf("error %v", err)
	}
	store.BeforeApply = nil
	setHealth(t, r, "oaas-2", healthy)
	again := deployCart(t, r)
	setHealth(t, r, "oaas-2", unreachable)
	out, _, err := r.ForceDelete(ctx, ri, "shop.Cart", nil)
	if err != nil || out.UID != "uid-1" {
		t.Fatalf("%v, %v", out, err)
	}
	if dep := store.State().Snapshot().Deployment("shop.Cart"); dep == nil || dep.UID != again {
		t.Error("the new deployment of the key was deleted")
	}
	var replayed *registry.Replayed
	if _, _, err := r.ForceDelete(ctx, ri, "shop.Cart", nil); !errors.As(err, &replayed) {
		t.Errorf("a third time: %v", err)
	}
}
