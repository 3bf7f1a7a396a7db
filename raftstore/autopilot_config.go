package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// ConfigError says which setting cannot be used.
type ConfigError struct {
	Field, Reason string
}

func (e *ConfigError) Error() string { return fmt.Sprintf("raftstore: %s: %s", e.Field, e.Reason) }

// The defaults of autopilot.
const (
	defaultDeadServerGrace = 10 * time.Minute
	defaultTrailingLogs    = 1000
)

// AutopilotConfig gives the settings of autopilot, complete with their defaults.
func (n *Node) AutopilotConfig() *pmpb.Autopilot {
	c := n.storedAutopilot()
	orDuration := func(d **durationpb.Duration, otherwise time.Duration) {
		if (*d).AsDuration() <= 0 {
			*d = durationpb.New(otherwise)
		}
	}
	orDuration(&c.DeadServerGrace, defaultDeadServerGrace)
	orDuration(&c.LastContactThreshold, 2*n.timing.Heartbeat)
	orDuration(&c.ServerStabilization, n.timing.Stabilization)
	if c.MaxTrailingLogs == 0 {
		c.MaxTrailingLogs = defaultTrailingLogs
	}
	if c.MinQuorum == 0 {
		voters := c.DesiredVoters
		if voters == 0 {
			voters = uint32(max(n.voters(), leastVoters))
		}
		c.MinQuorum = voters/2 + 1
	}
	return c
}

// storedAutopilot gives a copy of the settings as they are stored, without the
// defaults of what is zero. Before there are any, what can only be on or off is on.
func (n *Node) storedAutopilot() *pmpb.Autopilot {
	if row := n.state.Snapshot().Autopilot(); row != nil {
		return proto.CloneOf(row)
	}
	return &pmpb.Autopilot{CleanupDeadServers: true, SpreadZones: true}
}

func (n *Node) voters() (count int) {
	for _, s := range n.Servers() {
		if s.Voter {
			count++
		}
	}
	return count
}

// SetAutopilotConfig replaces the settings; what is zero takes its default. When
// its ModifyIndex is not 0 it must be that of the present settings, else the error
// is a *fsm.GuardError. A setting that makes no sense gives a *ConfigError.
func (n *Node) SetAutopilotConfig(ctx context.Context, c *pmpb.Autopilot) error {
	return n.putAutopilot(ctx, c, operatorNote(ctx, "", "autopilot.configure", "", changedSettings(n.state.Snapshot().Autopilot(), c)))
}

func (n *Node) putAutopilot(ctx context.Context, c *pmpb.Autopilot, note *pmpb.AuditNote) error {
	if err := n.checkAutopilot(c); err != nil {
		return err
	}
	cmd := &pmpb.Command{Note: note, Op: &pmpb.Command_PutAutopilot{PutAutopilot: &pmpb.PutAutopilot{Autopilot: proto.CloneOf(c)}}}
	if c.GetModifyIndex() != 0 {
		cmd.Guards = []*pmpb.Guard{{Table: pmpb.Guard_TABLE_AUTOPILOT, Key: "autopilot", ModifyIndex: c.GetModifyIndex()}}
	}
	res, err := n.Apply(ctx, cmd)
	return errors.Join(err, res.Err)
}

// changedSettings tells what differs between two settings, one "name: old -> new"
// after the other. A default is told as -.
func changedSettings(old, now *pmpb.Autopilot) string {
	var out []string
	a, b := old.ProtoReflect(), now.ProtoReflect()
	fields := b.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		from, to := settingText(a, fd), settingText(b, fd)
		if fd.Name() != "modify_index" && from != to {
			out = append(out, fmt.Sprintf("%s: %s -> %s", fd.Name(), from, to))
		}
	}
	return strings.Join(out, ", ")
}

func settingText(m protoreflect.Message, fd protoreflect.FieldDescriptor) string {
	if !m.Has(fd) {
		return "-"
	}
	value := m.Get(fd).Interface()
	switch v := value.(type) {
	case protoreflect.List:
		var texts []string
		for i := range v.Len() {
			texts = append(texts, v.Get(i).String())
		}
		return strings.Join(texts, " ")
	case protoreflect.Message:
		if d, ok := v.Interface().(*durationpb.Duration); ok {
			return d.AsDuration().String()
		}
	}
	return fmt.Sprint(value)
}

func (n *Node) checkAutopilot(c *pmpb.Autopilot) error {
	bad := func(field, format string, args ...any) error {
		return &ConfigError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	for field, d := range map[string]*durationpb.Duration{
		"dead_server_grace": c.GetDeadServerGrace(), "last_contact_threshold": c.GetLastContactThreshold(), "server_stabilization": c.GetServerStabilization(),
	} {
		if d != nil && (!d.IsValid() || d.AsDuration() < 0) {
			return bad(field, "must not be negative")
		}
	}
	if d := c.GetLastContactThreshold(); d.AsDuration() != 0 && d.AsDuration() < n.timing.Heartbeat/5 {
		return bad("last_contact_threshold", "%s is below the pause between two heartbeats, %s", d.AsDuration(), n.timing.Heartbeat/5)
	}
	if g := c.GetDeadServerGrace().AsDuration(); g != 0 && g < 2*n.timing.Heartbeat {
		return bad("dead_server_grace", "%s is too short to tell a dead server from one that restarts, at least %s", g, 2*n.timing.Heartbeat)
	}
	if v := c.GetDesiredVoters(); v != 0 && (v%2 == 0 || v > 7) {
		return bad("desired_voters", "%d: want an odd number up to 7, or 0 for automatic", v)
	}
	if v := c.GetDesiredVoters(); v != 0 && c.GetMinQuorum() > v {
		return bad("min_quorum", "%d is more than the %d voters that are wanted", c.GetMinQuorum(), v)
	}
	if c.GetMinQuorum() > 7 {
		return bad("min_quorum", "%d: at most 7", c.GetMinQuorum())
	}
	for _, id := range c.GetNonVoters() {
		if _, err := uuid.Parse(id); err != nil {
			return bad("non_voters", "%.64q is not a server id", id)
		}
	}
	return nil
}

// SetVote lets a server have a vote, or keeps it from having one. Autopilot
// carries it out; a leader that must not vote hands leadership over first.
func (n *Node) SetVote(ctx context.Context, id string, allowed bool) error {
	if !slices.ContainsFunc(n.Servers(), func(s Server) bool { return s.ID == id }) {
		return &UnknownServerError{ID: id}
	}
	action := "member.promote"
	if !allowed {
		action = "member.demote"
	}
	note := operatorNote(ctx, "", action, id, n.state.Snapshot().Member(id).GetName())
	const attempts = 5 // against other changes of the settings at the same time
	var err error
	for range attempts {
		c := n.storedAutopilot()
		c.NonVoters = slices.DeleteFunc(c.NonVoters, func(other string) bool { return other == id })
		if !allowed {
			c.NonVoters = append(c.NonVoters, id)
		}
		err = n.putAutopilot(ctx, c, note)
		var moved *fsm.GuardError
		if !errors.As(err, &moved) {
			return err
		}
	}
	return err
}

// UnknownServerError says that no server of the cluster has that id.
type UnknownServerError struct{ ID string }

func (e *UnknownServerError) Error() string {
	return fmt.Sprintf("raftstore: there is no server %q in the cluster", e.ID)
}
