package registry_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

// fixture is a registry over an empty state with healthy clusters.
func fixture(t *testing.T, clusters ...string) (*registry.Registry, *registrytest.Store) {
	t.Helper()
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	r, err := registry.New(registry.Options{Store: store, NewUID: func() string { n++; return fmt.Sprintf("uid-%d", n) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range clusters {
		err := r.PutCluster(context.Background(), 0, name, func(row *pmpb.Cluster) error {
			row.Address, row.Health, row.Source = name+":8088", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, pmpb.ClusterSource_CLUSTER_SOURCE_GOSSIP
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return r, store
}

func decodePackage(t *testing.T, doc string) *model.OPackage {
	t.Helper()
	pkg, err := model.DecodePackage([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

func decodeDeployment(t *testing.T, doc string) *model.OClassDeployment {
	t.Helper()
	dep, err := model.DecodeDeployment([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return dep
}

const shop = `{"name":"shop","classes":[{"key":"Cart","function_bindings":[
	{"name":"add","function_key":"Cart.add","access_modifier":"PUBLIC"},
	{"name":"plus","function_key":"Cart.add","access_modifier":"PUBLIC"},
	{"name":"total","function_key":"Cart.total","access_modifier":"PUBLIC","stateless":true}]}],
	"functions":[{"key":"Cart.add","provision_config":{"container_image":"registry.local/cart:1","min_scale":2},"config":{"A":"1"}},
	{"key":"Cart.total","provision_config":{"container_image":"registry.local/total:1"}},
	{"key":"Cart.bare"}]}`

const cart = `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"]}`

func withShop(t *testing.T, clusters ...string) (*registry.Registry, *registrytest.Store) {
	t.Helper()
	r, store := fixture(t, clusters...)
	if _, _, err := r.CreatePackage(context.Background(), registry.RequestInfo{}, decodePackage(t, shop)); err != nil {
		t.Fatal(err)
	}
	return r, store
}

func TestPackageRefusals(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t)
	tests := map[string]struct {
		do   func() error
		want registry.Code
		text string
	}{
		"taken name": {func() error {
			_, _, err := r.CreatePackage(ctx, registry.RequestInfo{}, decodePackage(t, shop))
			return err
		}, registry.AlreadyExists, "Package already exists: shop"},
		"missing dependency": {func() error {
			_, _, err := r.CreatePackage(ctx, registry.RequestInfo{}, decodePackage(t, `{"name":"p","dependencies":["nowhere"]}`))
			return err
		}, registry.FailedPrecondition, "Dependency not found: nowhere"},
		"update of none": {func() error {
			_, _, err := r.UpdatePackage(ctx, registry.RequestInfo{}, decodePackage(t, `{"name":"p"}`))
			return err
		}, registry.NotFound, "Package not found: p"},
		"delete of none": {func() error {
			_, err := r.DeletePackage(ctx, registry.RequestInfo{}, "p")
			return err
		}, registry.NotFound, "Package not found: p"},
		"unknown function in a binding": {func() error {
			_, _, err := r.CreatePackage(ctx, registry.RequestInfo{}, decodePackage(t, `{"name":"p","classes":[{"key":"C","function_bindings":[{"name":"b","function_key":"none","access_modifier":"PUBLIC"}]}]}`))
			return err
		}, registry.Unprocessable, "none"},
		"stale If-Match": {func() error {
			old := uint64(1)
			_, _, err := r.UpdatePackage(ctx, registry.RequestInfo{Precondition: registry.Precondition{ModifyIndex: &old}}, decodePackage(t, shop))
			return err
		}, registry.PreconditionFailed, "If-Match"},
	}
	before := store.State().Snapshot().Index()
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := tc.do()
			if registry.CodeOf(err) != tc.want || err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error %q (%s), want %s with %q", err, registry.CodeOf(err), tc.want, tc.text)
			}
		})
	}
	if after := store.State().Snapshot().Index(); after != before {
		t.Errorf("refused requests were proposed: index %d, was %d", after, before)
	}
}

func TestDeployRefusals(t *testing.T) {
	tests := map[string]struct {
		doc  string
		want registry.Code
		text string
	}{
		"unknown package":    {`{"key":"k","package_name":"none","class_key":"Cart"}`, registry.NotFound, "Package not found: none"},
		"unknown class":      {`{"key":"k","package_name":"shop","class_key":"None"}`, registry.InvalidArgument, "Class not found: None (package shop has Cart)"},
		"unknown env":        {`{"key":"k","package_name":"shop","class_key":"Cart","target_envs":["mars"]}`, registry.InvalidArgument, "Invalid target envs: mars (known: oaas-1, oaas-2)"},
		"unknown template":   {`{"key":"k","package_name":"shop","class_key":"Cart","env_templates":{"mars":"edge"}}`, registry.InvalidArgument, "mars"},
		"unknown function":   {`{"key":"k","package_name":"shop","class_key":"Cart","functions":[{"function_key":"none"}]}`, registry.InvalidArgument, "Function not found: none"},
		"missing image":      {`{"key":"k","package_name":"shop","class_key":"Cart","functions":[{"function_key":"Cart.bare"}]}`, registry.InvalidArgument, "container_image"},
		"function twice":     {`{"key":"k","package_name":"shop","class_key":"Cart","functions":[{"function_key":"Cart.total"},{"function_key":"Cart.total"}]}`, registry.Unprocessable, "functions[1].function_key"},
		"availability above": {`{"key":"k","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":99.9}}`, registry.Unprocessable, "availability"},
		"long key":           {`{"key":"` + strings.Repeat("k", 300) + `","package_name":"shop","class_key":"Cart"}`, registry.Unprocessable, "key"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r, store := withShop(t, "oaas-1", "oaas-2")
			before := store.State().Snapshot().Index()
			_, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, tc.doc))
			if registry.CodeOf(err) != tc.want || err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error %q (%s), want %s with %q", err, registry.CodeOf(err), tc.want, tc.text)
			}
			if after := store.State().Snapshot().Index(); after != before {
				t.Errorf("a refused request was proposed: index %d, was %d", after, before)
			}
		})
	}
}

func TestDeployWithoutAnyHealthyCluster(t *testing.T) {
	r, _ := withShop(t)
	_, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, `{"key":"k","package_name":"shop","class_key":"Cart"}`))
	if registry.CodeOf(err) != registry.InvalidArgument {
		t.Errorf("error %v (%s)", err, registry.CodeOf(err))
	}
}

func TestDeployStoresAllTogether(t *testing.T) {
	r, store := withShop(t, "oaas-1", "oaas-2")
	out, index, err := r.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, cart))
	if err != nil {
		t.Fatal(err)
	}
	snap := store.State().Snapshot()
	dep := snap.Deployment("shop.Cart")
	if dep == nil || dep.UID != out.UID || dep.ModifyIndex != index {
		t.Fatalf("deployment %+v, outcome %+v at %d", dep, out, index)
	}
	info, two := "info", uint32(2)
	image, total, min2 := "registry.local/cart:1", "registry.local/total:1", uint32(2)
	achieved := 0.9801
	want := &model.OClassDeployment{
		Key: "shop.Cart", PackageName: "shop", ClassKey: "Cart", TargetEnvs: []string{"oaas-1", "oaas-2"}, Condition: model.ConditionPending,
		Functions: []model.FunctionDeploymentSpec{
			{FunctionKey: "Cart.add", ProvisionConfig: &model.ProvisionConfig{ContainerImage: &image, MinScale: &min2}, Config: map[string]string{"A": "1"}},
			{FunctionKey: "Cart.total", ProvisionConfig: &model.ProvisionConfig{ContainerImage: &total}},
		},
		ODGM:   &model.ODGMDataSpec{Collections: []string{"shop.Cart"}, ReplicaCount: &two, Log: &info},
		Status: &model.DeploymentStatusSummary{ReplicationFactor: 2, SelectedEnvs: []string{"oaas-1", "oaas-2"}, AchievedQuorumAvailability: &achieved},
	}
	diff := cmp.Diff(want, dep.Doc, cmpopts.EquateEmpty(), cmpopts.EquateApprox(0, 1e-9),
		cmpopts.IgnoreFields(model.OClassDeployment{}, "CreatedAt", "UpdatedAt"), cmpopts.IgnoreFields(model.ODGMDataSpec{}, "EnvNodeIDs"))
	if diff != "" {
		t.Error(diff)
	}
	if dep.Doc.CreatedAt == nil || dep.Doc.UpdatedAt == nil {
		t.Error("the server sets no timestamps")
	}
	if ids := dep.Doc.ODGM.EnvNodeIDs; len(ids["oaas-1"]) != 1 || len(ids["oaas-2"]) != 1 || ids["oaas-1"][0] == ids["oaas-2"][0] {
		t.Errorf("node ids %v", ids)
	}
	if snap.Plan("shop.Cart") == nil {
		t.Error("no plan stored")
	}
	units := snap.UnitsByDeployment(out.UID)
	if len(units) != 2 || units[0].GetId() != out.UnitID || units[0].GetFence() != index || units[1].GetEnv() != "oaas-2" {
		t.Errorf("units %v", units)
	}
}

// TestRepostKeepsIdentity guards I4: posting a deployment again makes no second
// runtime, and an unchanged one is not even sent again.
func TestRepostKeepsIdentity(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2")
	first, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, cart))
	if err != nil {
		t.Fatal(err)
	}
	fences := func() (out []uint64) {
		for _, u := range store.State().Snapshot().Units() {
			out = append(out, u.GetFence())
		}
		return out
	}
	before := fences()
	again, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, cart))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, fences()); diff != "" {
		t.Errorf("an unchanged deployment got new fences: %s", diff)
	}
	if again.UID != first.UID || again.UnitID != first.UnitID || again.Created || !first.Created {
		t.Errorf("first %+v, again %+v", first, again)
	}
	changed := decodeDeployment(t, cart)
	changed.Telemetry = &model.TelemetryConfig{}
	third, index, err := r.Deploy(ctx, registry.RequestInfo{}, changed)
	if err != nil {
		t.Fatal(err)
	}
	if third.UnitID != first.UnitID {
		t.Errorf("a change renamed the unit from %s to %s", first.UnitID, third.UnitID)
	}
	if diff := cmp.Diff([]uint64{index, index}, fences()); diff != "" {
		t.Errorf("a changed deployment kept its fences: %s", diff)
	}
}

func TestDeleteLeavesTombstonesAndFreesTheKey(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2")
	first, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, cart))
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := r.DeleteDeployment(ctx, registry.RequestInfo{}, "shop.Cart")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&registry.DeleteOutcome{Key: "shop.Cart", UID: first.UID, Envs: []string{"oaas-1", "oaas-2"}}, out); diff != "" {
		t.Error(diff)
	}
	if _, _, err := r.DeleteDeployment(ctx, registry.RequestInfo{}, "shop.Cart"); registry.CodeOf(err) != registry.NotFound {
		t.Errorf("second delete: %v", err)
	}
	second, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, cart))
	if err != nil {
		t.Fatal(err)
	}
	if second.UID == first.UID || second.UnitID == first.UnitID {
		t.Error("the new deployment shares its identity with the deleted one")
	}
	tombstones := 0
	for _, u := range store.State().Snapshot().Units() {
		if u.GetTombstone() {
			tombstones++
		}
	}
	if tombstones != 2 {
		t.Errorf("%d tombstones, want 2", tombstones)
	}
}

// TestDecidesAgain lets another writer change the package between the decision
// and its command.
func TestDecidesAgain(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2")
	var once sync.Once
	store.BeforeApply = func(cmd *pmpb.Command) error {
		if cmd.GetCommitDeployment() == nil {
			return nil
		}
		once.Do(func() {
			pkg := decodePackage(t, shop)
			*pkg.Functions[0].ProvisionConfig.ContainerImage = "registry.local/cart:2"
			if _, _, err := r.UpdatePackage(ctx, registry.RequestInfo{}, pkg); err != nil {
				t.Error(err)
			}
		})
		return nil
	}
	if _, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, cart)); err != nil {
		t.Fatal(err)
	}
	got := *store.State().Snapshot().Deployment("shop.Cart").Doc.Functions[0].ProvisionConfig.ContainerImage
	if got != "registry.local/cart:2" {
		t.Errorf("deployed %s, which was replaced before the commit", got)
	}
}

func TestIdempotency(t *testing.T) {
	ctx := context.Background()
	r, store := withShop(t, "oaas-1", "oaas-2")
	info := func(hash string) registry.RequestInfo {
		return registry.RequestInfo{Idempotency: &registry.Idempotency{Key: "key-1", RequestHash: []byte(hash), Reply: func(out any) (int, []byte) {
			return 200, []byte(out.(*registry.DeployOutcome).UnitID)
		}}}
	}
	first, _, err := r.Deploy(ctx, info("hash"), decodeDeployment(t, cart))
	if err != nil {
		t.Fatal(err)
	}
	before := store.State().Snapshot().Index()
	_, _, err = r.Deploy(ctx, info("hash"), decodeDeployment(t, cart))
	var replayed *registry.Replayed
	if !errors.As(err, &replayed) || string(replayed.Reply.GetBody()) != first.UnitID || replayed.Reply.GetStatus() != 200 {
		t.Errorf("second request: %v", err)
	}
	if after := store.State().Snapshot().Index(); after != before {
		t.Error("the replay changed the state")
	}
	if _, _, err := r.Deploy(ctx, info("other"), decodeDeployment(t, cart)); registry.CodeOf(err) != registry.IdempotencyMismatch {
		t.Errorf("same key, other request: %v", err)
	}
}

// TestShardsThatNoCommandHolds: a request of a few bytes must not make the leader
// work out gigabytes of shard tables only to find that they are too large.
func TestShardsThatNoCommandHolds(t *testing.T) {
	r, _ := withShop(t, "oaas-1", "oaas-2")
	dep := decodeDeployment(t, cart)
	partitions, replicas := uint32(4096), uint32(1024)
	dep.ODGM = &model.ODGMDataSpec{Collections: []string{"a", "b"}, PartitionCount: &partitions, ReplicaCount: &replicas}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, dep)
	runtime.ReadMemStats(&after)
	if registry.CodeOf(err) != registry.TooLarge || !strings.Contains(err.Error(), "partition_count") {
		t.Errorf("%v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
	replicas, partitions = 3, 1024
	if _, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, dep); err != nil {
		t.Errorf("a large table that fits: %v", err)
	}
}

// TestForgottenIdempotencyKey: after its time a key is free again, although the
// state still holds the old reply.
func TestForgottenIdempotencyKey(t *testing.T) {
	ctx := context.Background()
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	store.Now = func() time.Time { return clock }
	r, err := registry.New(registry.Options{Store: store, NewUID: func() string { return "uid-1" }, Now: store.Now})
	if err != nil {
		t.Fatal(err)
	}
	create := func(name string) error {
		ri := registry.RequestInfo{Idempotency: &registry.Idempotency{Key: "key", RequestHash: []byte(name), Reply: func(any) (int, []byte) { return 201, nil }}}
		_, _, err := r.CreatePackage(ctx, ri, &model.OPackage{Name: name})
		return err
	}
	if err := create("one"); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(fsm.ReplyTTL)
	if err := create("two"); registry.CodeOf(err) != registry.IdempotencyMismatch {
		t.Errorf("within its time: %v", err)
	}
	clock = clock.Add(time.Second)
	if err := create("two"); err != nil {
		t.Errorf("after its time: %v", err)
	}
}

// clocked is a store that tells the log's time, as a node does.
type clocked struct {
	*registrytest.Store
	now func() time.Time
}

func (c clocked) Now() time.Time { return c.now() }

// Whether an answer is still to be given again goes by the log's time: a node whose
// own clock is ahead would refuse the retry of a write that was done.
func TestReplayGoesByTheLogsTime(t *testing.T) {
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	behind := func() time.Time { return time.Now().Add(-2 * fsm.ReplyTTL) }
	store.Now = behind
	r, err := registry.New(registry.Options{Store: clocked{store, behind}, NewUID: func() string { return "uid-1" }})
	if err != nil {
		t.Fatal(err)
	}
	ri := registry.RequestInfo{
		Precondition: registry.Precondition{MustNotExist: true},
		Idempotency:  &registry.Idempotency{Key: "key", RequestHash: []byte("h"), Reply: func(any) (int, []byte) { return 201, nil }},
	}
	create := func() error {
		_, _, err := r.CreatePackage(t.Context(), ri, &model.OPackage{Name: "one"})
		return err
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	var again *registry.Replayed
	if err := create(); !errors.As(err, &again) {
		t.Errorf("the retry = %v", err)
	}
}

func TestCascade(t *testing.T) {
	ctx := context.Background()
	_, store := withShop(t, "oaas-1", "oaas-2")
	r, err := registry.New(registry.Options{Store: store, NewUID: func() string { return "uid-x" }, DeleteCascade: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, cart)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DeletePackage(ctx, registry.RequestInfo{}, "shop"); err != nil {
		t.Fatal(err)
	}
	snap := store.State().Snapshot()
	if snap.Package("shop") != nil || snap.Deployment("shop.Cart") != nil || len(snap.Deletions()) != 1 {
		t.Error("package or deployment is still there, or no deletion is under way")
	}
}

func TestStoreErrorsAreTyped(t *testing.T) {
	tests := map[registry.Code]error{
		registry.NoLeader:         raftstore.ErrNotLeader,
		registry.OutcomeUnknown:   raftstore.ErrOutcomeUnknown,
		registry.TooLarge:         raftstore.ErrTooLarge,
		registry.Unavailable:      raftstore.ErrShutdown,
		registry.DeadlineExceeded: context.DeadlineExceeded,
		registry.Internal:         errors.New("disk on fire"),
	}
	for want, cause := range tests {
		r, store := withShop(t, "oaas-1", "oaas-2")
		store.BeforeApply = func(*pmpb.Command) error { return fmt.Errorf("apply: %w", cause) }
		_, _, err := r.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, cart))
		if registry.CodeOf(err) != want || !errors.Is(err, cause) {
			t.Errorf("%v became %v (%s), want %s", cause, err, registry.CodeOf(err), want)
		}
	}
}

// While an alarm is raised nothing new is taken, and the answer says which alarm;
// what makes room goes on.
func TestReadOnly(t *testing.T) {
	r, store := withShop(t, "oaas-1", "oaas-2")
	ctx, ri := context.Background(), registry.RequestInfo{}
	if _, _, err := r.Deploy(ctx, ri, decodeDeployment(t, cart)); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*pmpb.Command{
		{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: 2}}},
		{Op: &pmpb.Command_UpdateAlarms{UpdateAlarms: &pmpb.UpdateAlarms{Raise: []*pmpb.Alarm{{
			Key: &pmpb.AlarmKey{Kind: pmpb.AlarmKey_KIND_NO_SPACE, ServerId: "s1"}, Message: "12 MiB are free",
		}}}}},
	} {
		if res, err := store.Apply(ctx, cmd); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
	}
	_, _, deployed := r.Deploy(ctx, ri, decodeDeployment(t, strings.Replace(cart, "shop.Cart", "shop.Other", 1)))
	_, _, created := r.CreatePackage(ctx, ri, decodePackage(t, `{"name":"blog"}`))
	for what, err := range map[string]error{"deployment": deployed, "package": created} {
		var e *registry.Error
		if !errors.As(err, &e) || e.Code != registry.ReadOnly || len(e.Problems) != 1 || e.Problems[0].Message != "12 MiB are free" {
			t.Errorf("%s while an alarm is raised: %v", what, err)
		}
	}
	if _, _, err := r.DeleteDeployment(ctx, ri, "shop.Cart"); err != nil {
		t.Errorf("deleting while an alarm is raised: %v", err)
	}
}
