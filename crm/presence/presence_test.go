package presence_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"oaas.io/control-plane/crm/presence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answers of the API server to the question for Knative.
const (
	away = iota
	there
	absent
	other // the group is there, the resource is not
)

// A Watcher believes the API server alone, and tells of differences alone.
func TestPresence(t *testing.T) {
	var state, asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer asked.Add(1)
		if r.URL.Path != "/apis/serving.knative.dev/v1" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		list := metav1.APIResourceList{GroupVersion: "serving.knative.dev/v1"}
		switch state.Load() {
		case away:
			http.Error(w, "no", http.StatusInternalServerError)
			return
		case absent:
			http.NotFound(w, r)
			return
		case there:
			list.APIResources = []metav1.APIResource{{Name: "services"}}
		case other:
			list.APIResources = []metav1.APIResource{{Name: "revisions"}}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(list); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	watcher, err := presence.New(&rest.Config{Host: server.URL}, presence.Options{
		APIs: map[presence.API]time.Duration{presence.KnativeServices: time.Millisecond}, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	running := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(running)
		watcher.Run(ctx)
	}()
	t.Cleanup(func() {
		<-running
		http.DefaultClient.CloseIdleConnections()
	})

	// Nobody answered yet.
	again := func() {
		t.Helper()
		for before := asked.Load(); asked.Load() < before+3; {
			select {
			case <-watcher.Changed():
				t.Fatal("told of a difference")
			case <-time.After(time.Millisecond):
			}
		}
	}
	again()
	if watcher.Known(presence.KnativeServices) || watcher.Has(presence.KnativeServices) {
		t.Error("known without an answer")
	}
	for _, step := range []struct {
		state int32
		has   bool
	}{{absent, false}, {there, true}, {other, false}, {there, true}} {
		changed := watcher.Changed()
		state.Store(step.state)
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("state %d: no difference", step.state)
		}
		if !watcher.Known(presence.KnativeServices) || watcher.Has(presence.KnativeServices) != step.has {
			t.Errorf("state %d: %t", step.state, watcher.Has(presence.KnativeServices))
		}
	}
	state.Store(away)
	again()
	if !watcher.Has(presence.KnativeServices) {
		t.Error("an API server that is away took the API along")
	}
}

func TestIntervalsArePositive(t *testing.T) {
	_, err := presence.New(&rest.Config{}, presence.Options{
		APIs: map[presence.API]time.Duration{presence.PodMetrics: 0}, Logger: hclog.NewNullLogger(),
	})
	if err == nil {
		t.Error("accepted")
	}
}
