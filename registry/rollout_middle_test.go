package registry_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

// Another change in the middle supersedes the rollout: it is tried out where that one was,
// and the way back is to what all environments had.
func TestUpdateInTheMiddle(t *testing.T) {
	s := started(t, strings.Replace(careful, `"canary":1,`, "", 1))
	s.advance()
	s.running("e1")
	s.later(time.Minute)
	s.advance()
	s.want("2 2 1")
	s.deploy("3", careful)
	s.want("2 2 1")
	if row := s.row(); row.GetRevision() != 3 || row.GetStable() != 1 || row.GetEnvs()[0].GetEnv() != "e1" {
		t.Errorf("rollout is %v", row)
	}
	s.running("e2")
	s.advance()
	s.want("3 2 1")
	s.refuses("e1")
	s.advance()
	s.phase(rollingBack)
	s.want("1 2 1")
	s.running("e1")
	s.advance()
	s.want("1 1 1")
	s.running("e2")
	s.advance()
	s.phase(rolledBack)
	if len(s.fences["e3"]) != 1 {
		t.Errorf("e3 was never changed and has had the fences %v", s.fences["e3"])
	}
}

// What went wrong is posted again as it was before: it is a change like any other.
func TestOldContentPostedInTheMiddle(t *testing.T) {
	s := started(t, strings.Replace(careful, "rollback", "keep", 1))
	s.advance()
	s.refuses("e1")
	s.advance()
	s.phase(failed)
	s.deploy("1", careful)
	s.phase(progressing)
	s.advance()
	s.want("1 1 1")
	s.running("e1")
	s.later(time.Minute)
	s.advance()
	s.phase(complete)
	if len(s.fences["e2"])+len(s.fences["e3"]) != 2 {
		t.Errorf("what was never changed has had the fences %v", s.fences)
	}
}

func TestDeleteInTheMiddle(t *testing.T) {
	s := started(t, careful)
	s.advance()
	if _, _, err := s.DeleteDeployment(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.AdvanceRollout(context.Background(), s.term, "shop.Cart", time.Time{}); err != nil || got.Stepped {
		t.Errorf("a step of what is gone: %+v, %v", got, err)
	}
	if s.row() != nil || len(s.snap().Revisions("shop.Cart")) != 0 {
		t.Errorf("left: %v", s.row())
	}
	s.deploy("7", careful)
	if rev := s.dep().RevisionNumber(); rev != 1 || s.row() != nil {
		t.Errorf("the new one has revision %d and rollout %v", rev, s.row())
	}
}

// Environments come and go during a rollout: what comes is given what is known to work, the
// rollout goes on, and canaries that go are replaced.
func TestEnvironmentsChangeInTheMiddle(t *testing.T) {
	s := started(t, careful)
	s.health("e4", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.advance()
	s.want("2 1 1")
	s.deploy("2", careful, "e2", "e3", "e4") // without the canary
	s.envs = []string{"e2", "e3", "e4"}
	s.want("1 1 1")
	if s.dep().RevisionNumber() != 2 {
		t.Fatalf("revision is %d", s.dep().RevisionNumber())
	}
	s.phase(progressing)
	s.running("e2", "e3", "e4")
	s.advance()
	s.want("2 1 1")
	s.running("e2")
	s.later(time.Minute)
	s.advance()
	s.want("2 2 1")
	s.running("e3")
	s.later(time.Minute)
	s.advance()
	s.running("e4")
	s.later(time.Minute)
	s.advance()
	s.phase(complete)
	s.want("2 2 2")
}

// How much there is of it is no other release and goes everywhere at once, in a rollout too.
func TestScaleInTheMiddle(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.running("e1")
	doc := s.cartOf("2", careful)
	five := uint32(5)
	doc.Functions[0].ProvisionConfig.MinScale = &five
	if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, doc); err != nil {
		t.Fatal(err)
	}
	s.note()
	s.want("2 1 1")
	for _, env := range s.envs {
		unit, err := fsm.Desired(s.unit(env))
		if err != nil || unit.GetFunctions()[0].GetProvisionConfig().GetMinScale() != 5 {
			t.Errorf("%s has %v, %v", env, unit.GetFunctions(), err)
		}
	}
	if s.dep().RevisionNumber() != 2 {
		t.Errorf("revision is %d", s.dep().RevisionNumber())
	}
	s.running(s.envs...)
	s.later(time.Minute)
	s.advance()
	s.want("2 2 1")
	s.rollback(0)
	s.advance()
	s.running(s.envs...)
	s.advance()
	s.running(s.envs...)
	s.advance()
	s.phase(rolledBack)
	s.want("1 1 1")
	if got := *s.dep().Doc.Functions[0].ProvisionConfig.MinScale; got != 5 {
		t.Errorf("min_scale is %d: a rollback is about the release", got)
	}
}

// To plan anew during a rollout changes nothing when there is nothing to plan, and takes
// nothing from the package that the rollout does not have.
func TestReplanInTheMiddle(t *testing.T) {
	ctx := context.Background()
	s := started(t, careful)
	s.advance()
	s.pkg(strings.Replace(shop, `{"name":"plus","function_key":"Cart.add","access_modifier":"PUBLIC"},`, "", 1))
	before := s.snap().Index()
	out, _, err := s.Replan(ctx, registry.RequestInfo{}, "shop.Cart", false)
	if err != nil || out.Change != registry.ChangeNone {
		t.Fatalf("%+v, %v", out, err)
	}
	if after := s.snap().Index(); after != before {
		t.Errorf("it has taken %d commands", after-before)
	}
	// Afterwards what has changed in the package is a change like any other.
	for range 4 {
		s.running(s.envs...)
		s.later(time.Minute)
		s.advance()
	}
	s.phase(complete)
	out, _, err = s.Replan(ctx, registry.RequestInfo{}, "shop.Cart", false)
	if err != nil || out.Change != registry.ChangeUpdate {
		t.Fatalf("%+v, %v", out, err)
	}
	s.phase(progressing)
	if s.row().GetRevision() != 3 {
		t.Errorf("rollout is %v", s.row())
	}
}

// Whatever is the matter with a cluster, it counts as unavailable, and no wave begins there.
func TestUnwellClusters(t *testing.T) {
	for _, health := range []pmpb.ClusterHealth{
		pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT,
		pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE,
	} {
		t.Run(health.String(), func(t *testing.T) {
			s := newSite(t, "e1", "e2", "e3")
			s.level(fsm.Level)
			s.deploy("1", careful)
			s.running(s.envs...)
			s.health("e1", health)
			s.later(time.Hour)
			s.deploy("2", careful)
			s.advance()
			s.want("1 1 1") // e1 is the one that may be unavailable
			s.health("e1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
			s.advance()
			s.want("1 2 1") // and its turn comes last
		})
	}
}

// A cluster that cannot be reached counts as unavailable; its turn comes last.
func TestUnreachableClusters(t *testing.T) {
	s := newSite(t, "e1", "e2", "e3")
	strategy := strings.Replace(careful, `"max_unavailable":1`, `"max_unavailable":2`, 1)
	s.deploy("1", strategy)
	s.running(s.envs...)
	s.health("e1", pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE)
	s.later(time.Hour)
	s.deploy("2", strategy)
	s.advance()
	s.want("1 2 1")
	s.running("e2")
	s.later(30 * time.Second)
	s.advance()
	s.want("2 2 2") // e3 is the second one that is unavailable then, and with e1 nothing can be lost
	s.running("e3")
	s.later(time.Minute)
	s.advance()
	s.phase(progressing)
	if got := s.RolloutStatusOf(s.snap(), s.dep()); got.Message != "waiting for e1 (the cluster's health is not known)" && !strings.Contains(got.Message, "waiting for e1") {
		t.Errorf("it says %q", got.Message)
	}
	s.health("e1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.running("e1")
	s.later(time.Minute)
	s.health("e3", pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED)
	s.advance()
	s.phase(progressing)
	s.health("e3", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.advance()
	s.phase(progressing) // it has to be well for as long again
	s.later(30 * time.Second)
	s.advance()
	s.phase(complete)
}

// The rest is always enough for the deployment to be available.
func TestRolloutLeavesAQuorum(t *testing.T) {
	s := newSite(t, "e1", "e2", "e3", "e4", "e5")
	all := `{"canary":"20%","max_unavailable":"100%","min_healthy_time":"0s"}`
	s.deploy("1", all)
	s.running(s.envs...)
	s.deploy("2", all)
	if got := s.row().GetMaxUnavailable(); got != 4 {
		t.Errorf("%d of 5 may be unavailable where one is enough", got)
	}
	doc := s.cartOf("3", all)
	raft := "raft"
	doc.ODGM = &model.ODGMDataSpec{ShardType: &raft}
	if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, doc); err != nil {
		t.Fatal(err)
	}
	if got := s.row(); got.GetMaxUnavailable() != 2 || got.GetCanary() != 1 {
		t.Errorf("%d of 5 may be unavailable where three are needed, %d canaries", got.GetMaxUnavailable(), got.GetCanary())
	}
}

func TestRolloutRefusals(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, "e1", "e2")
	two := strings.Replace(shop, `"classes":[`, `"classes":[{"key":"Other","function_bindings":[{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC"}]},`, 1)
	s.pkg(two)
	s.deploy("1", careful)
	doc := s.cartOf("1", careful)
	doc.ClassKey = "Other"
	for name, check := range map[string]func() error{
		"post": func() error { _, _, err := s.Deploy(ctx, registry.RequestInfo{}, doc); return err },
		"dry run": func() error {
			_, err := s.Preview(s.snap(), doc, registry.Precondition{})
			return err
		},
	} {
		if err := check(); registry.CodeOf(err) != registry.FailedPrecondition || !strings.Contains(err.Error(), "another class") {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := newSite(t, "e1")
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	old.store = store
	if old.Registry, err = registry.New(registry.Options{Store: store, NewUID: func() string { return "u" }}); err != nil {
		t.Fatal(err)
	}
	old.health("e1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	old.pkg(shop)
	if _, _, err := old.Deploy(ctx, registry.RequestInfo{}, old.cartOf("1", careful)); registry.CodeOf(err) != registry.FailedPrecondition || !strings.Contains(err.Error(), "feature level 6") {
		t.Errorf("a strategy at the first level: %v", err)
	}
	old.deploy("1", "")
	old.deploy("2", "")
	if _, _, err := old.Rollback(ctx, registry.RequestInfo{}, "shop.Cart", 1); registry.CodeOf(err) != registry.FailedPrecondition {
		t.Errorf("a rollback at the first level: %v", err)
	}
}

// What is only wished for one environment is tried out there.
func TestChangeOfOneEnvironment(t *testing.T) {
	s := newSite(t, "e1", "e2", "e3")
	s.deploy("1", careful)
	s.running(s.envs...)
	doc := s.cartOf("1", careful)
	doc.EnvTemplates = map[string]string{"e3": "dev"}
	if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, doc); err != nil {
		t.Fatal(err)
	}
	s.note()
	s.advance()
	for env, want := range map[string]int{"e1": 1, "e2": 1, "e3": 2} {
		if len(s.fences[env]) != want {
			t.Errorf("%s has had the fences %v", env, s.fences[env])
		}
	}
	s.running("e3")
	s.later(time.Minute)
	s.advance()
	s.phase(complete)
}
