package client

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"

	"oaas.io/control-plane/model"
)

// A node whose process is paused takes connections and never answers. The call goes
// on to the next one long before the time of an attempt is over, with the same key.
func TestCallLeavesAPausedServer(t *testing.T) {
	end := make(chan struct{})
	paused := serve(t, func(int, http.ResponseWriter, *http.Request) { <-end })
	defer close(end)
	good := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	c := newClient(t, Options{Servers: []string{paused.URL, good.URL}, AttemptTimeout: time.Hour, ProbeAfter: 10 * time.Millisecond})
	if _, err := c.CreatePackage(t.Context(), &model.OPackage{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	paused.mu.Lock()
	defer paused.mu.Unlock()
	if len(good.keys) != 1 || good.keys[0] == "" || good.keys[0] != paused.keys[0] {
		t.Errorf("the keys are %q and %q", paused.keys, good.keys)
	}
}

// So does a call whose answer has no bound in time; and one that is being read ends
// when its server falls silent.
func TestOpenLeavesAPausedServer(t *testing.T) {
	end := make(chan struct{})
	paused := serve(t, func(int, http.ResponseWriter, *http.Request) { <-end })
	defer close(end)
	breaksOff := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/livez" {
			<-end
			return
		}
		_, _ = w.Write([]byte("begun"))
		w.(http.Flusher).Flush()
		<-end
	})
	c := newClient(t, Options{Servers: []string{paused.URL, breaksOff.URL}, ProbeAfter: 10 * time.Millisecond})
	var got bytes.Buffer
	if _, err := c.download(t.Context(), "/file", nil, &got); !errors.Is(err, errSilent) || got.String() != "begun" {
		t.Errorf("%q came, and %v", &got, err)
	}
}

// A server that answers the probe is at work: it is waited for.
func TestCallStaysWithASlowServer(t *testing.T) {
	probed := make(chan struct{}, 1000)
	slow := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/livez" {
			probed <- struct{}{}
			return
		}
		for range 3 {
			<-probed
		}
		_, _ = w.Write([]byte("{}"))
	})
	other := serve(t, func(int, http.ResponseWriter, *http.Request) { t.Error("the call went on to another server") })
	c := newClient(t, Options{Servers: []string{slow.URL, other.URL}, ProbeAfter: 5 * time.Millisecond})
	if _, err := c.CreatePackage(t.Context(), &model.OPackage{Name: "p"}); err != nil {
		t.Fatal(err)
	}
}

// With one server there is nowhere to go: its answer is waited for, and nothing else
// is asked of it.
func TestOnlyServerIsNotProbed(t *testing.T) {
	rest := make(chan struct{})
	only := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		<-rest
		_, _ = w.Write([]byte("{}"))
	})
	c := newClient(t, Options{Servers: []string{only.URL}, ProbeAfter: time.Nanosecond})
	done := make(chan error, 1)
	go func() {
		_, err := c.CreatePackage(t.Context(), &model.OPackage{Name: "p"})
		done <- err
	}()
	close(rest)
	if err := <-done; err != nil || len(only.reqs) != 1 {
		t.Errorf("%v after the requests %q", err, only.reqs)
	}
}

// A stream on which nothing comes any more may have lost its other end without a
// word: it is taken up where it was.
func TestWatchLeavesAQuietStream(t *testing.T) {
	end := make(chan struct{})
	quiet := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(messages("bookmark 7")))
		w.(http.Flusher).Flush()
		<-end
	})
	defer close(end)
	good := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(messages("change 8"))) })
	c := newClient(t, Options{Servers: []string{quiet.URL, good.URL}, StreamSilence: 20 * time.Millisecond, ProbeAfter: time.Hour})
	var why []error
	err := c.Watch(t.Context(), WatchQuery{}, func(m *Message) bool { return m.Index < 8 }, func(err error) { why = append(why, err) })
	if err != nil || len(why) != 1 || !errors.Is(why[0], errQuiet) || good.reqs[0] != "GET /api/v1/watch?from=7" {
		t.Errorf("%v after %v, then %q", err, why, good.reqs)
	}
}

// Whoever is told may take more time than that.
func TestWatchWaitsForItsReader(t *testing.T) {
	srv := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(messages("bookmark 7", "change 8")))
	})
	c := newClient(t, Options{Servers: []string{srv.URL}, StreamSilence: time.Millisecond})
	took := time.NewTimer(20 * time.Millisecond)
	err := c.Watch(t.Context(), WatchQuery{}, func(m *Message) bool {
		if m.Index == 7 {
			<-took.C
		}
		return m.Index < 8
	}, func(err error) { t.Errorf("lost: %v", err) })
	if err != nil {
		t.Error(err)
	}
}
