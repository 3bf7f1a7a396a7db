package fsm_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// epoch is the leader time of index 0 in tests; each command comes a second later.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// replica is a state with the log that made it.
type replica struct {
	testing.TB
	state *fsm.State
	term  uint64
	log   []fsm.Entry
}

func newReplica(t testing.TB) *replica {
	t.Helper()
	s, err := fsm.NewState()
	if err != nil {
		t.Fatal(err)
	}
	return &replica{TB: t, state: s, term: 3}
}

func (r *replica) snap() *fsm.Snapshot { return r.state.Snapshot() }

func (r *replica) nextIndex() uint64 { return uint64(len(r.log)) + 1 }

func timeOf(index uint64) time.Time { return epoch.Add(time.Duration(index) * time.Second) }

// command makes a command with op, or with op replaced by what edit does.
func command(t testing.TB, op any, edit ...func(*pmpb.Command)) *pmpb.Command {
	t.Helper()
	cmd := &pmpb.Command{Version: fsm.Version, RequestId: "r"}
	if op != nil {
		setOperation(t, cmd, op.(proto.Message))
	}
	for _, e := range edit {
		e(cmd)
	}
	return cmd
}

// setOperation puts op into the field of the oneof that has its type.
func setOperation(t testing.TB, cmd *pmpb.Command, op proto.Message) {
	t.Helper()
	m := cmd.ProtoReflect()
	fields := m.Descriptor().Oneofs().ByName("op").Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); fd.Message() == op.ProtoReflect().Descriptor() {
			m.Set(fd, protoreflect.ValueOfMessage(op.ProtoReflect()))
			return
		}
	}
	t.Fatalf("no such operation: %T", op)
}

func encode(t testing.TB, cmd *pmpb.Command) []byte {
	t.Helper()
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// try applies op as the next command.
func (r *replica) try(op any, edit ...func(*pmpb.Command)) fsm.Result {
	r.Helper()
	edit = append([]func(*pmpb.Command){func(c *pmpb.Command) {
		c.LeaderTime = timestamppb.New(timeOf(r.nextIndex()))
	}}, edit...)
	return r.raw(encode(r, command(r, op, edit...)))
}

// raw applies bytes as the next command.
func (r *replica) raw(data []byte) fsm.Result {
	r.Helper()
	e := fsm.Entry{Index: r.nextIndex(), Term: r.term, Data: data}
	r.log = append(r.log, e)
	res := r.state.Apply(e.Index, e.Term, e.Data)
	if res.Index != e.Index {
		r.Fatalf("result is about index %d, want %d", res.Index, e.Index)
	}
	return res
}

// must applies op, which has to take effect, and gives its index.
func (r *replica) must(op any, edit ...func(*pmpb.Command)) uint64 {
	r.Helper()
	res := r.try(op, edit...)
	if res.Err != nil {
		r.Fatalf("command %d: %v", res.Index, res.Err)
	}
	if res.Reply != nil {
		r.Fatalf("command %d was taken for a replay", res.Index)
	}
	return res.Index
}

// refused applies op, which has to be refused without touching anything but meta.
func (r *replica) refused(op any, edit ...func(*pmpb.Command)) error {
	r.Helper()
	before := rowsOf(r, r.snap())
	meta := r.snap().Meta()
	res := r.try(op, edit...)
	if res.Err == nil {
		r.Fatalf("command %d took effect, want it refused", res.Index)
	}
	if diff := cmp.Diff(before, rowsOf(r, r.snap())); diff != "" {
		r.Fatalf("refused command %d (%v) changed the state (-before +after):\n%s", res.Index, res.Err, diff)
	}
	after := r.snap().Meta()
	if after.GetAppliedIndex() != res.Index || after.GetAppliedCount() != meta.GetAppliedCount()+1 || bytes.Equal(after.GetChainHash(), meta.GetChainHash()) {
		r.Fatalf("refused command %d did not advance meta: %v", res.Index, after)
	}
	return res.Err
}

// rowsOf gives all rows but meta as text, for comparisons.
func rowsOf(t testing.TB, s *fsm.Snapshot) []string {
	t.Helper()
	var rows []string
	add := func(kind string, row any) { rows = append(rows, fmt.Sprintf("%s %v", kind, row)) }
	for _, p := range s.Packages() {
		add("package", fmt.Sprintf("%s %d %d", jsonOf(t, p.Doc), p.CreateIndex, p.ModifyIndex))
	}
	for _, d := range s.Deployments() {
		add("deployment", fmt.Sprintf("%s %s g%d %v %d %d", jsonOf(t, d.Doc), d.UID, d.Generation, d.Revision, d.CreateIndex, d.ModifyIndex))
		for _, r := range s.Revisions(d.Doc.Key) {
			add("revision", r)
		}
	}
	for _, r := range s.Rollouts() {
		add("rollout", r)
	}
	for _, key := range timelineKeys {
		for _, e := range s.Timeline(key) {
			add("event", e)
		}
	}
	for _, p := range s.Plans() {
		add("plan", *p)
		for _, past := range s.PastPlans(p.DeploymentKey) {
			add("past plan", *past)
		}
	}
	for _, u := range s.Units() {
		add("unit", u)
	}
	for _, c := range s.Clusters() {
		add("cluster", c)
	}
	for _, m := range s.Members() {
		add("member", m)
	}
	for _, d := range s.Deletions() {
		add("deletion", d)
	}
	for e := range s.Audit(0) {
		add("audit entry", e)
	}
	for _, k := range idempotencyKeys {
		if reply := s.Reply(k); reply != nil {
			add("reply", reply)
		}
	}
	return rows
}

// timelineKeys are the keys of deployments that tests use.
var timelineKeys = []string{"a", "a-2", "b", "c", "d"}

// idempotencyKeys are the keys that tests use.
var idempotencyKeys = []string{"k0", "k1", "k2", "k3"}

func jsonOf(t testing.TB, doc interface{ MarshalJSON() ([]byte, error) }) string {
	t.Helper()
	data, err := doc.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func dump(t testing.TB, s *fsm.Snapshot) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// reload sends the state through a snapshot into a new one.
func (r *replica) reload() {
	r.Helper()
	back, err := fsm.ReadSnapshot(bytes.NewReader(dump(r, r.snap())))
	if err != nil {
		r.Fatal(err)
	}
	r.state = back
}

func ptr[T any](v T) *T { return &v }

func packageDoc(name string, dependencies ...string) *model.OPackage {
	return &model.OPackage{
		Name: name, Version: ptr("1.0"), Dependencies: dependencies,
		Classes: []model.OClass{{Key: "cls", FunctionBindings: []model.FunctionBinding{
			{Name: "run", FunctionKey: "fn", AccessModifier: model.AccessPublic},
		}}},
		Functions: []model.OFunction{{Key: "fn", FunctionType: model.FunctionCustom,
			ProvisionConfig: &model.ProvisionConfig{ContainerImage: ptr("img:<1>")}, Config: map[string]string{"b": "2", "a": "1"}}},
	}
}

func putPackage(t testing.TB, name string, dependencies ...string) *pmpb.PutPackage {
	return &pmpb.PutPackage{Document: []byte(jsonOf(t, packageDoc(name, dependencies...)))}
}

func deploymentDoc(key string) *model.OClassDeployment {
	return &model.OClassDeployment{
		Key: key, PackageName: "pkg", ClassKey: "cls", Condition: model.ConditionPending,
		NFRRequirements: model.NFRRequirements{Availability: ptr(0.99)},
		EnvTemplates:    map[string]string{"z": "t", "a": "t"},
	}
}

// commit makes the command for deployment key with uid "u-<key>" and one unit per
// environment with the given content.
func commit(t testing.TB, key, content string, envs ...string) *pmpb.CommitDeployment {
	t.Helper()
	op := &pmpb.CommitDeployment{
		Uid: "u-" + key, Document: []byte(jsonOf(t, deploymentDoc(key))), Plan: []byte(`{"why":"test"}`),
	}
	for _, env := range envs {
		op.Units = append(op.Units, &pmpb.PlannedUnit{
			Id: unitID(key, env), Env: env, ContentHash: hashOf(content),
			Desired: &oaaspb.DeploymentUnit{
				Id: unitID(key, env), PackageName: "pkg", ClassKey: "cls", TargetEnv: env, SelectedTemplate: ptr(content),
				CreatedAt: &oaaspb.Timestamp{Seconds: 1}, Delivery: &oaaspb.Delivery{Fence: 1},
			},
		})
	}
	return op
}

// desired decodes the content of a unit.
func desired(t testing.TB, u *pmpb.Unit) *oaaspb.DeploymentUnit {
	t.Helper()
	d, err := fsm.Desired(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func unitID(key, env string) string { return key + "-" + env }

func hashOf(content string) string { return "hash-" + content }

// about starts an update about a unit's present fence.
func (r *replica) about(id string) *pmpb.UnitUpdate {
	u := r.snap().Unit(id)
	return &pmpb.UnitUpdate{Id: id, Fence: u.GetFence(), Epoch: u.GetEpoch()}
}

func acked(u *pmpb.UnitUpdate, content string) *pmpb.UnitUpdate {
	u.Update = &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{
		Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: hashOf(content), Time: timestamppb.New(epoch),
	}}
	return u
}

func gone(u *pmpb.UnitUpdate) *pmpb.UnitUpdate {
	u.Update = &pmpb.UnitUpdate_Gone{Gone: &pmpb.Gone{}}
	return u
}

func lost(u *pmpb.UnitUpdate) *pmpb.UnitUpdate {
	u.Update = &pmpb.UnitUpdate_Lost{Lost: &pmpb.Lost{Message: "lost it"}}
	return u
}

func waiting(u *pmpb.UnitUpdate, code string, permanent bool) *pmpb.UnitUpdate {
	u.Update = &pmpb.UnitUpdate_Waiting{Waiting: &pmpb.Waiting{Code: code, Message: "m-" + code, Permanent: permanent}}
	return u
}

func runs(u *pmpb.UnitUpdate, content string, condition oaaspb.DeploymentCondition) *pmpb.UnitUpdate {
	u.Update = &pmpb.UnitUpdate_Runtime{Runtime: &oaaspb.ClassRuntimeSummary{
		Id: u.GetId(), DeploymentUnitId: u.GetId(), Status: &oaaspb.ClassRuntimeStatus{Condition: condition},
		Delivery: &oaaspb.Delivery{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: hashOf(content)},
	}}
	return u
}

func (r *replica) update(updates ...*pmpb.UnitUpdate) uint64 {
	r.Helper()
	return r.must(&pmpb.UpdateUnits{Updates: updates})
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}
