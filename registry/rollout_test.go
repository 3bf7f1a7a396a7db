package registry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

// site is a control plane whose clock and clusters a test moves by hand.
type site struct {
	t     *testing.T
	store *registrytest.Store
	*registry.Registry
	now  time.Time
	term uint64
	envs []string
	// fences are those that each environment's unit has had, without repetition.
	fences map[string][]uint64
}

func newSite(t *testing.T, envs ...string) *site {
	t.Helper()
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, store: store, now: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), term: 1, envs: envs, fences: map[string][]uint64{}}
	store.Now = func() time.Time { return s.now }
	n := 0
	s.Registry, err = registry.New(registry.Options{
		Store: store, NewUID: func() string { n++; return fmt.Sprintf("uid-%d", n) }, Now: func() time.Time { return s.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range envs {
		s.health(env, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	}
	s.level(fsm.RolloutFrom)
	s.pkg(shop)
	return s
}

func (s *site) level(level uint32) {
	s.t.Helper()
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}}}
	if _, err := s.store.Apply(context.Background(), raise); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) pkg(doc string) {
	s.t.Helper()
	pkg := decodePackage(s.t, doc)
	if s.snap().Package(pkg.Name) == nil {
		if _, _, err := s.CreatePackage(context.Background(), registry.RequestInfo{}, pkg); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	if _, _, err := s.UpdatePackage(context.Background(), registry.RequestInfo{}, pkg); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) health(env string, health pmpb.ClusterHealth) {
	s.t.Helper()
	err := s.PutCluster(context.Background(), 0, env, func(row *pmpb.Cluster) error {
		row.Address, row.Source = env+":8088", pmpb.ClusterSource_CLUSTER_SOURCE_GOSSIP
		row.Health, row.HealthSince = health, timestamppb.New(s.now)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) snap() *fsm.Snapshot { return s.store.State().Snapshot() }

func (s *site) row() *pmpb.Rollout { return s.snap().Rollout("shop.Cart") }

func (s *site) dep() *fsm.Deployment { return s.snap().Deployment("shop.Cart") }

// cartOf is the deployment with an image and a strategy, in all environments unless told.
func (s *site) cartOf(image, strategy string, envs ...string) *model.OClassDeployment {
	s.t.Helper()
	if len(envs) == 0 {
		envs = s.envs
	}
	if strategy != "" {
		strategy = `"rollout":` + strategy + ","
	}
	return decodeDeployment(s.t, fmt.Sprintf(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["%s"],%s
		"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"%s","min_scale":2},"config":{"SECRET":"%s"}}]}`,
		strings.Join(envs, `","`), strategy, image, image))
}

func (s *site) deploy(image, strategy string, envs ...string) {
	s.t.Helper()
	ri := registry.RequestInfo{RequestID: "r", Principal: "ann", Agent: "test"}
	if _, _, err := s.Deploy(context.Background(), ri, s.cartOf(image, strategy, envs...)); err != nil {
		s.t.Fatal(err)
	}
	s.note()
}

func (s *site) unit(env string) *pmpb.Unit {
	s.t.Helper()
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		if u.GetEnv() == env && !u.GetTombstone() {
			return u
		}
	}
	return nil
}

// image is what an environment is to run.
func (s *site) image(env string) string {
	s.t.Helper()
	unit, err := fsm.Desired(s.unit(env))
	if err != nil {
		s.t.Fatal(err)
	}
	return unit.GetFunctions()[0].GetProvisionConfig().GetContainerImage()
}

// images are what the environments are to run, in short.
func (s *site) images() string {
	var out []string
	for _, env := range s.envs {
		out = append(out, s.image(env))
	}
	return strings.Join(out, " ")
}

// note keeps up the fences.
func (s *site) note() {
	for _, u := range s.snap().Units() {
		have := s.fences[u.GetEnv()]
		if len(have) == 0 || have[len(have)-1] != u.GetFence() {
			s.fences[u.GetEnv()] = append(have, u.GetFence())
		}
	}
}

// says lets the cluster of an environment acknowledge its unit and report its condition.
func (s *site) says(condition oaaspb.DeploymentCondition, envs ...string) {
	s.t.Helper()
	for _, env := range envs {
		u := s.unit(env)
		ack := &pmpb.UnitUpdate{Id: u.GetId(), Epoch: u.GetEpoch(), Fence: u.GetFence(), Update: &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{ContentHash: u.GetContentHash()}}}
		runs := &pmpb.UnitUpdate{Id: u.GetId(), Epoch: u.GetEpoch(), Fence: u.GetFence(), Update: &pmpb.UnitUpdate_Runtime{Runtime: &oaaspb.ClassRuntimeSummary{
			Id: u.GetId(), DeploymentUnitId: u.GetId(), Status: &oaaspb.ClassRuntimeStatus{Condition: condition},
			Delivery: &oaaspb.Delivery{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash()},
		}}}
		if err := s.UpdateUnits(context.Background(), 0, []*pmpb.UnitUpdate{ack, runs}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) running(envs ...string) {
	s.t.Helper()
	s.says(oaaspb.DeploymentCondition_RUNNING, envs...)
}

func (s *site) refuses(env string) {
	s.t.Helper()
	u := s.unit(env)
	up := &pmpb.UnitUpdate{Id: u.GetId(), Epoch: u.GetEpoch(), Fence: u.GetFence(), Update: &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{
		Code: "REFUSED", Message: "no such template", Permanent: true, Since: timestamppb.New(s.now),
	}}}
	if err := s.UpdateUnits(context.Background(), 0, []*pmpb.UnitUpdate{up}); err != nil {
		s.t.Fatal(err)
	}
}

// advance lets whoever leads take all steps that can be taken now, and gives when it wants
// to be asked again.
func (s *site) advance() time.Time {
	s.t.Helper()
	for range 100 {
		got, err := s.AdvanceRollout(context.Background(), s.term, "shop.Cart", time.Time{})
		if err != nil {
			s.t.Fatal(err)
		}
		s.note()
		if !got.Stepped {
			return got.Next
		}
	}
	s.t.Fatal("a rollout takes steps for ever")
	return time.Time{}
}

func (s *site) later(d time.Duration) { s.now = s.now.Add(d) }

func (s *site) phase(want pmpb.RolloutPhase) {
	s.t.Helper()
	if got := s.row(); got.GetPhase() != want {
		s.t.Fatalf("phase is %s, want %s: %s", registry.PhaseName(got.GetPhase()), registry.PhaseName(want), got.GetMessage())
	}
}

func (s *site) want(images string) {
	s.t.Helper()
	if got := s.images(); got != images {
		s.t.Fatalf("the environments are to run %q, want %q; %v", got, images, s.row())
	}
}

const (
	progressing = pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING
	paused      = pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED
	rollingBack = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK
	complete    = pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE
	failed      = pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED
	rolledBack  = pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK
)

const careful = `{"canary":1,"max_unavailable":1,"min_healthy_time":"30s","progress_deadline":"10m","on_failure":"rollback"}`

// started is a deployment that runs image 1 in three environments and is to run image 2.
func started(t *testing.T, strategy string) *site {
	t.Helper()
	s := newSite(t, "e1", "e2", "e3")
	s.deploy("1", strategy)
	s.running("e1", "e2", "e3")
	if s.row() != nil {
		t.Fatalf("a new deployment has a rollout: %v", s.row())
	}
	s.later(time.Hour)
	s.deploy("2", strategy)
	return s
}

func TestRolloutGoesInWaves(t *testing.T) {
	s := started(t, careful)
	s.want("1 1 1")
	s.phase(progressing)
	if next := s.advance(); !next.Equal(s.now.Add(10 * time.Minute)) {
		t.Errorf("asked again at %s", next)
	}
	s.want("2 1 1")
	s.advance()
	s.want("2 1 1")
	s.running("e1")
	if next := s.advance(); !next.Equal(s.now.Add(30 * time.Second)) {
		t.Errorf("asked again at %s", next)
	}
	s.later(29 * time.Second)
	s.advance()
	s.want("2 1 1")
	s.later(time.Second)
	s.advance()
	s.want("2 2 1")
	s.running("e2")
	s.later(30 * time.Second)
	s.advance()
	s.want("2 2 2")
	s.running("e3")
	s.advance()
	s.phase(progressing)
	s.later(30 * time.Second)
	s.advance()
	s.phase(complete)
	for _, env := range s.envs {
		if len(s.fences[env]) != 2 {
			t.Errorf("%s has had the fences %v, want two", env, s.fences[env])
		}
	}
	if rev := s.dep().Revision; rev.GetNumber() != 2 || rev.GetPrincipal() != "ann" || rev.GetAgent() != "test" ||
		rev.GetSummary() != "functions.Cart.add.config.SECRET changed; functions.Cart.add.provision_config.container_image: 1 → 2" {
		t.Errorf("revision is %v", rev)
	}
	// Whoever asks again changes nothing.
	before := s.snap().Index()
	s.advance()
	if after := s.snap().Index(); after != before {
		t.Errorf("a rollout that is complete has taken %d more commands", after-before)
	}
}

// A change of leader at any step changes nothing, and a deposed leader can do nothing.
func TestRolloutWithAnotherLeaderAtEachStep(t *testing.T) {
	s := started(t, careful)
	for range 40 {
		old := s.term
		s.term = s.store.NextTerm()
		if got, err := s.AdvanceRollout(context.Background(), old, "shop.Cart", time.Time{}); err == nil && got.Stepped {
			t.Fatal("a deposed leader has taken a step")
		}
		if _, err := s.AdvanceRollout(context.Background(), s.term, "shop.Cart", time.Time{}); err != nil {
			t.Fatal(err)
		}
		s.note()
		for _, env := range s.envs {
			if !fsm.Acknowledged(s.unit(env)) {
				s.running(env)
			}
		}
		s.later(10 * time.Second)
	}
	s.phase(complete)
	s.want("2 2 2")
	for _, env := range s.envs {
		if len(s.fences[env]) != 2 {
			t.Errorf("%s has had the fences %v, want two", env, s.fences[env])
		}
	}
}

func TestCanaryThatFailsIsRolledBack(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.says(oaaspb.DeploymentCondition_DOWN, "e1")
	s.later(10*time.Minute - time.Second)
	s.advance()
	s.phase(progressing)
	s.want("2 1 1")
	s.later(time.Second)
	// A leader that is new has patience.
	patience := s.now.Add(15 * time.Second)
	if got, err := s.AdvanceRollout(context.Background(), s.term, "shop.Cart", patience); err != nil || got.Stepped || !got.Next.Equal(patience) {
		t.Fatalf("a new leader gives %+v, %v", got, err)
	}
	s.advance()
	s.phase(rollingBack)
	s.want("1 1 1")
	if row := s.row(); row.GetReason() != "ProgressDeadlineExceeded" || !strings.Contains(row.GetMessage(), "e1 (Degraded)") {
		t.Errorf("rollout is %v", row)
	}
	s.running("e1")
	s.advance()
	s.phase(rolledBack)
	for _, env := range []string{"e2", "e3"} {
		if len(s.fences[env]) != 1 {
			t.Errorf("%s was never changed and has had the fences %v", env, s.fences[env])
		}
	}
	rev := s.dep().Revision
	if rev.GetNumber() != 3 || rev.GetRollbackOf() != 1 || rev.GetSummary() != "back to revision 1 (ProgressDeadlineExceeded)" {
		t.Errorf("revision is %v", rev)
	}
	if got := *s.dep().Doc.Functions[0].ProvisionConfig.ContainerImage; got != "1" {
		t.Errorf("the deployment has image %s", got)
	}
	var past []string
	for _, p := range s.snap().Revisions("shop.Cart") {
		past = append(past, fmt.Sprintf("%d %s", p.GetNote().GetNumber(), p.GetOutcome()))
	}
	if want := []string{"2 failed", "1 "}; !slices.Equal(past, want) {
		t.Errorf("past revisions are %q, want %q", past, want)
	}
}

func TestCanaryThatFailsIsKept(t *testing.T) {
	s := started(t, strings.Replace(careful, "rollback", "keep", 1))
	s.advance()
	s.refuses("e1")
	s.advance()
	s.phase(failed)
	s.want("2 1 1")
	if row := s.row(); row.GetReason() != "Refused" || !strings.Contains(row.GetMessage(), "no such template") {
		t.Errorf("rollout is %v", row)
	}
	s.later(24 * time.Hour)
	s.advance()
	s.want("2 1 1")

	// It is tried once more, and the old refusal does not count.
	s.resume()
	s.advance()
	s.phase(progressing)
	s.running("e1")
	s.later(time.Minute)
	s.advance()
	s.want("2 2 1")
}

func (s *site) resume() {
	s.t.Helper()
	if _, _, err := s.ResumeRollout(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		s.t.Fatal(err)
	}
}

// A canary that can be called because what it ran before is still there is no good canary.
func TestCanaryThatIsServedByWhatWasThereBefore(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.running("e1")
	u := s.unit("e1")
	message := "Available, but degraded (ImagePull): no such image"
	up := &pmpb.UnitUpdate{Id: u.GetId(), Epoch: u.GetEpoch(), Fence: u.GetFence(), Update: &pmpb.UnitUpdate_Runtime{Runtime: &oaaspb.ClassRuntimeSummary{
		Id: u.GetId(), DeploymentUnitId: u.GetId(), Delivery: u.GetRuntime().GetDelivery(),
		Status:     &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition_RUNNING, Message: &message},
		Conditions: []*oaaspb.RuntimeCondition{{Type: "Available", Status: "True"}, {Type: "Ready", Status: "False"}},
	}}}
	if err := s.UpdateUnits(context.Background(), 0, []*pmpb.UnitUpdate{up}); err != nil {
		t.Fatal(err)
	}
	s.later(5 * time.Minute)
	s.advance()
	s.want("2 1 1")
	if got := s.RolloutStatusOf(s.snap(), s.dep()).Message; got != "waiting for e1 (Available, but degraded (ImagePull): no such image)" {
		t.Errorf("it says %q", got)
	}
	s.later(5 * time.Minute)
	s.advance()
	s.phase(rollingBack)
}

func TestPauseAndResume(t *testing.T) {
	ctx := context.Background()
	s := started(t, careful)
	s.advance()
	s.later(9 * time.Minute)
	pause := func() {
		t.Helper()
		if _, _, err := s.PauseRollout(ctx, registry.RequestInfo{}, "shop.Cart"); err != nil {
			t.Fatal(err)
		}
	}
	pause()
	before := s.snap().Index()
	pause() // once is enough
	s.later(24 * time.Hour)
	s.advance()
	s.phase(paused)
	if after := s.snap().Index(); after != before {
		t.Errorf("a rollout that is paused has taken %d commands", after-before)
	}
	s.resume()
	s.phase(progressing)
	s.later(time.Minute - time.Second) // a minute was left
	s.advance()
	s.phase(progressing)
	s.later(time.Second)
	s.advance()
	s.phase(rollingBack)
	if _, _, err := s.PauseRollout(ctx, registry.RequestInfo{}, "shop.Cart"); registry.CodeOf(err) != registry.FailedPrecondition {
		t.Errorf("the way back was paused: %v", err)
	}
	if _, _, err := s.AbortRollout(ctx, registry.RequestInfo{}, "shop.Cart"); registry.CodeOf(err) != registry.FailedPrecondition {
		t.Errorf("the way back was aborted: %v", err)
	}
}

func TestAbort(t *testing.T) {
	for strategy, want := range map[string]struct {
		phase  pmpb.RolloutPhase
		images string
	}{
		careful: {rolledBack, "1 1 1"},
		strings.Replace(careful, "rollback", "keep", 1): {failed, "2 1 1"},
	} {
		s := started(t, strategy)
		s.advance()
		s.running("e1")
		if _, _, err := s.AbortRollout(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
			t.Fatal(err)
		}
		s.advance()
		s.want(want.images)
		s.running("e1")
		s.advance()
		s.phase(want.phase)
		if got := s.row().GetReason(); got != "Aborted" {
			t.Errorf("reason is %q", got)
		}
	}
}

func (s *site) rollback(revision uint64) {
	s.t.Helper()
	if _, _, err := s.Rollback(context.Background(), registry.RequestInfo{}, "shop.Cart", revision); err != nil {
		s.t.Fatal(err)
	}
	s.note()
}

// A rollout that is undone in the middle goes back to where it came from.
func TestUndoInTheMiddle(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.running("e1")
	s.later(time.Minute)
	s.advance()
	s.want("2 2 1")
	s.rollback(0)
	s.advance()
	s.want("2 1 1") // e2 is not available, so it goes at once; e1 has to wait for it
	s.running("e2")
	s.advance()
	s.want("1 1 1")
	s.running("e1")
	s.advance()
	s.phase(rolledBack)
	if len(s.fences["e3"]) != 1 {
		t.Errorf("e3 was never changed and has had the fences %v", s.fences["e3"])
	}
}

// A revision that is kept can be gone back to, in waves as any other change.
func TestRollbackToAKeptRevision(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, "e1", "e2", "e3")
	quick := `{"min_healthy_time":"0s","max_unavailable":3}`
	settle := func() {
		t.Helper()
		for range 20 {
			s.advance()
			s.running(s.envs...)
		}
		s.advance()
	}
	for i := range 4 {
		s.deploy(fmt.Sprint(i+1), quick)
		s.running(s.envs...)
		settle()
	}
	s.want("4 4 4")
	s.rollback(2)
	s.phase(progressing)
	settle()
	s.phase(complete)
	s.want("2 2 2")
	if rev := s.dep().Revision; rev.GetNumber() != 5 || rev.GetRollbackOf() != 2 {
		t.Errorf("revision is %v", rev)
	}
	s.rollback(0) // the last before this one
	settle()
	s.want("4 4 4")
	for revision, want := range map[uint64]registry.Code{6: registry.FailedPrecondition, 4: registry.FailedPrecondition, 77: registry.NotFound} {
		if _, _, err := s.Rollback(ctx, registry.RequestInfo{}, "shop.Cart", revision); registry.CodeOf(err) != want {
			t.Errorf("rollback to %d gives %v, want %s", revision, err, want)
		}
	}
	if _, _, err := s.Rollback(ctx, registry.RequestInfo{}, "none", 1); registry.CodeOf(err) != registry.NotFound {
		t.Errorf("rollback of none gives %v", err)
	}
}

// Without a strategy everything is as it was: all at once. There are revisions all the same.
func TestWithoutAStrategy(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, "e1", "e2", "e3")
	s.deploy("1", "")
	s.deploy("2", "")
	s.want("2 2 2")
	if s.row() != nil || s.dep().RevisionNumber() != 2 {
		t.Fatalf("rollout %v, revision %d", s.row(), s.dep().RevisionNumber())
	}
	s.deploy("2", "", "e1", "e2") // somewhere else is no other revision
	if s.dep().RevisionNumber() != 2 {
		t.Errorf("revision is %d", s.dep().RevisionNumber())
	}
	s.deploy("2", "")
	s.rollback(1)
	s.want("1 1 1")
	if s.row() != nil || s.dep().RevisionNumber() != 3 {
		t.Errorf("rollout %v, revision %d", s.row(), s.dep().RevisionNumber())
	}
	if _, _, err := s.PauseRollout(ctx, registry.RequestInfo{}, "shop.Cart"); registry.CodeOf(err) != registry.FailedPrecondition {
		t.Errorf("paused without a rollout: %v", err)
	}
	if _, _, err := s.PauseRollout(ctx, registry.RequestInfo{}, "none"); registry.CodeOf(err) != registry.NotFound {
		t.Errorf("paused without a deployment: %v", err)
	}
}

// Taking the strategy away in the middle ends the rollout: all at once from then on.
func TestStrategyThatIsTakenAway(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.deploy("2", "")
	s.want("2 2 2")
	if s.row() != nil {
		t.Errorf("rollout %v", s.row())
	}
	if len(s.fences["e1"]) != 2 {
		t.Errorf("e1 had it already and has had the fences %v", s.fences["e1"])
	}
}
