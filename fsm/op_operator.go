package fsm

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

// Bounds of what operators and the leader may store here.
const (
	maxPinnedServers = 64
	maxAlarms        = 64
	maxAlarmText     = 1024
)

// putAutopilot replaces the settings of autopilot. What they mean is checked by
// whoever proposes them; here only their size is.
func putAutopilot(c *call, op *pmpb.PutAutopilot) error {
	row := op.GetAutopilot()
	if row == nil {
		return invalidf("there are no settings")
	}
	if n := len(row.GetNonVoters()); n > maxPinnedServers {
		return invalidf("%d servers must not vote, at most %d are allowed", n, maxPinnedServers)
	}
	for _, id := range row.GetNonVoters() {
		if err := checkKey("server id", id); err != nil {
			return err
		}
	}
	have := c.view.Autopilot()
	row.ModifyIndex = have.GetModifyIndex()
	if proto.Equal(have, row) {
		return nil
	}
	row.ModifyIndex = c.index
	c.put(atAutopilot, row)
	return nil
}

// updateAlarms clears and raises alarms. One that is raised again with another
// message keeps its time.
func updateAlarms(c *call, op *pmpb.UpdateAlarms) error {
	rows := map[string]*pmpb.Alarm{}
	for _, a := range c.view.Alarms() {
		rows[alarmKey(a.GetKey())] = a
	}
	for _, k := range op.GetClear() {
		if have, ok := rows[alarmKey(k)]; ok {
			delete(rows, alarmKey(k))
			c.drop(atAlarms, have)
		}
	}
	for _, a := range op.GetRaise() {
		if err := checkAlarm(a); err != nil {
			return err
		}
		key := alarmKey(a.GetKey())
		have, raised := rows[key]
		if raised && have.GetMessage() == a.GetMessage() {
			continue
		}
		row := &pmpb.Alarm{Key: a.GetKey(), Message: a.GetMessage(), Since: c.now(), ModifyIndex: c.index}
		if raised {
			row.Since = have.GetSince()
		}
		rows[key] = row
		c.put(atAlarms, row)
	}
	if len(rows) > maxAlarms {
		return invalidf("%d alarms, at most %d are kept", len(rows), maxAlarms)
	}
	return nil
}

func checkAlarm(a *pmpb.Alarm) error {
	if a.GetKey().GetKind() == pmpb.AlarmKey_KIND_UNSPECIFIED {
		return invalidf("an alarm has no kind")
	}
	if len(a.GetMessage()) > maxAlarmText {
		return invalidf("an alarm's message has %d bytes, at most %d are allowed", len(a.GetMessage()), maxAlarmText)
	}
	return checkKey("server id", a.GetKey().GetServerId())
}

// alarmKey orders alarms by kind, then server.
func alarmKey(k *pmpb.AlarmKey) string { return fmt.Sprintf("%03d/%s", k.GetKind(), k.GetServerId()) }

// stagedKey orders pieces by restore, then number.
func stagedKey(p *pmpb.StagedPiece) string {
	return fmt.Sprintf("%s/%010d", p.GetRestoreId(), p.GetSequence())
}

// Alarmed reports whether an alarm of that kind is raised for that server.
func (s *Snapshot) Alarmed(kind pmpb.AlarmKey_Kind, serverID string) bool {
	return slices.ContainsFunc(s.Alarms(), func(a *pmpb.Alarm) bool {
		return a.GetKey().GetKind() == kind && a.GetKey().GetServerId() == serverID
	})
}
