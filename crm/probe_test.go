package crm

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"k8s.io/client-go/rest"
)

// The probe tells a namespace that is missing or being deleted from an API server that
// is away, and believes in a namespace that it may not read.
func TestProbeAsksForTheNamespace(t *testing.T) {
	type answer struct {
		code int
		body string
	}
	var namespace atomic.Pointer[answer]
	var looks atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/version":
			_, _ = fmt.Fprint(w, `{"gitVersion":"v1.37.0"}`)
		case "/api/v1/namespaces/oaas":
			looks.Add(1)
			a := namespace.Load()
			w.WriteHeader(a.code)
			_, _ = fmt.Fprint(w, a.body)
		default:
			t.Errorf("asked for %s", r.URL.Path)
		}
	}))
	defer api.Close()
	now := time.Unix(1000, 0)
	p, err := newAPIProbe(&rest.Config{Host: api.URL}, "oaas", hclog.NewNullLogger(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		answer
		want string
	}{
		{"there", answer{200, `{"metadata":{"name":"oaas"},"status":{"phase":"Active"}}`}, ""},
		{"missing", answer{404, `{"kind":"Status"}`}, "the namespace oaas does not exist"},
		{"terminating", answer{200, `{"metadata":{"name":"oaas"},"status":{"phase":"Terminating"}}`}, "the namespace oaas is being deleted"},
		{"back", answer{200, `{"metadata":{"name":"oaas"},"status":{"phase":"Active"}}`}, ""},
		{"an API server in trouble", answer{500, "oh"}, ""},
		{"forbidden", answer{403, `{"kind":"Status"}`}, ""},
	} {
		namespace.Store(&tc.answer)
		p.probe(t.Context())
		state := p.Observe()
		got := ""
		if err := state.Usable(); err != nil {
			got = err.Error()
		}
		if !state.Ready || got != tc.want {
			t.Errorf("%s: ready %v, %q, want %q", tc.name, state.Ready, got, tc.want)
		}
	}
	before := looks.Load()
	p.probe(t.Context())
	if looks.Load() != before {
		t.Error("what was forbidden is asked again at once")
	}
	now = now.Add(2 * deniedInterval)
	namespace.Store(&answer{404, ""})
	p.probe(t.Context())
	if p.Observe().Usable() == nil {
		t.Error("what was forbidden is never asked again")
	}
	api.Close()
	p.probe(t.Context())
	if state := p.Observe(); state.Ready || state.Problem != nil || !strings.Contains(state.Usable().Error(), "cannot be reached") {
		t.Errorf("an API server that is away: %+v", state)
	}
}
