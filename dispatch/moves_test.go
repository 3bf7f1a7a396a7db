package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// impatient gives clusters up as soon as they cannot be reached, and takes those that can be
// for healthy for an hour.
type impatient struct{ *registry.Registry }

func (r impatient) PutCluster(ctx context.Context, term uint64, name string, change func(row *pmpb.Cluster) error) error {
	return r.Registry.PutCluster(ctx, term, name, func(row *pmpb.Cluster) error {
		if err := change(row); err != nil {
			return err
		}
		if row.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE {
			row.Health = pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE
		}
		if row.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY {
			row.HealthSince = timestamppb.New(time.Now().Add(-time.Hour))
		}
		return nil
	})
}

// travellers are clusters in which a deployment runs that may be moved.
type travellers struct {
	*waves
	uid string
	// homes are the environments that it began in, others those that it did not.
	homes, others []string
}

// newTravellers deploys to two of five clusters, which the planner chooses.
func newTravellers(t *testing.T, failover string, edit ...func(*dispatch.Options)) *travellers {
	t.Helper()
	w := &travellers{waves: newWaves(t, 5, append([]func(*dispatch.Options){func(o *dispatch.Options) {
		o.Registry = impatient{o.Registry.(*registry.Registry)}
		o.MoveInterval, o.MoveRate = 5*time.Millisecond, 1000
		// A cluster that is merely slow, because the machine is, must not be given up.
		o.Health = unhurried
	}}, edit...)...)}
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.FailoverFrom}}}
	if _, err := w.store.Apply(context.Background(), raise); err != nil {
		t.Fatal(err)
	}
	for _, env := range w.envs {
		w.policy(env, &pmpb.ClusterPolicy{})
	}
	if failover != "" {
		failover = `"failover":` + failover + ","
	}
	dep, err := model.DecodeDeployment([]byte(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.9999},` + failover + `
		"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"cart:1"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := w.registry.Deploy(context.Background(), registry.RequestInfo{}, dep)
	if err != nil {
		t.Fatal(err)
	}
	w.uid, w.homes = out.UID, out.Envs
	for _, env := range w.envs {
		if !slices.Contains(w.homes, env) {
			w.others = append(w.others, env)
		}
	}
	if len(w.homes) != 2 {
		t.Fatalf("it runs in %v", w.homes)
	}
	w.awaitAvailable()
	return w
}

func (w *travellers) of(env string) *manager { return w.managers[slices.Index(w.envs, env)] }

// policy says something of an environment, and that it is in a region of its own.
func (w *travellers) policy(env string, p *pmpb.ClusterPolicy) {
	w.t.Helper()
	p.Region = &env
	if _, err := w.registry.PutClusterPolicy(context.Background(), registry.RequestInfo{}, env, p, false); err != nil {
		w.t.Fatal(err)
	}
}

// live are the environments with a unit that is not a tombstone.
func (w *travellers) live(s *fsm.Snapshot) []string {
	var out []string
	for _, u := range s.UnitsByDeployment(w.uid) {
		if !u.GetTombstone() {
			out = append(out, u.GetEnv())
		}
	}
	return out
}

func (w *travellers) awaitIn(what string, n int, not ...string) []string {
	w.t.Helper()
	var out []string
	w.await(what, func(s *fsm.Snapshot) bool {
		out = w.live(s)
		return len(out) == n && !slices.ContainsFunc(not, func(env string) bool { return slices.Contains(out, env) })
	})
	return out
}

// silence stops a manager as if its cluster were gone; the result brings it back.
func (w *travellers) silence(env string) (back func()) {
	w.t.Helper()
	addr := w.store.State().Snapshot().Cluster(env).GetAddress()
	w.stopOf[env]()
	w.await(env+" is given up", func(s *fsm.Snapshot) bool {
		return s.Cluster(env).GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE
	})
	return func() { _, w.stopOf[env] = w.of(env).serve(w.t, addr, false) }
}

func TestDrainMovesDeployments(t *testing.T) {
	w := newTravellers(t, "")
	left := w.homes[1]
	for _, env := range w.others { // what is sent does not run yet
		w.of(env).set(func() { w.of(env).answer = nil })
	}
	w.policy(left, &pmpb.ClusterPolicy{Draining: true})
	w.await("it has begun, and another cluster has it", func(s *fsm.Snapshot) bool {
		return s.Deployment("shop.Cart").Leaves(left) && len(w.live(s)) == 3 && allAcked(s)
	})
	if _, deletes := w.of(left).counts(); deletes != 0 {
		t.Fatal("it was removed before another one runs")
	}
	waitFor(t, "the metrics tell", func() bool {
		return w.metric("oaas_pm_moves", "Drain") == 1 && w.metric("oaas_pm_moves_begun_total", "Drain") == 1
	})
	for _, env := range w.live(w.store.State().Snapshot()) {
		if slices.Contains(w.others, env) {
			w.of(env).report(registry.UnitID(w.uid, env, "Cart"), oaaspb.DeploymentCondition_RUNNING)
		}
	}
	w.awaitIn("it has left", 2, left)
	w.await("its manager has removed it", func(s *fsm.Snapshot) bool { return len(s.UnitsByEnv(left)) == 0 })
	if d := registry.DrainOf(w.store.State().Snapshot(), w.store.State().Snapshot().Cluster(left)); !d.Done() || d.Moved != 1 {
		t.Errorf("the drain is %+v", d)
	}
	waitFor(t, "the metrics tell", func() bool {
		return w.metric("oaas_pm_moves", "Drain") == 0 && w.metric("oaas_pm_move_duration_seconds", "") == 1
	})
}

// A leader goes in the middle of a failover, and the next one goes on with it.
func TestFailoverSurvivesItsLeader(t *testing.T) {
	w := newTravellers(t, `{"mode":"automatic","after":"0s"}`)
	lost := w.homes[0]
	for _, env := range w.others {
		w.of(env).set(func() { w.of(env).answer = nil })
	}
	back := w.silence(lost)
	w.await("it leaves the lost one", func(s *fsm.Snapshot) bool { return s.Deployment("shop.Cart").Leaves(lost) && len(w.live(s)) == 3 })
	var by string
	for _, env := range w.live(w.store.State().Snapshot()) {
		if slices.Contains(w.others, env) {
			by = env
		}
	}
	id := registry.UnitID(w.uid, by, "Cart")
	w.await("the other one has it", func(s *fsm.Snapshot) bool { return fsm.Acknowledged(s.Unit(id)) })
	w.stop()
	w.of(by).report(id, oaaspb.DeploymentCondition_RUNNING)
	if got := w.live(w.store.State().Snapshot()); len(got) != 3 {
		t.Fatalf("without a leader it runs in %v", got)
	}
	w.lead(w.store.NextTerm())
	w.awaitIn("the next leader has ended it", 2, lost)
	if got := len(w.store.State().Snapshot().Deployment("shop.Cart").Move.GetFailovers()); got != 1 {
		t.Errorf("%d failovers", got)
	}

	// The lost one comes back: what ran there is removed, and nothing moves.
	objects := func() (n int) {
		w.of(lost).set(func() { n = len(w.of(lost).objects) })
		return n
	}
	if objects() != 1 {
		t.Error("the lost one has nothing")
	}
	where := strings.Join(w.live(w.store.State().Snapshot()), " ")
	back()
	w.await("it is cleaned up", func(s *fsm.Snapshot) bool { return len(s.UnitsByEnv(lost)) == 0 && objects() == 0 })
	w.awaitHealthy(lost)
	if got := strings.Join(w.live(w.store.State().Snapshot()), " "); got != where {
		t.Errorf("it moved from %s to %s", where, got)
	}
}

func TestLostClusterIsReturnedTo(t *testing.T) {
	w := newTravellers(t, `{"mode":"automatic","after":"0s","max_per_hour":10,"on_return":"return"}`)
	lost := w.homes[0]
	back := w.silence(lost)
	away := w.awaitIn("it has moved", 2, lost)
	back()
	w.awaitHealthy(lost)
	w.await("the budget holds it", func(s *fsm.Snapshot) bool {
		return s.Deployment("shop.Cart").Move.GetHeld().GetCode() == "BudgetExhausted"
	})
	if got := w.live(w.store.State().Snapshot()); !slices.Equal(got, away) {
		t.Errorf("it runs in %v", got)
	}
	w.ahead.Store(int64(2 * time.Hour)) // longer than any hold-down
	w.stop()
	w.lead(w.store.NextTerm()) // one that has not tried before
	w.await("it is back", func(s *fsm.Snapshot) bool {
		got := w.live(s)
		return len(got) == 2 && slices.Contains(got, lost) && len(s.Deployment("shop.Cart").Move.GetLost()) == 0
	})
	w.awaitAvailable()
}

// When too many clusters go at once, none is believed to be lost.
func TestFleetBreakerStopsFailovers(t *testing.T) {
	w := newTravellers(t, `{"mode":"automatic","after":"0s"}`)
	another := w.others[0]
	w.silence(another)
	w.policy(w.others[1], &pmpb.ClusterPolicy{Cordoned: true}) // one of four, and soon two
	lost := w.homes[0]
	w.silence(lost)
	waitFor(t, "it is suspected", func() bool { return w.metric("oaas_pm_fleet_partition_suspected", "") == 1 })
	if w.store.State().Snapshot().Deployment("shop.Cart").Leaves(lost) {
		t.Fatal("it moves")
	}
	w.policy(another, &pmpb.ClusterPolicy{Cordoned: true})
	w.awaitIn("an operator knows of one, so that the other one is believed", 2, lost)
	waitFor(t, "it is not suspected any more", func() bool { return w.metric("oaas_pm_fleet_partition_suspected", "") == 0 })
}

// As many as the rate permits, whoever leads: nobody begins with a full bucket.
func TestMovesAreSpreadOverTime(t *testing.T) {
	w := newTravellers(t, "", func(o *dispatch.Options) { o.MoveRate, o.MoveBurst = 4, 1 })
	left := w.homes[0]
	keys := []string{"shop.Cart"}
	for i := range 3 {
		key := fmt.Sprint("shop.Cart-", i)
		dep, err := model.DecodeDeployment(fmt.Appendf(nil, `{"key":%q,"package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.9}}`, key))
		if err != nil {
			t.Fatal(err)
		}
		dep.Placement = &model.Placement{Allow: []string{left}}
		if _, _, err := w.registry.Deploy(context.Background(), registry.RequestInfo{}, dep); err != nil {
			t.Fatal(err)
		}
		dep.Placement = nil
		if _, _, err := w.registry.Deploy(context.Background(), registry.RequestInfo{}, dep); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	w.policy(left, &pmpb.ClusterPolicy{Draining: true})
	w.await("all have moved", func(s *fsm.Snapshot) bool { return registry.DrainOf(s, s.Cluster(left)).Done() })
	var began []time.Time
	for _, key := range keys {
		for _, e := range w.store.State().Snapshot().Timeline(key) {
			if e.GetType() == fsm.EventMoveStarted {
				began = append(began, e.GetTime().AsTime())
			}
		}
	}
	slices.SortFunc(began, time.Time.Compare)
	if len(began) != 4 {
		t.Fatalf("%d moves", len(began))
	}
	if took := began[3].Sub(began[0]); took < 700*time.Millisecond {
		t.Errorf("four moves at 4 a second have begun within %s", took)
	}
}
