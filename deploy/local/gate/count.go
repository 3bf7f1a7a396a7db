package gate

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// recentWrites is how many writes are kept as text.
const recentWrites = 200

// Counts is what was asked since the last Reset.
type Counts struct {
	// Reads change nothing: gets, lists, reviews of rights and dry runs. Watches are apart.
	Reads, Watches int
	// Writes are those of everything but leases.
	Writes, LeaseWrites int
	// Refused are those of all of them that the gate answered in place of the API server.
	Refused int
	// ByRequest counts by what was done to which resource, as in "apply deployments" or "list pods".
	ByRequest map[string]int
	// FirstWrite and LastWrite are when the API server accepted one that was not of a lease; zero when it did not.
	FirstWrite, LastWrite time.Time
	// LastLease is when it accepted one of a lease.
	LastLease time.Time
}

// kind is how a request counts.
type kind int

const (
	kindRead kind = iota
	kindWatch
	kindWrite
	kindLease
)

// request is what the gate knows of one.
type request struct {
	kind kind
	// what is done to which resource.
	what string
	// line is method and path.
	line string
	// resumed is a watch that goes on from a version.
	resumed bool
	watch   *watch
}

// classify reads method, path and query. It knows the paths of Kubernetes; what else there is counts by its path.
func classify(r *http.Request) *request {
	query := r.URL.Query()
	group, resource, named := resourceOf(r.URL.Path)
	q := &request{line: r.Method + " " + r.URL.Path}
	verb := strings.ToLower(r.Method)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		q.kind = kindRead
		verb = "list"
		if named {
			verb = "get"
		}
		if watching := query.Get("watch"); watching == "true" || watching == "1" {
			q.kind, verb = kindWatch, "watch"
			version := query.Get("resourceVersion")
			q.resumed = version != "" && version != "0" && query.Get("sendInitialEvents") != "true"
		}
	case http.MethodPost:
		q.kind, verb = kindWrite, "create"
	case http.MethodPut:
		q.kind, verb = kindWrite, "update"
	case http.MethodPatch:
		q.kind = kindWrite
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch") {
			verb = "apply"
		}
	default:
		q.kind = kindWrite
	}
	if q.kind == kindWrite {
		switch {
		case group == "authorization.k8s.io", group == "authentication.k8s.io", query.Has("dryRun"):
			q.kind = kindRead // nothing is stored
		case group == "coordination.k8s.io" && strings.HasPrefix(resource, "leases"):
			q.kind = kindLease
		}
	}
	q.what = verb + " " + resource
	return q
}

// resourceOf takes the path of a request apart: the group, the resource with its subresource, and whether one object is named.
func resourceOf(path string) (group, resource string, named bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		group, parts = parts[1], parts[3:]
	default:
		return "", path, true
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	resource = parts[0]
	if len(parts) > 2 {
		resource += "/" + strings.Join(parts[2:], "/")
	}
	return group, resource, len(parts) > 1
}

// tally counts.
type tally struct {
	mu     sync.Mutex
	counts Counts
	recent []string
}

func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts = Counts{ByRequest: map[string]int{}}
	t.recent = nil
}

func (t *tally) asked(q *request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch q.kind {
	case kindRead:
		t.counts.Reads++
	case kindWatch:
		t.counts.Watches++
	case kindWrite:
		t.counts.Writes++
	case kindLease:
		t.counts.LeaseWrites++
	}
	t.counts.ByRequest[q.what]++
}

func (t *tally) refused(q *request, status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Refused++
	t.remember(q, status)
}

// answered notes what the API server said; status 0 is no answer.
func (t *tally) answered(q *request, status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remember(q, status)
	if status < 200 || status > 299 {
		return
	}
	now := time.Now()
	switch q.kind {
	case kindWrite:
		if t.counts.FirstWrite.IsZero() {
			t.counts.FirstWrite = now
		}
		t.counts.LastWrite = now
	case kindLease:
		t.counts.LastLease = now
	case kindRead, kindWatch:
	}
}

// remember keeps a write as text. It is called with mu held.
func (t *tally) remember(q *request, status int) {
	if q.kind != kindWrite {
		return
	}
	if len(t.recent) == recentWrites {
		t.recent = t.recent[1:]
	}
	t.recent = append(t.recent, fmt.Sprintf("%s %s (%s): %d", time.Now().Format("15:04:05.000"), q.line, q.what, status))
}

// Counts tells what was asked since Reset.
func (g *Gate) Counts() Counts {
	g.tally.mu.Lock()
	defer g.tally.mu.Unlock()
	counts := g.tally.counts
	counts.ByRequest = maps.Clone(counts.ByRequest)
	return counts
}

// Recent are the last writes that were not of leases, the oldest first, for people.
func (g *Gate) Recent() []string {
	g.tally.mu.Lock()
	defer g.tally.mu.Unlock()
	return append([]string(nil), g.tally.recent...)
}

// Reset begins to count anew.
func (g *Gate) Reset() { g.tally.reset() }
