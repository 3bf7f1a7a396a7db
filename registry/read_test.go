package registry_test

import (
	"context"
	"testing"

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
