package fsm_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// step is one update about the unit d-e1, made when it is applied.
type step func(*replica) *pmpb.UnitUpdate

func ackOf(content string) step {
	return func(r *replica) *pmpb.UnitUpdate { return acked(r.about("d-e1"), content) }
}

func waitFor(code string, permanent bool) step {
	return func(r *replica) *pmpb.UnitUpdate { return waiting(r.about("d-e1"), code, permanent) }
}

func report(content string, c oaaspb.DeploymentCondition) step {
	return func(r *replica) *pmpb.UnitUpdate { return runs(r.about("d-e1"), content, c) }
}

func goneNow(r *replica) *pmpb.UnitUpdate { return gone(r.about("d-e1")) }
func lostNow(r *replica) *pmpb.UnitUpdate { return lost(r.about("d-e1")) }

// shifted makes the update speak of another fence and epoch.
func shifted(s step, fence, epoch int) step {
	return func(r *replica) *pmpb.UnitUpdate {
		u := s(r)
		u.Fence = uint64(int(u.Fence) + fence)
		u.Epoch = uint64(int(u.Epoch) + epoch)
		return u
	}
}

func buryIt(r *replica) *pmpb.UnitUpdate {
	r.must(commit(r, "d", "c", "e9"))
	return waiting(r.about("d-e9"), "OTHER", false)
}

func TestUpdateUnits(t *testing.T) {
	running := oaaspb.DeploymentCondition_RUNNING
	tests := []struct {
		name  string
		given []step
		when  step
		// then edits the unit as it was before; nil means that nothing changes.
		then func(u *pmpb.Unit, index uint64)
	}{
		{"ack", nil, ackOf("c"), func(u *pmpb.Unit, _ uint64) {
			u.Ack = &pmpb.Ack{Epoch: u.Epoch, Fence: u.Fence, ContentHash: "hash-c", Time: timestamppb.New(epoch)}
		}},
		{"ack ends the waiting", []step{waitFor("X", false)}, ackOf("c"), func(u *pmpb.Unit, _ uint64) {
			u.Waiting = nil
			u.Ack = &pmpb.Ack{Epoch: u.Epoch, Fence: u.Fence, ContentHash: "hash-c", Time: timestamppb.New(epoch)}
		}},
		{"ack of other content does not", []step{waitFor("X", false)}, ackOf("zzz"), func(u *pmpb.Unit, _ uint64) {
			u.Ack = &pmpb.Ack{Epoch: u.Epoch, Fence: u.Fence, ContentHash: "hash-zzz", Time: timestamppb.New(epoch)}
		}},
		{"ack again", []step{ackOf("c")}, func(r *replica) *pmpb.UnitUpdate {
			u := acked(r.about("d-e1"), "c")
			u.GetAcked().Time = timestamppb.New(timeOf(99))
			return u
		}, nil},
		{"ack of an older fence", nil, shifted(ackOf("c"), -1, 0), nil},
		{"ack of an older epoch", nil, shifted(ackOf("c"), 0, -1), nil},
		{"ack of a fence that never was", nil, shifted(ackOf("c"), 1, 0), nil},
		{"ack of a tombstone", []step{buryIt}, ackOf("c"), nil},
		{"runtime", nil, report("c", running), func(u *pmpb.Unit, _ uint64) {
			u.Runtime = runs(&pmpb.UnitUpdate{Id: u.Id, Fence: u.Fence, Epoch: u.Epoch}, "c", running).GetRuntime()
		}},
		{"runtime again", []step{report("c", running)}, report("c", running), nil},
		{"runtime of an older fence", nil, shifted(report("c", running), -1, 0), nil},
		{"waiting", nil, waitFor("X", true), func(u *pmpb.Unit, index uint64) {
			u.Waiting = &pmpb.Waiting{Code: "X", Message: "m-X", Permanent: true, Since: timestamppb.New(timeOf(index))}
		}},
		{"waiting for the same", []step{waitFor("X", false)}, waitFor("X", false), nil},
		{"waiting for the same, refused now", []step{waitFor("X", false)}, waitFor("X", true), func(u *pmpb.Unit, _ uint64) { u.Waiting.Permanent = true }},
		{"waiting for something else", []step{waitFor("X", false)}, waitFor("Y", false), func(u *pmpb.Unit, index uint64) {
			u.Waiting = &pmpb.Waiting{Code: "Y", Message: "m-Y", Since: timestamppb.New(timeOf(index))}
		}},
		{"waiting though acknowledged", []step{ackOf("c")}, waitFor("X", false), nil},
		{"waiting for a tombstone", []step{ackOf("c"), buryIt}, waitFor("X", false), func(u *pmpb.Unit, index uint64) {
			u.Waiting = &pmpb.Waiting{Code: "X", Message: "m-X", Since: timestamppb.New(timeOf(index))}
		}},
		{"lost", []step{ackOf("c"), report("c", running)}, lostNow, func(u *pmpb.Unit, index uint64) {
			u.Ack, u.Runtime = nil, nil
			u.Waiting = &pmpb.Waiting{Code: fsm.WaitingLost, Message: "lost it", Since: timestamppb.New(timeOf(index))}
		}},
		{"lost before it was acknowledged", nil, lostNow, nil},
		{"lost an older fence", []step{ackOf("c")}, shifted(lostNow, -1, 0), nil},
		{"lost a tombstone", []step{ackOf("c"), buryIt}, lostNow, nil},
		{"gone but wished", []step{ackOf("c")}, goneNow, nil},
		{"gone of an older fence", []step{buryIt}, shifted(goneNow, -1, 0), nil},
		{"gone of an older epoch", []step{buryIt}, shifted(goneNow, 0, -1), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReplica(t)
			r.must(&pmpb.Found{ClusterId: "c"})
			r.must(commit(t, "d", "c", "e1"))
			for _, s := range tt.given {
				r.update(s(r))
			}
			want := proto.CloneOf(r.snap().Unit("d-e1"))
			index := r.update(tt.when(r))
			if tt.then != nil {
				tt.then(want, index)
				want.ModifyIndex = index
			}
			equal(t, "unit", r.snap().Unit("d-e1"), want)
		})
	}
}

func TestUpdatesSeeEachOther(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c", "e1"))
	r.update(waitFor("X", false)(r), ackOf("c")(r), waitFor("Y", false)(r), report("c", oaaspb.DeploymentCondition_RUNNING)(r))
	u := r.snap().Unit("d-e1")
	if !fsm.Acknowledged(u) || u.GetWaiting() != nil || u.GetRuntime() == nil {
		t.Fatalf("unit is %v", u)
	}
}

func TestUpdateUnitsOfUnknownUnits(t *testing.T) {
	r := newReplica(t)
	before := rowsOf(t, r.snap())
	r.update(&pmpb.UnitUpdate{Id: "none", Update: &pmpb.UnitUpdate_Gone{Gone: &pmpb.Gone{}}})
	equal(t, "rows", rowsOf(t, r.snap()), before)
}

func TestUpdateThatSaysNothing(t *testing.T) {
	r := newReplica(t)
	r.must(commit(t, "d", "c", "e1"))
	isInvalid(t, r.refused(&pmpb.UpdateUnits{Updates: []*pmpb.UnitUpdate{ackOf("c")(r), r.about("d-e1")}}), "update 1")
}

func TestFound(t *testing.T) {
	r := newReplica(t)
	equal(t, "epoch before", r.snap().Meta().GetEpoch(), uint64(fsm.FirstEpoch))
	isInvalid(t, r.refused(&pmpb.Found{}), "cluster id")
	r.must(&pmpb.Found{ClusterId: "one"})
	r.must(&pmpb.Found{ClusterId: "two"})
	equal(t, "cluster id", r.snap().Meta().GetClusterId(), "one")
}

func TestClusters(t *testing.T) {
	r := newReplica(t)
	row := func(address string) *pmpb.PutCluster {
		return &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1", Address: address, Labels: map[string]string{"a": "b"}, CreateIndex: 77, ModifyIndex: 78}}
	}
	isInvalid(t, r.refused(&pmpb.PutCluster{}), "cluster name")
	created := r.must(row("a:1"))
	r.must(row("a:1"))
	equal(t, "modify index of an equal row", r.snap().Cluster("e1").GetModifyIndex(), created)
	changed := r.must(row("a:2"))
	want := row("a:2").GetCluster()
	want.CreateIndex, want.ModifyIndex = created, changed
	equal(t, "cluster", r.snap().Cluster("e1"), want)
	equal(t, "clusters", r.snap().Clusters(), []*pmpb.Cluster{want})

	isNotFound(t, r.refused(&pmpb.RemoveCluster{Name: "none"}), fsm.TableClusters, "none")
	r.must(commit(t, "d", "c", "e1"))
	r.must(&pmpb.DeleteDeployment{Key: "d"})
	var inUse *fsm.InUseError
	if err := r.refused(&pmpb.RemoveCluster{Name: "e1"}); !errors.As(err, &inUse) || inUse.By != "d-e1" {
		t.Fatalf("error is %v, want that a tombstone uses the cluster", err)
	}
	r.update(gone(r.about("d-e1")))
	r.must(&pmpb.RemoveCluster{Name: "e1"})
	if r.snap().Cluster("e1") != nil {
		t.Fatal("the cluster is still there")
	}
}

func TestMembers(t *testing.T) {
	r := newReplica(t)
	row := func(address string) *pmpb.PutMember {
		return &pmpb.PutMember{Member: &pmpb.Member{ServerId: "s1", RaftAddress: address, ModifyIndex: 77}}
	}
	isInvalid(t, r.refused(&pmpb.PutMember{}), "server id")
	first := r.must(row("a:1"))
	r.must(row("a:1"))
	equal(t, "modify index of an equal row", r.snap().Member("s1").GetModifyIndex(), first)
	second := r.must(row("a:2"))
	want := row("a:2").GetMember()
	want.ModifyIndex = second
	equal(t, "members", r.snap().Members(), []*pmpb.Member{want})
	isNotFound(t, r.refused(&pmpb.RemoveMember{ServerId: "none"}), fsm.TableMembers, "none")
	r.must(&pmpb.RemoveMember{ServerId: "s1"})
	equal(t, "members", len(r.snap().Members()), 0)
}

func TestUnitsChangedSince(t *testing.T) {
	r := newReplica(t)
	r.must(putPackage(t, "pkg"))
	first := r.must(commit(t, "a", "c", "e1", "e2"))
	second := r.must(commit(t, "b", "c", "e1", "e10"))
	ids := func(env string, index uint64) (out []string) {
		for u := range r.snap().UnitsChangedSince(env, index) {
			out = append(out, u.GetDeploymentKey())
		}
		return out
	}
	equal(t, "all", ids("e1", 0), []string{"a", "b"})
	equal(t, "since the first", ids("e1", first), []string{"b"})
	equal(t, "since the second", ids("e1", second), []string(nil))
	equal(t, "another environment", ids("e10", 0), []string{"b"})
	equal(t, "no environment", ids("e", 0), []string(nil))
	// A change moves a unit to the end.
	r.must(&pmpb.DeleteDeployment{Key: "a"})
	equal(t, "after a change", ids("e1", 0), []string{"b", "a"})
	r.reload()
	equal(t, "after a restore", ids("e1", first), []string{"b", "a"})
}
