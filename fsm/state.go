package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
)

// FirstEpoch is the epoch of a control plane that was never restored.
const FirstEpoch = 1

// State is the replicated state. Apply, ApplyBatch and Restore are called by one
// goroutine at a time, in log order; everything else at any time.
type State struct {
	publisher *publisher
	handlers  handlers
}

// Entry is one command of the log.
type Entry struct {
	Index uint64
	Term  uint64
	// Data is an encoded pmpb.Command. It is not kept.
	Data []byte
}

// Result is the verdict on one command.
type Result struct {
	// Index is that of the command.
	Index uint64
	// Err is nil when the command took effect or was a replay. Otherwise nothing
	// but Meta has changed.
	Err error
	// Reply is set when the command's idempotency key was used before for the same
	// request: nothing has changed, and this is the answer to that request.
	Reply *pmpb.Reply
	// Chain is the hash over all commands up to and including this one. It is
	// empty when the entry was not applied, because a later one was before.
	Chain []byte
	// Restored is set when the command was a CommitRestore that took effect.
	Restored *Restored
}

// NewState makes an empty state.
func NewState() (*State, error) {
	s := &State{
		publisher: &publisher{newest: newStore(), waiting: map[topic]chan struct{}{}},
		handlers:  newHandlers(),
	}
	t := s.begin()
	if err := t.put(atMeta, &metaRow{pb: &pmpb.Meta{Epoch: FirstEpoch}}); err != nil {
		return nil, fmt.Errorf("fsm: first row: %w", err)
	}
	s.publisher.publish(t)
	return s, nil
}

// Snapshot gives a view of the state as it is now, in O(1).
func (s *State) Snapshot() *Snapshot { return s.publisher.view() }

func (s *State) begin() *txn { return s.Snapshot().store.begin() }

// Apply applies one command.
func (s *State) Apply(index, term uint64, data []byte) Result {
	return s.ApplyBatch([]Entry{{Index: index, Term: term, Data: data}})[0]
}

// ApplyBatch applies commands one after the other and publishes them together.
// The state and the results are the same as with one Apply each. There is one
// result per entry.
func (s *State) ApplyBatch(entries []Entry) []Result {
	results := make([]Result, len(entries))
	t := s.begin()
	defer s.publisher.publish(t)
	for i, e := range entries {
		results[i] = s.applyOne(t, e)
	}
	return results
}

func (s *State) applyOne(t *txn, e Entry) Result {
	c := &call{view: &Snapshot{store: t.store}, index: e.Index, term: e.Term}
	old := c.view.meta()
	if e.Index <= old.pb.GetAppliedIndex() {
		return Result{Index: e.Index, Err: fmt.Errorf("%w: entry %d, state %d", ErrIndexOrder, e.Index, old.pb.GetAppliedIndex())}
	}
	meta := *old
	meta.pb = advance(old.pb, e)
	c.meta = &meta
	reply, err := s.decide(c, e.Data)
	if err != nil {
		c.changes = nil // a handler may find out late
	}
	c.put(atMeta, c.meta)
	before := len(t.written)
	if werr := c.write(t); werr != nil {
		return Result{Index: e.Index, Err: werr}
	}
	if ch := changeOf(c, e, t.written[before:]); ch != nil {
		t.changes = append(t.changes, ch)
	}
	return Result{Index: e.Index, Err: err, Reply: reply, Chain: c.meta.pb.GetChainHash(), Restored: c.restored}
}

// decide lets the command collect its changes in c. A non-nil reply is that of
// an earlier command.
func (s *State) decide(c *call, data []byte) (*pmpb.Reply, error) {
	cmd, err := DecodeCommand(data)
	if err != nil {
		return nil, err
	}
	c.cmd = cmd
	if cmd.GetLeaderTime() != nil {
		c.meta.pb.Time = cmd.GetLeaderTime()
	}
	if want := cmd.GetExpectedTerm(); want != 0 && want != c.term {
		return nil, fmt.Errorf("%w: proposed in %d, appended in %d", ErrTermMismatch, want, c.term)
	}
	if err := s.checkLevel(c, cmd); err != nil {
		return nil, err
	}
	if reply, err := c.replay(cmd.GetIdempotency()); reply != nil || err != nil {
		return reply, err
	}
	if err := checkNote(cmd.GetNote()); err != nil {
		return nil, err
	}
	if err := c.checkGuards(cmd.GetGuards()); err != nil {
		return nil, err
	}
	if err := s.handlers.run(c, cmd); err != nil {
		return nil, err
	}
	c.remember(cmd.GetIdempotency())
	c.audit(cmd)
	c.keepTimeline()
	return nil, nil
}

// advance gives the meta row after e.
func advance(old *pmpb.Meta, e Entry) *pmpb.Meta {
	m := shallow(old)
	m.AppliedIndex, m.AppliedTerm = e.Index, e.Term
	m.AppliedCount = old.GetAppliedCount() + 1
	m.ChainHash = chain(old.GetChainHash(), e)
	return m
}

// chain extends the hash over all applied commands. It starts with no bytes.
func chain(previous []byte, e Entry) []byte {
	h := sha256.New()
	h.Write(previous)
	h.Write(binary.BigEndian.AppendUint64(nil, e.Index))
	h.Write(binary.BigEndian.AppendUint64(nil, e.Term))
	h.Write(e.Data)
	return h.Sum(nil)
}

// change is one row to write or, when remove is set, to remove.
type change struct {
	table  int
	row    any
	remove bool
}

// call is one command on its way: what a handler reads and what it collects.
type call struct {
	// view shows the state before the command.
	view  *Snapshot
	index uint64
	term  uint64
	// cmd is nil when it cannot be decoded.
	cmd *pmpb.Command
	// meta is the meta row after the command.
	meta    *metaRow
	changes []change
	// events are what the command tells the timeline.
	events []*pmpb.TimelineEvent
	// restored is what the command has restored, if that is what it did, and unpacked
	// how many bytes that was.
	restored *Restored
	unpacked int
}

// now is the command's time, or the last known one when it carries none. It is
// nil only when no command ever carried one.
func (c *call) now() *timestamppb.Timestamp { return c.meta.pb.GetTime() }

// put collects a row to write. A later change of the same row wins.
func (c *call) put(table int, row any) {
	c.changes = append(c.changes, change{table: table, row: row})
}

// drop collects a row to remove.
func (c *call) drop(table int, row any) {
	c.changes = append(c.changes, change{table: table, row: row, remove: true})
}

// write carries the changes out. It fails only when a handler puts a row into the
// wrong table, which no input can cause.
func (c *call) write(t *txn) error {
	for _, ch := range c.changes {
		var err error
		if ch.remove {
			err = t.remove(ch.table, ch.row)
		} else {
			err = t.put(ch.table, ch.row)
		}
		if err != nil {
			return fmt.Errorf("fsm: write to %s: %w", tables[ch.table], err)
		}
	}
	return nil
}

// checkGuards reports the first guard that does not hold.
func (c *call) checkGuards(guards []*pmpb.Guard) error {
	for _, g := range guards {
		have, err := c.modifyIndex(g.GetTable(), g.GetKey())
		if err != nil {
			return err
		}
		if have != g.GetModifyIndex() {
			return &GuardError{Guard: g, Have: have}
		}
	}
	return nil
}

func (c *call) modifyIndex(table pmpb.Guard_Table, key string) (uint64, error) {
	switch table {
	case pmpb.Guard_TABLE_PACKAGE:
		if p := c.view.Package(key); p != nil {
			return p.ModifyIndex, nil
		}
	case pmpb.Guard_TABLE_DEPLOYMENT:
		if d := c.view.Deployment(key); d != nil {
			return d.ModifyIndex, nil
		}
	case pmpb.Guard_TABLE_CLUSTER:
		return c.view.Cluster(key).GetModifyIndex(), nil
	case pmpb.Guard_TABLE_UNIT:
		return c.view.Unit(key).GetModifyIndex(), nil
	case pmpb.Guard_TABLE_AUTOPILOT:
		return c.view.Autopilot().GetModifyIndex(), nil
	case pmpb.Guard_TABLE_ROLLOUT:
		return c.view.Rollout(key).GetModifyIndex(), nil
	default:
		return 0, fmt.Errorf("%w: guard on table %d", ErrUnknownCommand, table)
	}
	return 0, nil
}
