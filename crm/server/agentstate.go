package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// StateObject is the ConfigMap that holds what the CRM must remember about
	// units that no longer exist.
	StateObject = "oaas-crm-state"

	stateKey       = "state.json"
	stateVersion   = 1
	tombstoneTTL   = 24 * time.Hour
	maxTombstones  = 4096
	maxStateBytes  = 900 << 10 // a ConfigMap holds 1 MiB
	stateAttempts  = 10
	agentFieldName = "oaas-crm-agent"
)

// order is the place of a change in the history of one control plane. A higher
// epoch wins; within an epoch a higher fence wins.
type order struct {
	Epoch uint64 `json:"e"`
	Fence uint64 `json:"f"`
}

func (o order) compare(other order) int {
	return cmp.Or(cmp.Compare(o.Epoch, other.Epoch), cmp.Compare(o.Fence, other.Fence))
}

func (o order) String() string { return fmt.Sprintf("epoch %d fence %d", o.Epoch, o.Fence) }

// tombstone says that a unit was deleted by a change of that order. Names are
// short because thousands of them share one object.
type tombstone struct {
	UnitID       string `json:"u"`
	ControlPlane string `json:"c"`
	order
	DeletedAt int64 `json:"t"` // Unix seconds
}

// agentState is the content of the state object.
type agentState struct {
	Version int `json:"version"`
	// HighWater is, per control plane, the newest order that a delete carried.
	HighWater map[string]order `json:"high_water"`
	// Tombstones are ordered from the oldest to the newest.
	Tombstones []tombstone `json:"tombstones"`
}

// find returns the newest tombstone of a unit of one control plane.
func (s *agentState) find(unitID, controlPlane string) (tombstone, bool) {
	for i := len(s.Tombstones) - 1; i >= 0; i-- {
		if t := s.Tombstones[i]; t.UnitID == unitID && t.ControlPlane == controlPlane {
			return t, true
		}
	}
	return tombstone{}, false
}

// add records t unless a newer one of the same unit is there, and reports
// whether anything changed.
func (s *agentState) add(t tombstone) bool {
	if have, ok := s.find(t.UnitID, t.ControlPlane); ok && have.compare(t.order) >= 0 {
		return false
	}
	s.Tombstones = slices.DeleteFunc(s.Tombstones, func(have tombstone) bool {
		return have.UnitID == t.UnitID && have.ControlPlane == t.ControlPlane
	})
	s.Tombstones = append(s.Tombstones, t)
	if high := s.HighWater[t.ControlPlane]; high.compare(t.order) < 0 {
		s.HighWater[t.ControlPlane] = t.order
	}
	return true
}

// prune drops what is older than the TTL and the oldest beyond the cap.
func (s *agentState) prune(now time.Time) {
	oldest := now.Add(-tombstoneTTL).Unix()
	s.Tombstones = slices.DeleteFunc(s.Tombstones, func(t tombstone) bool { return t.DeletedAt < oldest })
	if excess := len(s.Tombstones) - maxTombstones; excess > 0 {
		s.Tombstones = slices.Delete(s.Tombstones, 0, excess)
	}
}

// forgetPlanes drops the marks of control planes without a tombstone, so that
// identities that come and go cannot fill the object.
func (s *agentState) forgetPlanes() {
	planes := make(map[string]bool, len(s.HighWater))
	for i := range s.Tombstones {
		planes[s.Tombstones[i].ControlPlane] = true
	}
	maps.DeleteFunc(s.HighWater, func(plane string, _ order) bool { return !planes[plane] })
}

// encode keeps the text within what a ConfigMap holds by dropping the oldest
// tombstones, and what is known of control planes that have none.
func (s *agentState) encode() (string, error) {
	for {
		text, err := json.Marshal(s)
		if err != nil {
			return "", fmt.Errorf("encode the agent state: %w", err)
		}
		if len(text) <= maxStateBytes || len(s.Tombstones) == 0 {
			return string(text), nil
		}
		s.Tombstones = slices.Delete(s.Tombstones, 0, (len(s.Tombstones)+3)/4)
		s.forgetPlanes()
	}
}

func decodeState(text string) (*agentState, error) {
	state := &agentState{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), state); err != nil {
			return nil, fmt.Errorf("decode ConfigMap %s: %w", StateObject, err)
		}
	}
	if state.Version > stateVersion {
		return nil, fmt.Errorf("ConfigMap %s has version %d, this build knows %d", StateObject, state.Version, stateVersion)
	}
	state.Version = stateVersion
	if state.HighWater == nil {
		state.HighWater = map[string]order{}
	}
	return state, nil
}

// stateStore reads and writes the state object. Reads are live, since they
// decide on writes; the decoded state is kept while the object's
// resourceVersion stands still, so that a read is one small request. Concurrent
// tombstones share one write.
type stateStore struct {
	namespace string
	writer    client.Client
	live      client.Reader
	now       func() time.Time

	turn chan struct{} // capacity 1: who holds it may write

	mu      sync.Mutex
	version string // resourceVersion of cached, empty when nothing is cached
	cached  *agentState
	waiting []*stateWrite
}

type stateWrite struct {
	tombstone tombstone
	done      bool
	err       error
}

func newStateStore(namespace string, writer client.Client, live client.Reader, now func() time.Time) *stateStore {
	return &stateStore{namespace: namespace, writer: writer, live: live, now: now, turn: make(chan struct{}, 1)}
}

func (s *stateStore) key() types.NamespacedName {
	return types.NamespacedName{Namespace: s.namespace, Name: StateObject}
}

// lookup returns the tombstone of a unit, if it has one. Expired ones still
// count until they are pruned.
func (s *stateStore) lookup(ctx context.Context, unitID, controlPlane string) (tombstone, bool, error) {
	head := &metav1.PartialObjectMetadata{}
	head.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	if err := s.live.Get(ctx, s.key(), head); err != nil {
		if absent(err) {
			return tombstone{}, false, nil
		}
		return tombstone{}, false, err
	}
	s.mu.Lock()
	state, version := s.cached, s.version
	s.mu.Unlock()
	if state == nil || version != head.ResourceVersion {
		var err error
		if _, state, err = s.read(ctx); err != nil {
			return tombstone{}, false, err
		}
	}
	t, ok := state.find(unitID, controlPlane)
	return t, ok, nil
}

// read fetches and decodes the object; the ConfigMap is nil when there is none.
// The returned state must not be changed.
func (s *stateStore) read(ctx context.Context) (*corev1.ConfigMap, *agentState, error) {
	object := &corev1.ConfigMap{}
	if err := s.live.Get(ctx, s.key(), object); err != nil {
		if !absent(err) {
			return nil, nil, err
		}
		state, err := decodeState("")
		return nil, state, err
	}
	state, err := decodeState(object.Data[stateKey])
	if err != nil {
		return nil, nil, err
	}
	s.remember(object.ResourceVersion, state)
	return object, state, nil
}

func (s *stateStore) remember(version string, state *agentState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.cached = version, state
}

// record makes t durable. When it returns nil, every later lookup of any
// replica finds t or a newer one.
func (s *stateStore) record(ctx context.Context, t tombstone) error {
	write := &stateWrite{tombstone: t}
	s.mu.Lock()
	s.waiting = append(s.waiting, write)
	s.mu.Unlock()

	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		s.withdraw(write)
		return ctx.Err()
	}
	defer func() { <-s.turn }()

	s.mu.Lock()
	if write.done {
		s.mu.Unlock()
		return write.err
	}
	batch := s.waiting
	s.waiting = nil
	s.mu.Unlock()

	err := s.flush(ctx, batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range batch {
		if w != write && err != nil && ctx.Err() != nil {
			// This caller gave up; the others have time of their own.
			s.waiting = append(s.waiting, w)
			continue
		}
		w.done, w.err = true, err
	}
	return err
}

func (s *stateStore) withdraw(write *stateWrite) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(w *stateWrite) bool { return w == write })
}

func (s *stateStore) flush(ctx context.Context, batch []*stateWrite) error {
	for range stateAttempts {
		object, state, err := s.read(ctx)
		if err != nil {
			return err
		}
		next := &agentState{Version: stateVersion, HighWater: map[string]order{}, Tombstones: slices.Clone(state.Tombstones)}
		for plane, high := range state.HighWater {
			next.HighWater[plane] = high
		}
		changed := false
		for _, w := range batch {
			changed = next.add(w.tombstone) || changed
		}
		if !changed {
			return nil
		}
		next.prune(s.now())
		err = s.write(ctx, object, next)
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			continue
		}
		return err
	}
	return errors.New("the state object changed under every attempt to write it")
}

func (s *stateStore) write(ctx context.Context, object *corev1.ConfigMap, state *agentState) error {
	text, err := state.encode()
	if err != nil {
		return err
	}
	if object == nil {
		object = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace: s.namespace, Name: StateObject,
			Labels: map[string]string{"app.kubernetes.io/managed-by": agentFieldName},
		}}
		object.Data = map[string]string{stateKey: text}
		err = s.writer.Create(ctx, object, client.FieldOwner(agentFieldName))
	} else {
		object.Data = map[string]string{stateKey: text}
		err = s.writer.Update(ctx, object, client.FieldOwner(agentFieldName))
	}
	if err != nil {
		return err
	}
	s.remember(object.ResourceVersion, state)
	return nil
}
