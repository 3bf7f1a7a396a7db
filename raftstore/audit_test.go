package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// audited gives the audit log of a node as text, the oldest first.
func (n *testNode) audited() []string {
	var out []string
	for e := range n.State().Snapshot().Audit(0) {
		note := e.GetNote()
		out = append(out, fmt.Sprintf("%s %s %q by %q from %q as %q", note.GetAction(), note.GetObject(), note.GetDetail(), note.GetAgent(), note.GetAddress(), e.GetRequestId()))
	}
	slices.Reverse(out)
	return out
}

// What is done at any node, and what the leader does, is on record on all.
func TestWhatOperatorsDoIsOnRecordEverywhere(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	for _, n := range c.nodes {
		n.expectLevel(fsm.Level)
	}
	leader := c.leader()
	follower := c.others(leader)[0]
	ctx := WithOrigin(within(t, patience), Origin{RequestID: "r-1", Principal: "ann", Address: "10.0.0.7:4711", Agent: "pmctl/1"})
	if err := follower.Remark(ctx, "raft.tune", follower.ServerID(), "trailing_logs: 7"); err != nil {
		t.Fatal(err)
	}
	if err := leader.SetVote(ctx, follower.ServerID(), false); err != nil {
		t.Fatal(err)
	}
	if err := leader.SetAutopilotConfig(ctx, &pmpb.Autopilot{DesiredVoters: 3}); err != nil {
		t.Fatal(err)
	}
	by := `by "pmctl/1" from "10.0.0.7:4711" as "r-1"`
	want := []string{
		fmt.Sprintf(`feature.raise  "level %d" by "leader" from "" as ""`, fsm.Level),
		fmt.Sprintf(`raft.tune %s "trailing_logs: 7" %s`, follower.ServerID(), by),
		fmt.Sprintf(`member.demote %s %q %s`, follower.ServerID(), leader.State().Snapshot().Member(follower.ServerID()).GetName(), by),
		fmt.Sprintf(`autopilot.configure  "cleanup_dead_servers: true -> -, desired_voters: - -> 3, spread_zones: true -> -, non_voters: %s -> -" %s`, follower.ServerID(), by),
	}
	for _, n := range c.nodes {
		eventually(t, "the audit log of "+n.name, func() error {
			have := slices.DeleteFunc(n.audited(), func(line string) bool { return line == want[0] })
			if !slices.Equal(have, want[1:]) {
				return fmt.Errorf("it has %q, want %q", have, want[1:])
			}
			return nil
		})
	}
}

// Servers of an earlier release could not read a note, so commands go without, and
// what would be nothing but a note is refused.
func TestNotesWaitForTheLastUpgrade(t *testing.T) {
	t.Parallel()
	c := startOlder(t)
	leader := c.leader()
	ctx := WithOrigin(within(t, patience), Origin{RequestID: "r-1"})
	if err := leader.Remark(ctx, "snapshot.save", "", ""); !errors.Is(err, fsm.ErrFeatureLevel) {
		t.Errorf("a remark at level 1: %v", err)
	}
	cmd := put("k", "noted")
	cmd.Note = fsm.NewNote("package.update", "k", "")
	mustApply(t, leader, cmd)
	if have := leader.audited(); len(have) != 0 {
		t.Errorf("the audit log has %q", have)
	}
	c.expectEverywhere("k", "noted")
}
