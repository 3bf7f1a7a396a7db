package fsm_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func noSpace(server, message string) *pmpb.UpdateAlarms {
	return &pmpb.UpdateAlarms{Raise: []*pmpb.Alarm{{Key: noSpaceKey(server), Message: message}}}
}

func noSpaceKey(server string) *pmpb.AlarmKey {
	return &pmpb.AlarmKey{Kind: pmpb.AlarmKey_KIND_NO_SPACE, ServerId: server}
}

func atLevel2(t *testing.T) *replica {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: 2})
	return r
}

func TestFeatureLevelOnlyRises(t *testing.T) {
	r := newReplica(t)
	equal(t, "level of a new state", r.snap().FeatureLevel(), uint32(1))
	r.must(&pmpb.RaiseFeatureLevel{Level: 2})
	r.must(&pmpb.RaiseFeatureLevel{Level: 1})
	equal(t, "level", r.snap().FeatureLevel(), uint32(2))
	if res := r.try(&pmpb.RaiseFeatureLevel{Level: fsm.Level + 1}); !errors.Is(res.Err, fsm.ErrUnknownCommand) {
		t.Fatalf("a level that this build does not know gives %v", res.Err)
	}
}

// A state of level 1 must never hold what its older servers cannot read.
func TestCommandsOfAHigherLevelAreRefused(t *testing.T) {
	r := newReplica(t)
	for _, op := range []any{&pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{}}, noSpace("s", "full")} {
		if res := r.try(op); !errors.Is(res.Err, fsm.ErrFeatureLevel) {
			t.Errorf("%T at level 1 gives %v", op, res.Err)
		}
	}
	equal(t, "format at level 1", dump(t, r.snap())[headerBytes-1], byte(1))
	r.must(&pmpb.RaiseFeatureLevel{Level: 2})
	equal(t, "format at level 2", dump(t, r.snap())[headerBytes-1], byte(2))
	for _, cmd := range []*pmpb.Command{command(t, &pmpb.Remark{}, noted("x", "y")), command(t, putPackage(t, "p"), noted("x", "y"))} {
		if res := r.raw(encode(t, cmd)); !errors.Is(res.Err, fsm.ErrFeatureLevel) {
			t.Errorf("a note at level 2 gives %v", res.Err)
		}
	}
	r.must(&pmpb.RaiseFeatureLevel{Level: 3})
	equal(t, "format at level 3", dump(t, r.snap())[headerBytes-1], byte(3))
}

func TestAlarmsMakeTheStateReadOnly(t *testing.T) {
	r := atLevel2(t)
	r.must(putPackage(t, "pkg"))
	r.must(commit(t, "a", "c", "e1"))
	r.must(noSpace("s1", "12 MiB left"))
	since := r.snap().Alarms()[0].GetSince()
	for _, op := range []any{putPackage(t, "other"), commit(t, "b", "c", "e1")} {
		res := r.try(op)
		var readOnly *fsm.ReadOnlyError
		if !errors.Is(res.Err, fsm.ErrReadOnly) || !errors.As(res.Err, &readOnly) || len(readOnly.Alarms) != 1 {
			t.Errorf("%T while an alarm is raised gives %v", op, res.Err)
		}
	}
	r.must(noSpace("s1", "11 MiB left"))
	alarm := r.snap().Alarms()[0]
	if !proto.Equal(alarm.GetSince(), since) || alarm.GetMessage() != "11 MiB left" {
		t.Fatalf("raised again: %v, want the new message and the time of the first", alarm)
	}
	r.must(&pmpb.DeleteDeployment{Key: "a"})
	r.must(&pmpb.UpdateAlarms{Clear: []*pmpb.AlarmKey{noSpaceKey("s1")}})
	r.must(putPackage(t, "other"))
}

func TestAutopilotIsGuardedAndKept(t *testing.T) {
	r := atLevel2(t)
	r.must(&pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{DesiredVoters: 5, ModifyIndex: 99}})
	have := r.snap().Autopilot()
	equal(t, "modify index", have.GetModifyIndex(), r.snap().Index())
	guard := func(index uint64) func(*pmpb.Command) {
		return func(c *pmpb.Command) {
			c.Guards = []*pmpb.Guard{{Table: pmpb.Guard_TABLE_AUTOPILOT, Key: "autopilot", ModifyIndex: index}}
		}
	}
	var moved *fsm.GuardError
	if res := r.try(&pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{DesiredVoters: 3}}, guard(have.GetModifyIndex()-1)); !errors.As(res.Err, &moved) {
		t.Fatalf("an outdated guard gives %v", res.Err)
	}
	if res := r.try(&pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{DesiredVoters: 3}}, guard(have.GetModifyIndex())); res.Err != nil {
		t.Fatal(res.Err)
	}
	equal(t, "desired voters", r.snap().Autopilot().GetDesiredVoters(), uint32(3))
}

func ephemeral(key string) []func(*pmpb.Command) {
	return []func(*pmpb.Command){remembering(key, "h", "body"), func(c *pmpb.Command) { c.Idempotency.Ephemeral = true }}
}

// The keys that nodes make for their own retries must not push out the keys of
// clients, however many writes there are.
func TestEphemeralRepliesHaveRoomOfTheirOwn(t *testing.T) {
	r := newReplica(t)
	if res := r.try(&pmpb.Found{ClusterId: "c"}, ephemeral("e")...); !errors.Is(res.Err, fsm.ErrFeatureLevel) {
		t.Fatalf("an ephemeral key at level 1 gives %v", res.Err)
	}
	r = atLevel2(t)
	r.must(&pmpb.Found{ClusterId: "c"}, remembering("client", "h", ""))
	r.must(&pmpb.Found{ClusterId: "c"}, ephemeral("first")...)
	if res := r.try(&pmpb.Found{ClusterId: "c"}, ephemeral("first")...); res.Reply == nil {
		t.Fatal("a retry was not recognised")
	}
	var entries []fsm.Entry
	for i := range fsm.MaxEphemeralReplies + 1 {
		data := encode(t, command(t, &pmpb.Found{ClusterId: "c"}, ephemeral(fmt.Sprint("e", i))...))
		entries = append(entries, fsm.Entry{Index: uint64(100 + i), Term: 1, Data: data})
	}
	r.state.ApplyBatch(entries[:fsm.MaxEphemeralReplies])
	r.reload() // the count is not part of a snapshot
	r.state.ApplyBatch(entries[fsm.MaxEphemeralReplies:])
	for key, want := range map[string]bool{"client": true, "first": false, "e0": false, "e1": true} {
		if got := r.snap().Reply(key) != nil; got != want {
			t.Errorf("reply %q is remembered: %v, want %v", key, got, want)
		}
	}
}

func TestEphemeralRepliesExpireSoon(t *testing.T) {
	r := atLevel2(t)
	at := func(d time.Duration) func(*pmpb.Command) {
		return func(c *pmpb.Command) { c.LeaderTime = timestamppb.New(epoch.Add(d)) }
	}
	r.must(&pmpb.Found{ClusterId: "c"}, append(ephemeral("e"), at(0))...)
	r.must(&pmpb.Found{ClusterId: "c"}, remembering("client", "h", ""), at(0))
	r.must(&pmpb.Found{ClusterId: "c"}, append(ephemeral("later"), at(fsm.EphemeralTTL+time.Second))...)
	if r.snap().Reply("e") != nil || r.snap().Reply("client") == nil {
		t.Fatal("want the ephemeral reply gone and the client's kept")
	}
}
