package raftstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// disputeRounds is the number of comparisons in a row that must find servers in
// dispute before the leader raises an alarm: one voter may just not have come to
// the index yet that tells who is right.
const disputeRounds = 2

// checkup looks after what no single server can know of itself, until the node
// stops: whether its history is that of the others, whether its clock is near
// theirs and, on the leader, whose disk is nearly full.
func (n *Node) checkup() {
	var c checkupState
	n.measureDisk()
	// The first comparison comes early: a clock should be known to be right before
	// its server leads.
	for wait := min(n.timing.Checkup, n.timing.Probe); pause(n.ctx, wait); wait = n.timing.Checkup {
		n.measureDisk()
		if !n.checkOthers(&c) {
			return
		}
	}
}

// checkupState is what one round leaves to the next one.
type checkupState struct {
	disputes int
	warned   bool
}

// checkOthers is one round. It reports false when it was the last one.
func (n *Node) checkOthers(c *checkupState) bool {
	servers := n.servers()
	var others []raft.Server
	votes := false
	for _, s := range servers {
		if string(s.ID) != n.serverID {
			others = append(others, s)
		} else {
			votes = s.Suffrage == raft.Voter
		}
	}
	ctx, cancel := context.WithTimeout(n.ctx, max(n.timing.Heartbeat, time.Second))
	defer cancel()
	answers := n.identifyServers(ctx, others)
	n.compareClocks(answers)

	verdict := n.compareChains(ctx, others, votes)
	if verdict.diverged != nil {
		n.quarantine(verdict.diverged)
		return false
	}
	if len(verdict.disputed) == 0 {
		c.disputes = 0
	} else {
		c.disputes++
	}
	n.countAlarms()
	if t := n.readyTerm(); t != nil {
		n.keepAlarms(t, c, servers, answers, &verdict)
	}
	return true
}

// compareChains holds this node's history against that of the others.
func (n *Node) compareChains(ctx context.Context, others []raft.Server, votes bool) chainVerdict {
	own := n.fsm.chain.sample()
	if len(own) == 0 || len(others) == 0 {
		return chainVerdict{unanimous: len(others) == 0}
	}
	v := judgeChains(own, votes, n.askChains(ctx, others, own))
	outcome := "unknown"
	switch {
	case v.diverged != nil:
		outcome = "diverged"
	case len(v.disputed) > 0:
		outcome = "disputed"
	case v.agreed > 0:
		outcome = "agreed"
		n.m.chainAgreed.Set(float64(v.agreed))
	}
	n.m.chainChecks.WithLabelValues(outcome).Inc()
	return v
}

func (n *Node) countAlarms() {
	count := map[pmpb.AlarmKey_Kind]int{pmpb.AlarmKey_KIND_NO_SPACE: 0, pmpb.AlarmKey_KIND_DIVERGED: 0}
	for _, a := range n.state.Snapshot().Alarms() {
		count[a.GetKey().GetKind()]++
	}
	for kind, c := range count {
		n.m.alarms.WithLabelValues(kind.String()).Set(float64(c))
	}
}

// keepAlarms raises and clears alarms. It is the leader's business.
func (n *Node) keepAlarms(t *term, c *checkupState, servers []raft.Server, answers []*pmpb.IdentifyResponse, v *chainVerdict) {
	op := &pmpb.UpdateAlarms{}
	snap := n.state.Snapshot()
	n.spaceAlarms(op, snap, servers, answers)
	n.historyAlarms(op, snap, c, servers, v)
	if len(op.GetRaise()) == 0 && len(op.GetClear()) == 0 {
		c.warned = false
		return
	}
	cmd := &pmpb.Command{ExpectedTerm: t.number, Op: &pmpb.Command_UpdateAlarms{UpdateAlarms: op}}
	if n.checkLevel(cmd) != nil {
		if !c.warned {
			n.log.Error("the state should be made read-only, but not all servers know how", "alarms", op.GetRaise())
			c.warned = true
		}
		return
	}
	for _, a := range op.GetRaise() {
		n.log.Error("alarm raised, the state is read-only", "kind", a.GetKey().GetKind(), "server_id", a.GetKey().GetServerId(), "reason", a.GetMessage())
	}
	for _, k := range op.GetClear() {
		n.log.Info("alarm cleared", "kind", k.GetKind(), "server_id", k.GetServerId())
	}
	n.submitLogged(t.ctx, "alarms not recorded", cmd)
}

// spaceAlarms compares disks with the watermark. A server that does not answer
// keeps its alarm, one that has left loses it.
func (n *Node) spaceAlarms(op *pmpb.UpdateAlarms, snap *fsm.Snapshot, servers []raft.Server, answers []*pmpb.IdentifyResponse) {
	member := make(map[string]bool, len(servers))
	for _, s := range servers {
		member[string(s.ID)] = true
	}
	for _, a := range snap.Alarms() {
		if a.GetKey().GetKind() == pmpb.AlarmKey_KIND_NO_SPACE && !member[a.GetKey().GetServerId()] {
			op.Clear = append(op.Clear, a.GetKey())
		}
	}
	judge := func(id string, free, total uint64) {
		if total == 0 || !member[id] {
			return
		}
		was := snap.Alarmed(pmpb.AlarmKey_KIND_NO_SPACE, id)
		key := &pmpb.AlarmKey{Kind: pmpb.AlarmKey_KIND_NO_SPACE, ServerId: id}
		switch low := n.opts.Watermark.judge(free, total, was); {
		case low && !was:
			op.Raise = append(op.Raise, &pmpb.Alarm{Key: key, Message: fmt.Sprintf(
				"%d MiB of %d MiB are free on the disk of server %s, %d MiB are wanted", free>>20, total>>20, id, n.opts.Watermark.low(total)>>20)})
		case !low && was:
			op.Clear = append(op.Clear, key)
		}
	}
	judge(n.serverID, n.disk.free.Load(), n.disk.total.Load())
	for _, a := range answers {
		judge(a.GetServerId(), a.GetDiskFree(), a.GetDiskTotal())
	}
}

// historyAlarms raises an alarm for each server that contradicts this one while
// no majority decides. An alarm ends when everybody agrees, when a majority does
// about all that was applied before it, or when its server has left: whoever is then
// still silent, it has nothing to do with them.
func (n *Node) historyAlarms(op *pmpb.UpdateAlarms, snap *fsm.Snapshot, c *checkupState, servers []raft.Server, v *chainVerdict) {
	if c.disputes >= disputeRounds {
		for _, id := range v.disputed {
			if snap.Alarmed(pmpb.AlarmKey_KIND_DIVERGED, id) {
				continue
			}
			op.Raise = append(op.Raise, &pmpb.Alarm{
				Key: &pmpb.AlarmKey{Kind: pmpb.AlarmKey_KIND_DIVERGED, ServerId: id},
				Message: fmt.Sprintf("servers %s and %s had applied different commands by command %d, and no majority of the voters tells which are right; "+
					"inspect their logs, then wipe the wrong one or remove it", n.serverID, id, v.at),
			})
		}
	}
	for _, a := range snap.Alarms() {
		if a.GetKey().GetKind() != pmpb.AlarmKey_KIND_DIVERGED {
			continue
		}
		member := slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == a.GetKey().GetServerId() })
		decided := len(v.disputed) == 0 && v.agreed > 0 && v.agreed >= a.GetModifyIndex()
		if v.unanimous || decided || !member {
			op.Clear = append(op.Clear, a.GetKey())
		}
	}
}

// maxClockError is how far this server's clock may be from the middle of all
// clocks before it is corrected.
const maxClockError = 5 * time.Second

// clockAnchor ties a time that was compared with the others' to the monotonic
// clock, so that setting the wall clock has no effect before the next comparison.
type clockAnchor struct {
	time time.Time
	seen time.Time // when, with a monotonic reading
}

// compareClocks finds out how far this server's clock is from the middle of all.
// The log's time never runs back, so a leader whose clock is ahead would hold it
// still for as long after its leadership. The middle of an even number is the
// lower one: a time that is late does less harm. A server that nobody answers
// has nothing but its own clock.
func (n *Node) compareClocks(answers []*pmpb.IdentifyResponse) {
	seen, now := time.Now(), n.opts.Now()
	offsets := []time.Duration{0}
	for _, a := range answers {
		if a.GetTime() != nil {
			offsets = append(offsets, a.GetTime().AsTime().Sub(now))
		}
	}
	slices.Sort(offsets)
	middle := offsets[(len(offsets)-1)/2]
	n.m.clockOffset.Set(middle.Seconds())
	correction := time.Duration(0)
	if middle.Abs() > maxClockError {
		correction = middle
	}
	if (correction != 0) != (n.clockCorrection != 0) {
		n.log.Warn("this server's clock was compared with those of the others", "they_are_ahead_by", middle, "corrected", correction != 0)
	}
	n.clockCorrection = correction
	n.clockAnchor.Store(&clockAnchor{time: now.Add(correction), seen: seen})
}

// clock gives the time to stamp commands with.
func (n *Node) clock() time.Time {
	a := n.clockAnchor.Load()
	if a == nil {
		return n.opts.Now()
	}
	return a.time.Add(time.Since(a.seen))
}

// ownTime is what this server tells others about its clock.
func (n *Node) ownTime() *timestamppb.Timestamp { return timestamppb.New(n.opts.Now()) }
