package registry_test

import (
	"context"
	"testing"
	"time"

	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/registry/registrytest"
)

// cutOff is a node that cannot find out whether its state is the latest.
type cutOff struct{ *registrytest.Store }

func (cutOff) ReadBarrier(context.Context) (uint64, error) { return 0, raftstore.ErrNoLeader }

// A read that does not say that it may be stale is answered behind the barrier or not at
// all, and so is every decision about a write.
func TestReadsNeedTheBarrier(t *testing.T) {
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(registry.Options{Store: cutOff{store}, NewUID: func() string { return "uid" }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := r.Read(ctx, registry.Consistency{}); registry.CodeOf(err) != registry.NoLeader {
		t.Errorf("a read without the barrier gives %v", err)
	}
	if _, _, err := r.CreatePackage(ctx, registry.RequestInfo{}, decodePackage(t, shop)); registry.CodeOf(err) != registry.NoLeader {
		t.Errorf("a write without the barrier gives %v", err)
	}
	for _, c := range []registry.Consistency{{Stale: true}, {AtIndex: store.State().Snapshot().Index()}} {
		if _, err := r.Read(ctx, c); err != nil {
			t.Errorf("%+v gives %v", c, err)
		}
	}
}

// wavering is a node that has the leader's word at times.
type wavering struct {
	*registrytest.Store
	lost bool
}

func (w *wavering) ReadBarrier(ctx context.Context) (uint64, error) {
	if w.lost {
		return 0, raftstore.ErrNoLeader
	}
	return w.Store.ReadBarrier(ctx)
}

// A read that bounds its age is answered only by a node that knows how old its state is. One that was just started hears from
// the leader before it has caught up.
func TestReadsOfABoundedAge(t *testing.T) {
	store, err := registrytest.New()
	if err != nil {
		t.Fatal(err)
	}
	node := &wavering{Store: store, lost: true}
	r, err := registry.New(registry.Options{Store: node, NewUID: func() string { return "uid" }})
	if err != nil {
		t.Fatal(err)
	}
	read := func(limit time.Duration) error {
		_, err := r.Read(t.Context(), registry.Consistency{Stale: true, MaxStaleness: limit})
		return err
	}
	if err := read(time.Hour); registry.CodeOf(err) != registry.Unavailable {
		t.Errorf("before the node knows anything: %v", err)
	}
	node.lost = false
	if err := read(time.Nanosecond); err != nil {
		t.Errorf("with a barrier: %v", err)
	}
	node.lost = true
	if err := read(time.Hour); err != nil {
		t.Errorf("within the time since the barrier: %v", err)
	}
	if err := read(time.Nanosecond); registry.CodeOf(err) != registry.Unavailable {
		t.Errorf("beyond it: %v", err)
	}
}
