package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// message is a message of a stream as a client reads it.
type message struct {
	messageHead
	Events []struct {
		Topic, Type, Key, Name, UID string
		Generation                  uint64
		Object                      json.RawMessage
	}
}

// String tells what a test compares: the kind, and the events without their objects.
func (m message) String() string {
	out := m.Type
	if m.Operation != "" {
		out += " " + m.Operation
	}
	for _, e := range m.Events {
		out += fmt.Sprintf(" %s %s/%s", e.Type, e.Topic, e.Key)
	}
	return out
}

// stream is an open stream of messages.
type stream struct {
	t     *testing.T
	lines *bufio.Reader
	end   context.CancelFunc
}

func openStream(t *testing.T, base, query string, headers ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/watch"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		t.Fatalf("%s: status %d %s", query, resp.StatusCode, body.String())
	}
	return &stream{t: t, lines: bufio.NewReader(resp.Body), end: cancel}
}

// next reads a message; false at the end of the stream.
func (s *stream) next() (message, bool) {
	s.t.Helper()
	line, err := s.lines.ReadString('\n')
	if err != nil {
		return message{}, false
	}
	var m message
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		s.t.Fatalf("%q: %v", line, err)
	}
	return m, true
}

// expect reads messages up to one that is told so, and gives it. Bookmarks may come
// in between, nothing else.
func (s *stream) expect(want string) message {
	s.t.Helper()
	for {
		m, ok := s.next()
		switch {
		case !ok:
			s.t.Fatalf("the stream ended before %q", want)
		case m.String() == want:
			return m
		case m.Type != "bookmark":
			s.t.Fatalf("%q, want %q", m, want)
		}
	}
}

// quickly makes bookmarks come soon.
func quickly(h *harness) { h.opts.BookmarkInterval = 20 * time.Millisecond }

// A stream begins with all rows, goes on with the changes, and can be taken up at
// any other node where it ended.
func TestWatchFromASnapshotOnAndOnAnotherNode(t *testing.T) {
	p := newPeers(t, nil, quickly)
	base, other := serve(t, p.leader), serve(t, p.follower)
	s := openStream(t, base, "?from=snapshot&topics=packages,deployments")
	first := s.expect("snapshot put packages/shop put deployments/shop.Cart")
	began := s.expect("bookmark")
	if began.Index < first.Index || *began.LastContact != 0 {
		t.Errorf("%+v after %+v", began, first)
	}
	p.leader.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"late"}`, headerRequestID+": req-late")
	m := s.expect("change put_package put packages/late")
	if m.RequestID != "req-late" || m.Term != 3 || m.Time != zulu(epoch) || !strings.Contains(string(m.Events[0].Object), `"name":"late"`) {
		t.Errorf("change %+v of %s", m.messageHead, m.Events[0].Object)
	}
	p.leader.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"shop.New","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"]}`)
	deployed := s.expect("change commit_deployment put deployments/shop.New")
	if e := deployed.Events[0]; e.UID == "" || e.Generation != 1 || !strings.Contains(string(e.Object), `"package_name":"shop"`) {
		t.Errorf("deployment %+v", e)
	}
	s.end()

	units := []string{p.leader.unit("shop.New", "oaas-1").GetId(), p.leader.unit("shop.New", "oaas-2").GetId()}
	p.leader.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.New", "")
	resumed := openStream(t, other, fmt.Sprintf("?from=%d", deployed.Index))
	gone := resumed.expect("change delete_deployment delete deployments/shop.New delete plans/shop.New put units/" +
		units[0] + " put units/" + units[1] + " put deletions/" + deployed.Events[0].UID)
	if u := gone.Events[2]; u.Name != "shop.New" || !strings.Contains(string(u.Object), `"phase":"Deleting"`) {
		t.Errorf("unit %+v", u)
	}
	if at := resumed.expect("bookmark"); at.Index < gone.Index || *at.LastContact != 7 {
		t.Errorf("bookmark %+v", at)
	}
}

func TestWatchFilters(t *testing.T) {
	h := shop(t, quickly)
	base := serve(t, h)
	for query, want := range map[string]string{
		"topics=packages:late":           "change put_package put packages/late",
		"topics=packages:l*,deployments": "change put_package put packages/late",
		"topics=units:shop.N*":           "change commit_deployment put units/UNIT-1 put units/UNIT-2",
		"topics=units:shop.New,plans":    "change commit_deployment put units/UNIT-1 put units/UNIT-2 put plans/shop.New",
		"topics=clusters":                "change put_cluster put clusters/oaas-9",
		"topics=members":                 "change put_member put members/pm-9",
	} {
		t.Run(query, func(t *testing.T) {
			key := "shop.New"
			s := openStream(t, base, "?"+query)
			s.expect("bookmark")
			h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"late"}`)
			h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"`+key+`","package_name":"shop","class_key":"Cart","target_envs":["oaas-1","oaas-2"]}`)
			h.cluster("oaas-9", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
			h.named("pm-9", "nine")
			for i, env := range []string{"oaas-1", "oaas-2"} {
				want = strings.ReplaceAll(want, fmt.Sprintf("UNIT-%d", i+1), h.unit(key, env).GetId())
			}
			s.expect(want)
			s.end()
			h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/"+key, "")
			h.must(http.StatusNoContent, http.MethodDelete, "/api/v1/packages/late", "")
			for _, op := range []*pmpb.Command{
				{Op: &pmpb.Command_RemoveMember{RemoveMember: &pmpb.RemoveMember{ServerId: "pm-9"}}},
				{Op: &pmpb.Command_RemoveCluster{RemoveCluster: &pmpb.RemoveCluster{Name: "oaas-9"}}},
			} {
				if res, err := h.store.Apply(t.Context(), op); err != nil || res.Err != nil {
					t.Fatal(err, res.Err)
				}
			}
		})
	}
}

// Nothing is left out silently: what is forgotten ends a stream that needs it, and
// is refused to one that asks for it, with the index at which one can begin.
func TestWatchTellsWhatIsForgotten(t *testing.T) {
	h := shop(t, quickly)
	base := serve(t, h)
	s := openStream(t, base, "?from=now")
	s.expect("bookmark")

	var saved bytes.Buffer
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"unseen"}`)
	if err := h.store.state.Snapshot().Write(&saved); err != nil {
		t.Fatal(err)
	}
	for m, ok := s.next(); m.Type != "change"; m, ok = s.next() {
		if !ok {
			t.Fatal("the stream ended")
		}
	}
	behind := h.store.state.Snapshot().Index() - 1
	if err := h.store.state.Restore(&saved); err != nil {
		t.Fatal(err)
	}
	oldest := h.store.state.Snapshot().Index()
	p := h.problem(h.do(http.MethodGet, fmt.Sprintf("/api/v1/watch?from=%d", behind), ""))
	if p.Code != codeCompacted || p.Status != http.StatusGone || p.Oldest != oldest || p.Retryable {
		t.Errorf("problem %+v", p)
	}
	// A stream that had everything goes on.
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"seen"}`)
	s.expect("change put_package put packages/seen")
}

// A client that takes nothing for so long that its place is forgotten is told.
func TestWatchEndsWhenItsPlaceIsForgotten(t *testing.T) {
	h := shop(t)
	var out bytes.Buffer
	w := &fakeStream{header: http.Header{}, body: &out}
	w.flushed = func() {
		// The state is replaced behind the stream's back, by one that is further.
		if w.flushes++; w.flushes == 1 {
			h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"unseen"}`)
			var saved bytes.Buffer
			if err := h.store.state.Snapshot().Write(&saved); err != nil {
				t.Error(err)
			}
			if err := h.store.state.Restore(&saved); err != nil {
				t.Error(err)
			}
		}
	}
	h.server.Handler().ServeHTTP(w, newRequest(t, http.MethodGet, "/api/v1/watch?from=now&topics=packages"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last message
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Type != "error" || last.Status != http.StatusGone || last.OldestIndex != h.store.state.Snapshot().Index() || last.Retryable {
		t.Errorf("the stream ended with %s", lines[len(lines)-1])
	}
}

// Rows that nothing can follow any more are no use, and need not be held in memory
// for a client that takes them slowly.
func TestWatchEndsASnapshotThatCannotGoOn(t *testing.T) {
	h := shop(t)
	for i := range snapshotBatch + 1 {
		h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", fmt.Sprintf(`{"name":"p%d"}`, i))
	}
	var out bytes.Buffer
	w := &fakeStream{header: http.Header{}, body: &out, flushed: func() {}}
	w.wrote = func() {
		w.wrote = nil
		h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"unseen"}`)
		var saved bytes.Buffer
		if err := h.store.state.Snapshot().Write(&saved); err != nil {
			t.Error(err)
		}
		if err := h.store.state.Restore(&saved); err != nil {
			t.Error(err)
		}
	}
	h.server.Handler().ServeHTTP(w, newRequest(t, http.MethodGet, "/api/v1/watch?from=snapshot"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], `"type":"error"`) || !strings.Contains(lines[1], `"status":410`) {
		t.Errorf("%d messages, the last one is %.300s", len(lines), lines[len(lines)-1])
	}
}

func TestWatchAsServerSentEvents(t *testing.T) {
	h := shop(t)
	base := serve(t, h)
	s := openStream(t, base, "?topics=packages&from=snapshot", "Accept", "text/event-stream;q=0.9, application/json")
	read := func() string {
		t.Helper()
		var out []string
		for {
			line, err := s.lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line = strings.TrimSuffix(line, "\n"); line == "" {
				return strings.Join(out, "|")
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				if !json.Valid([]byte(data)) {
					t.Errorf("data %s", data)
				}
				line = "data"
			}
			out = append(out, line)
		}
	}
	index := h.store.state.Snapshot().Index()
	got := []string{read(), read()}
	if want := []string{"event: snapshot|data", fmt.Sprintf("event: bookmark|id: %d|data", index)}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.end()
	s = openStream(t, base, "?from=oldest&topics=packages")
	s.expect("change put_package put packages/shop")
	s.expect("bookmark")
	// Whoever comes back says where it was, and that counts.
	s.end()
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", `{"name":"meanwhile"}`)
	s = openStream(t, base, "?from=snapshot&format=sse", headerLastEventID, fmt.Sprint(index))
	if got, want := []string{read(), read()}, []string{fmt.Sprintf("event: change|id: %d|data", index+1), fmt.Sprintf("event: bookmark|id: %d|data", index+1)}; !slices.Equal(got, want) {
		t.Errorf("resumed: %q, want %q", got, want)
	}
}

func TestWatchIsRefused(t *testing.T) {
	h := shop(t, func(h *harness) { h.opts.HoldForLeader = 10 * time.Millisecond })
	for query, code := range map[string]registry.Code{
		"?from=yesterday":               registry.InvalidArgument,
		"?from=-1":                      registry.InvalidArgument,
		"?from=18446744073709551615":    registry.InvalidArgument,
		"?from=99999":                   registry.Unavailable,
		"?topics=secrets":               registry.InvalidArgument,
		"?topics=packages:":             registry.InvalidArgument,
		"?format=xml":                   registry.InvalidArgument,
		"?consistency=sometimes":        registry.InvalidArgument,
		"?max_staleness=long":           registry.InvalidArgument,
		"?from=now&consistency=nothing": registry.InvalidArgument,
	} {
		if p := h.problem(h.do(http.MethodGet, "/api/v1/watch"+query, "")); p.Code != code {
			t.Errorf("%s: %+v", query, p)
		}
	}
	p := h.problem(h.do(http.MethodGet, "/api/v1/watch?from=now", "", headerLastEventID+": yesterday"))
	if !strings.Contains(p.Detail, headerLastEventID) || !strings.Contains(p.Detail, "yesterday") {
		t.Errorf("a wrong header is told as %q", p.Detail)
	}
	h.store.barrier = func() error { return raftstore.ErrNoLeader }
	if p := h.problem(h.do(http.MethodGet, "/api/v1/watch?from=snapshot", "")); p.Code != registry.NoLeader {
		t.Errorf("without a leader: %+v", p)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	h := shop(t, func(h *harness) { h.opts.MaxWatchers = 1 })
	base := serve(t, h)
	s := openStream(t, base, "?consistency=stale")
	s.expect("bookmark")
	if p := h.problem(h.do(http.MethodGet, "/api/v1/watch", "")); p.Code != codeOverloaded {
		t.Errorf("the second: %+v", p)
	}
}

// A node that has lost the leader ends the streams that must not be stale.
func TestWatchEndsWhenTheNodeIsStale(t *testing.T) {
	p := newPeers(t, nil, quickly)
	base := serve(t, p.follower)
	s := openStream(t, base, "?max_staleness=5ms")
	for {
		m, ok := s.next()
		if !ok {
			t.Fatal("the stream ended without a word")
		}
		if m.Type == "error" {
			if m.Status != http.StatusServiceUnavailable || !m.Retryable {
				t.Errorf("error %+v", m)
			}
			break
		}
	}
	if _, ok := s.next(); ok {
		t.Error("the stream goes on after its end")
	}
}

func TestWatchEndsWithTheServer(t *testing.T) {
	h := shop(t)
	base := serve(t, h)
	s := openStream(t, base, "")
	s.expect("bookmark")
	h.server.stop()
	m, ok := s.next()
	if !ok || m.Type != "error" || !m.Retryable || !strings.Contains(m.Detail, "stopping") {
		t.Errorf("the last message is %+v", m)
	}
}

// fakeStream is a client whose reading the test controls.
type fakeStream struct {
	header  http.Header
	body    *bytes.Buffer
	flushes int
	flushed func()
	wrote   func()
}

func (f *fakeStream) Header() http.Header { return f.header }
func (f *fakeStream) WriteHeader(int)     {}
func (f *fakeStream) FlushError() error   { f.flushed(); return nil }

func (f *fakeStream) Write(p []byte) (int, error) {
	if f.wrote != nil {
		f.wrote()
	}
	return f.body.Write(p)
}

func newRequest(t *testing.T, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Many streams may have been sent one large row: none may keep room for it.
func TestAMessageWriterDoesNotStayLarge(t *testing.T) {
	out := newMessageWriter(&fakeStream{header: http.Header{}, body: &bytes.Buffer{}}, false)
	out.message(&messageHead{Type: "change", Index: 1}, []eventView{{Topic: "packages", Type: "put", Key: "p", Object: strings.Repeat("x", 512<<10)}})
	if have := out.buf.Cap(); out.err != nil || have > 2*messagePiece {
		t.Errorf("%v, the buffer has %d bytes", out.err, have)
	}
}
