package registrytest

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Store is a log of one node in memory.
type Store struct {
	// Now is the leader's clock. Default time.Now.
	Now func() time.Time
	// BeforeApply, when set, runs before each command and may fail it.
	BeforeApply func(cmd *pmpb.Command) error

	state *fsm.State
	mu    sync.Mutex
	index uint64
	term  uint64
}

// New makes an empty store that leads in term 1 and has a cluster id.
func New() (*Store, error) {
	state, err := fsm.NewState()
	if err != nil {
		return nil, err
	}
	s := &Store{state: state, term: 1}
	res, err := s.Apply(context.Background(), &pmpb.Command{Op: &pmpb.Command_Found{Found: &pmpb.Found{ClusterId: "test-cluster"}}})
	return s, errors.Join(err, res.Err)
}

// State gives the state.
func (s *Store) State() *fsm.State { return s.state }

// Apply applies cmd at the next index.
func (s *Store) Apply(_ context.Context, cmd *pmpb.Command) (fsm.Result, error) {
	if s.BeforeApply != nil {
		if err := s.BeforeApply(cmd); err != nil {
			return fsm.Result{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	stamped := proto.CloneOf(cmd)
	stamped.Version = fsm.Version
	stamped.LeaderTime = timestamppb.New(now())
	data, err := fsm.EncodeCommand(stamped)
	if err != nil {
		return fsm.Result{}, err
	}
	s.index++
	return s.state.Apply(s.index, s.term, data), nil
}

// ReadBarrier has nothing to wait for: there is one node.
func (s *Store) ReadBarrier(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index, nil
}

// WaitApplied returns once the command at index was applied.
func (s *Store) WaitApplied(ctx context.Context, index uint64) error {
	for {
		snap := s.state.Snapshot()
		changed := snap.WatchAll()
		if snap.Index() >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Staleness is 0: the store leads.
func (s *Store) Staleness() time.Duration { return 0 }

// NextTerm makes the store lead in the next term, as after an election.
func (s *Store) NextTerm() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term++
	return s.term
}
