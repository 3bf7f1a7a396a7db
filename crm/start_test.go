package crm

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/deploy/local/localtest"
)

// unreadable refuses every look at the class runtimes but the first, until it is
// healed.
type unreadable struct {
	next   http.RoundTripper
	looks  atomic.Int32
	healed atomic.Bool
}

func (u *unreadable) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasSuffix(request.URL.Path, "/classruntimes") && u.looks.Add(1) > 1 && !u.healed.Load() {
		return nil, errors.New("unreadable")
	}
	return u.next.RoundTrip(request)
}

// Nobody is told that the manager is ready before its caches are full, and it can
// be stopped while they are not.
func TestCachesThatDoNotFill(t *testing.T) {
	for name, heal := range map[string]bool{"are waited for": true, "do not keep the manager": false} {
		t.Run(name, func(t *testing.T) {
			config := localtest.Cluster(t).RESTConfig()
			fault := &unreadable{}
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				fault.next = next
				return fault
			})
			r := start(t, config, fmt.Sprintf("caches-%d", time.Now().UnixNano()))
			r.eventually("the caches were tried", func() bool {
				if r.ready() {
					t.Fatal("ready without caches")
				}
				return fault.looks.Load() > 3
			})
			if code := status.Code(r.deploy("record-1", 10, "echo:1")); code != codes.Unavailable {
				t.Errorf("deploy answered %v", code)
			}
			if !heal {
				r.stop() // hangs if the manager does
				return
			}
			fault.healed.Store(true)
			r.eventually("the first deploy is taken", func() bool { return r.deploy("record-1", 10, "echo:1") == nil })
			r.available("record-1", 10)
		})
	}
}
