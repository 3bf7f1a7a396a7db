package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// obliging makes a manager run what it is sent at once.
func (m *manager) obliging() {
	m.set(func() {
		m.answer = func(_ context.Context, resp *oaaspb.DeployResponse) {
			m.report(resp.GetDeploymentId(), oaaspb.DeploymentCondition_RUNNING)
		}
	})
}

// waves is a world of clusters in which a deployment runs, and the rest of what tests of
// rollouts need.
type waves struct {
	*world
	managers []*manager
	envs     []string
	metrics  *prometheus.Registry
	// stopOf stops the manager of an environment.
	stopOf map[string]func()
}

const patient = `{"canary":1,"min_healthy_time":"0s","progress_deadline":"1h","on_failure":"rollback"}`

func newWaves(t *testing.T, clusters int, edit ...func(*dispatch.Options)) *waves {
	t.Helper()
	w := &waves{metrics: prometheus.NewRegistry(), stopOf: map[string]func(){}}
	w.world = newWorld(t, append([]func(*dispatch.Options){func(o *dispatch.Options) {
		o.Metrics, o.RolloutPatience, o.RetryRefused = w.metrics, time.Millisecond, 20*time.Millisecond
	}}, edit...)...)
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.RolloutFrom}}}
	if _, err := w.store.Apply(context.Background(), raise); err != nil {
		t.Fatal(err)
	}
	var found []discovery.Candidate
	for i := range clusters {
		m := newManager(fmt.Sprintf("oaas-%d", i+1))
		m.obliging()
		addr, stop := m.serve(t, "127.0.0.1:0", false)
		w.stopOf[m.name] = stop
		found = append(found, gossiped(m.name, addr))
		w.managers, w.envs = append(w.managers, m), append(w.envs, m.name)
	}
	w.found.set(found...)
	w.awaitHealthy(w.envs...)
	return w
}

func (w *waves) roll(image, strategy string) {
	w.t.Helper()
	dep, err := model.DecodeDeployment([]byte(fmt.Sprintf(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["%s"],"rollout":%s,
		"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"%s"}}]}`, strings.Join(w.envs, `","`), strategy, image)))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, _, err := w.registry.Deploy(context.Background(), registry.RequestInfo{}, dep); err != nil {
		w.t.Fatal(err)
	}
}

func (w *waves) awaitPhase(want pmpb.RolloutPhase) {
	w.t.Helper()
	w.await("the rollout is "+registry.PhaseName(want), func(s *fsm.Snapshot) bool { return s.Rollout("shop.Cart").GetPhase() == want })
}

func (w *waves) awaitAvailable() {
	w.t.Helper()
	w.await("available everywhere", func(s *fsm.Snapshot) bool {
		return s.Deployment("shop.Cart") != nil && fsm.DeploymentCondition(s.UnitsByDeployment(s.Deployment("shop.Cart").UID)) == model.ConditionRunning
	})
}

// metric gives the value of a counter or gauge with a label, or the count of a histogram.
func (w *waves) metric(name, label string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

// deploysOf are the deploys that each manager was sent.
func (w *waves) deploysOf() string {
	var out []string
	for _, m := range w.managers {
		n, _ := m.counts()
		out = append(out, fmt.Sprint(n))
	}
	return strings.Join(out, " ")
}

func TestRolloutReachesEveryCluster(t *testing.T) {
	w := newWaves(t, 3)
	w.roll("cart:1", patient)
	w.awaitAvailable()
	w.roll("cart:2", patient)
	w.awaitPhase(pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE)
	if got := w.deploysOf(); got != "2 2 2" {
		t.Errorf("the managers were sent %s deploys", got)
	}
	waitFor(t, "the metrics tell", func() bool {
		return w.metric("oaas_pm_rollouts", "Complete") == 1 && w.metric("oaas_pm_rollout_turns_total", "Complete") == 1 &&
			w.metric("oaas_pm_rollout_wave_duration_seconds", "") == 3
	})
}

// A canary that refuses is taken back; no other cluster hears of it.
func TestRolloutIsTakenBack(t *testing.T) {
	w := newWaves(t, 3)
	w.roll("cart:1", patient)
	w.awaitAvailable()
	canary := w.managers[0]
	canary.set(func() { canary.fail = status.Error(codes.InvalidArgument, "no such template") })
	w.roll("cart:2", patient)
	w.await("it is taken back", func(s *fsm.Snapshot) bool { return s.Rollout("shop.Cart").GetRevision() == 3 })
	canary.set(func() { canary.fail = nil })
	w.awaitPhase(pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK)
	s := w.store.State().Snapshot()
	if got := *s.Deployment("shop.Cart").Doc.Functions[0].ProvisionConfig.ContainerImage; got != "cart:1" {
		t.Errorf("the deployment has the image %s", got)
	}
	for _, m := range w.managers[1:] {
		if n, _ := m.counts(); n != 1 {
			t.Errorf("%s was sent %d deploys", m.name, n)
		}
	}
	waitFor(t, "the metrics tell", func() bool {
		return w.metric("oaas_pm_rollout_turns_total", "RollingBack") == 1 && w.metric("oaas_pm_rollout_turns_total", "RolledBack") == 1
	})
}

// A canary that does not become available holds everything up, until its time is over.
func TestRolloutFailsInTime(t *testing.T) {
	w := newWaves(t, 2)
	strategy := `{"canary":1,"min_healthy_time":"0s","progress_deadline":"1s"}`
	w.roll("cart:1", strategy)
	w.awaitAvailable()
	w.managers[0].set(func() { w.managers[0].answer = nil })
	w.roll("cart:2", strategy)
	w.awaitPhase(pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED)
	if n, _ := w.managers[1].counts(); n != 1 {
		t.Errorf("past the canary, %d deploys were sent", n)
	}
	row := w.store.State().Snapshot().Rollout("shop.Cart")
	if row.GetReason() != "ProgressDeadlineExceeded" {
		t.Errorf("rollout is %v", row)
	}
	w.managers[0].obliging()
	w.managers[0].report(registry.UnitID(w.store.State().Snapshot().Deployment("shop.Cart").UID, "oaas-1", "Cart"), oaaspb.DeploymentCondition_RUNNING)
	w.awaitAvailable()
	if _, _, err := w.registry.ResumeRollout(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	w.await("the other one has its turn", func(*fsm.Snapshot) bool { n, _ := w.managers[1].counts(); return n == 2 })
}

// Leaders come and go; the rollout goes on as if there had been one.
func TestRolloutSurvivesItsLeaders(t *testing.T) {
	w := newWaves(t, 4)
	w.roll("cart:1", patient)
	w.awaitAvailable()
	for _, m := range w.managers {
		m.set(func() { m.answer = nil })
	}
	w.roll("cart:2", patient)
	for i, m := range w.managers {
		id := registry.UnitID(w.store.State().Snapshot().Deployment("shop.Cart").UID, w.envs[i], "Cart")
		w.await(m.name+" has its turn and has acknowledged it", func(s *fsm.Snapshot) bool {
			return s.Rollout("shop.Cart").GetEnvs()[i].GetRevision() == 2 && fsm.Acknowledged(s.Unit(id))
		})
		w.stop()
		w.lead(w.store.NextTerm())
		w.awaitHealthy(w.envs...)
		m.report(id, oaaspb.DeploymentCondition_RUNNING)
	}
	w.awaitPhase(pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE)
	if got := w.deploysOf(); got != "2 2 2 2" {
		t.Errorf("the managers were sent %s deploys", got)
	}
}

// A deletion ends a rollout, and a cluster that is away does not keep the rest from ending.
func TestRolloutOfWhatIsDeleted(t *testing.T) {
	w := newWaves(t, 2)
	w.roll("cart:1", patient)
	w.awaitAvailable()
	w.managers[0].set(func() { w.managers[0].answer = nil })
	w.roll("cart:2", patient)
	w.await("the canary has its turn", func(*fsm.Snapshot) bool { n, _ := w.managers[0].counts(); return n == 2 })
	if _, _, err := w.registry.DeleteDeployment(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	w.await("all is gone", func(s *fsm.Snapshot) bool { return len(s.Units()) == 0 && len(s.Rollouts()) == 0 })
	waitFor(t, "the metrics tell", func() bool { return w.metric("oaas_pm_rollouts", "Progressing") == 0 })
	events := w.store.State().Snapshot().Timeline("shop.Cart")
	if last := events[len(events)-1]; last.GetType() != fsm.EventDeletionConfirmed {
		t.Errorf("the last event is %v", last)
	}
}
