package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Store is the replicated log and the state that it makes: what raftstore
// implements. Apply works on the leader only; ReadBarrier and WaitApplied on
// every node.
type Store interface {
	State() *fsm.State
	// Apply proposes cmd and returns once it was applied here. The result's Err
	// is the state machine's verdict; the error is the log's.
	Apply(ctx context.Context, cmd *pmpb.Command) (fsm.Result, error)
	// ReadBarrier returns once the local state holds every write that was
	// acknowledged before the call.
	ReadBarrier(ctx context.Context) (uint64, error)
	// WaitApplied returns once the local state has applied the command at index.
	WaitApplied(ctx context.Context, index uint64) error
	// Staleness is how old the local state can be at most, 0 on the leader.
	Staleness() time.Duration
}

// Options configure a Registry.
type Options struct {
	Store  Store
	Logger hclog.Logger
	// NewUID mints deployment uids. It must never return the same text twice.
	NewUID func() string
	// DeleteCascade makes the deletion of a package delete its deployments first.
	DeleteCascade bool
	// MaxAttempts bounds how often an operation is decided anew because the
	// state moved under it. Default 16.
	MaxAttempts int
	// Now is the clock by which the leader's log stamps commands. Default: the
	// Store's method Now if it has one, else time.Now.
	Now func() time.Time
}

// Validate reports what is missing or out of range.
func (o *Options) Validate() error {
	switch {
	case o.Store == nil:
		return errors.New("registry: Store is required")
	case o.NewUID == nil:
		return errors.New("registry: NewUID is required")
	case o.MaxAttempts < 0:
		return fmt.Errorf("registry: MaxAttempts must not be negative, got %d", o.MaxAttempts)
	}
	return nil
}

// Registry offers the operations. It keeps no state of its own and is safe for
// concurrent use.
type Registry struct {
	// prepared is the fleet of the latest index that was planned on.
	prepared    atomic.Pointer[preparedFleet]
	store       Store
	log         hclog.Logger
	newUID      func() string
	cascade     bool
	maxAttempts int
	now         func() time.Time
}

// New makes a Registry over opts.Store.
func New(opts Options) (*Registry, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	if opts.MaxAttempts == 0 {
		opts.MaxAttempts = 16
	}
	if opts.Now == nil {
		opts.Now = time.Now
		if clock, ok := opts.Store.(interface{ Now() time.Time }); ok {
			opts.Now = clock.Now
		}
	}
	return &Registry{
		store: opts.Store, log: opts.Logger, newUID: opts.NewUID,
		cascade: opts.DeleteCascade, maxAttempts: opts.MaxAttempts, now: opts.Now,
	}, nil
}

// State gives the local replica of the state, for loops that watch it.
func (r *Registry) State() *fsm.State { return r.store.State() }

// RequestInfo is what an operation needs to know of the request behind it.
type RequestInfo struct {
	// RequestID is written into the command and every log line.
	RequestID string
	Principal string
	// Address and Agent are those of the client, for the audit log.
	Address, Agent string
	// Precondition is the client's own condition on the object, if any.
	Precondition Precondition
	// Idempotency is nil when the client gave no key.
	Idempotency *Idempotency
}

// Precondition is the client's condition on the object that it changes.
type Precondition struct {
	// MustNotExist makes the operation create only.
	MustNotExist bool
	// ModifyIndex, when not nil, must be the object's modify index.
	ModifyIndex *uint64
}

// Idempotency makes a retried request have one effect and one answer.
type Idempotency struct {
	Key string
	// Ephemeral says that the key is not the client's but was made by the node
	// that took the request, for its own retries. It needs feature level 2.
	Ephemeral bool
	// RequestHash is a SHA-256 over what identifies the request.
	RequestHash []byte
	// Reply encodes the outcome of the operation as the answer to remember. It
	// is called before the command is proposed.
	Reply func(outcome any) (status int, body []byte)
}

// Consistency says how fresh a read has to be. The zero value is linearizable.
type Consistency struct {
	// Stale allows any age up to MaxStaleness (0: any).
	Stale        bool
	MaxStaleness time.Duration
	// AtIndex waits until the local state has applied this command, and asks for no more.
	AtIndex uint64
}

// Read gives an immutable view of the state that is as fresh as c asks for.
func (r *Registry) Read(ctx context.Context, c Consistency) (*fsm.Snapshot, error) {
	switch {
	case c.AtIndex > 0:
		if err := r.store.WaitApplied(ctx, c.AtIndex); err != nil {
			return nil, fromStore(err)
		}
	case c.Stale:
		if c.MaxStaleness == 0 {
			break
		}
		if age := r.store.Staleness(); age > c.MaxStaleness {
			return nil, errorf(Unavailable, "The state of this node %s, more than the allowed %s", staleText(age), c.MaxStaleness)
		}
	default:
		if _, err := r.store.ReadBarrier(ctx); err != nil {
			return nil, fromStore(err)
		}
	}
	return r.store.State().Snapshot(), nil
}

// staleText says how old a state is. A node that has heard nothing yet does not know.
func staleText(age time.Duration) string {
	if age == math.MaxInt64 {
		return "is of unknown age"
	}
	return fmt.Sprintf("may be %s old", age.Round(time.Millisecond))
}

// decision is one attempt of an operation: the command to propose, nil when there is
// nothing to do, and the outcome to report when it takes effect.
type decision struct {
	cmd *pmpb.Command
	// note says what the command does, for the audit log.
	note    *pmpb.AuditNote
	outcome any
}

// commit runs decide on the freshest state and proposes its command, deciding
// anew when a guarded row moved meanwhile. It returns the outcome of the
// decision that took effect and the Raft index of its command.
func (r *Registry) commit(ctx context.Context, ri RequestInfo, decide func(*fsm.Snapshot) (*decision, error)) (any, uint64, error) {
	if _, err := r.store.ReadBarrier(ctx); err != nil {
		return nil, 0, fromStore(err)
	}
	var last error
	for range r.maxAttempts {
		snap := r.store.State().Snapshot()
		if err := r.replay(snap, ri.Idempotency); err != nil {
			return nil, 0, err
		}
		d, err := decide(snap)
		if err != nil {
			return nil, 0, err
		}
		if d.cmd == nil {
			return d.outcome, snap.Index(), nil
		}
		d.cmd.RequestId, d.cmd.Principal = ri.RequestID, ri.Principal
		if snap.FeatureLevel() >= fsm.NotesFrom {
			d.note.Address, d.note.Agent = fsm.NoteText(ri.Address), fsm.NoteText(ri.Agent)
			d.cmd.Note = d.note
		}
		remember(d, ri.Idempotency)
		res, err := r.store.Apply(ctx, d.cmd)
		if err != nil {
			return nil, 0, fromStore(err)
		}
		if res.Reply != nil {
			return nil, 0, &Replayed{Reply: res.Reply}
		}
		var guard *fsm.GuardError
		if errors.As(res.Err, &guard) {
			last = res.Err
			r.log.Debug("state moved while deciding, deciding again", "request_id", ri.RequestID, "guard", guard)
			continue
		}
		if res.Err != nil {
			return nil, 0, fromStore(res.Err)
		}
		return d.outcome, res.Index, nil
	}
	return nil, 0, fromStore(last)
}

// replay answers from the state when the idempotency key is known. The state
// forgets lazily: what it would not replay any more is none of its answers.
func (r *Registry) replay(snap *fsm.Snapshot, idem *Idempotency) error {
	if idem == nil {
		return nil
	}
	reply := snap.Reply(idem.Key)
	if reply == nil || fsm.ReplyExpired(reply, r.now()) {
		return nil
	}
	if string(reply.GetRequestHash()) != string(idem.RequestHash) {
		return fromStore(&fsm.IdempotencyConflictError{Key: idem.Key})
	}
	return &Replayed{Reply: reply}
}

func remember(d *decision, idem *Idempotency) {
	if idem == nil {
		return
	}
	status, body := idem.Reply(d.outcome)
	d.cmd.Idempotency = &pmpb.Idempotency{Key: idem.Key, RequestHash: idem.RequestHash, Status: uint32(status), Body: body, Ephemeral: idem.Ephemeral}
}

// check holds a client's precondition against the object's modify index, 0 for absent.
func (p Precondition) check(what string, have uint64) error {
	switch {
	case p.MustNotExist && have != 0:
		return errorf(PreconditionFailed, "%s exists already, but If-None-Match: * was asked for", what)
	case p.ModifyIndex != nil && *p.ModifyIndex != have:
		return errorf(PreconditionFailed, "%s has changed: its index is %d, If-Match names %d", what, have, *p.ModifyIndex)
	}
	return nil
}

func guard(table pmpb.Guard_Table, key string, modifyIndex uint64) *pmpb.Guard {
	return &pmpb.Guard{Table: table, Key: key, ModifyIndex: modifyIndex}
}
