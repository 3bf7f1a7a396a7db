package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// script answers successive watches, on whatever server they come.
type script struct {
	mu sync.Mutex
	// asked are the watches that came, as server and query.
	asked   []string
	answers []string
}

func (s *script) server(t *testing.T, name string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, name+" "+r.URL.Query().Get("from"))
		if len(s.answers) == 0 {
			http.Error(w, `{"code":"unavailable","detail":"not now","retryable":true}`, http.StatusServiceUnavailable)
			return
		}
		answer := s.answers[0]
		s.answers = s.answers[1:]
		if answer == "404" {
			http.Error(w, `{"code":"not-found","detail":"There is nothing at /api/v1/watch","retryable":false}`, http.StatusNotFound)
			return
		}
		if strings.HasPrefix(answer, "!") {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusGone)
			_, _ = fmt.Fprint(w, `{"code":"compacted","detail":"forgotten","retryable":false}`)
			return
		}
		_, _ = fmt.Fprint(w, answer)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func (s *script) client(t *testing.T) *Client {
	t.Helper()
	c, err := New(Options{Servers: []string{s.server(t, "a"), s.server(t, "b")}, BackoffMin: time.Millisecond, RetryFor: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func messages(kinds ...string) string {
	var out strings.Builder
	for _, k := range kinds {
		kind, index, _ := strings.Cut(k, " ")
		fmt.Fprintf(&out, `{"type":%q,"index":%s}`+"\n", kind, index)
	}
	return out.String()
}

// A watch goes on at another server exactly where it ended, over breaks, and over
// streams that their server ends.
func TestWatchIsTakenUpWhereItEnded(t *testing.T) {
	s := &script{answers: []string{
		messages("snapshot 5"), // breaks off in the snapshot, which begins anew
		messages("snapshot 6", "snapshot 6", "bookmark 6", "change 7"),
		messages("change 9") + `{"type":"error","index":9,"status":503,"code":"unavailable","detail":"stopping","retryable":true}` + "\n",
		messages("bookmark 12", "change 13", "change 14"),
	}}
	var got, lost []string
	err := s.client(t).Watch(t.Context(), WatchQuery{From: FromSnapshot}, func(m *Message) bool {
		got = append(got, fmt.Sprintf("%s %d", m.Type, m.Index))
		return m.Index < 13
	}, func(err error) { lost = append(lost, err.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"snapshot 5", "snapshot 6", "snapshot 6", "bookmark 6", "change 7", "change 9", "bookmark 12", "change 13"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
	if want := []string{"a snapshot", "b snapshot", "a 7", "b 9"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
	if len(lost) != 3 || lost[2] != "stopping" {
		t.Errorf("breaks %q", lost)
	}
}

func TestWatchEnds(t *testing.T) {
	never := func(*Message) bool { return true }
	t.Run("forgotten", func(t *testing.T) {
		s := &script{answers: []string{"!"}}
		var said *Error
		if err := s.client(t).Watch(t.Context(), WatchQuery{From: "3"}, never, nil); !errors.As(err, &said) || said.Code != CodeCompacted || said.Status != http.StatusGone {
			t.Errorf("%v", err)
		}
	})
	t.Run("forgotten on the way", func(t *testing.T) {
		s := &script{answers: []string{messages("bookmark 3") + `{"type":"error","index":3,"status":410,"code":"compacted","detail":"forgotten"}`}}
		var said *Error
		if err := s.client(t).Watch(t.Context(), WatchQuery{}, never, nil); !errors.As(err, &said) || said.Code != CodeCompacted {
			t.Errorf("%v", err)
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		s := &script{answers: []string{messages("bookmark 3")}}
		began := time.Now()
		err := s.client(t).Watch(t.Context(), WatchQuery{}, never, nil)
		if !IsUnavailable(err) || time.Since(began) < 50*time.Millisecond || len(s.asked) < 5 {
			t.Errorf("%v after %s and %d attempts", err, time.Since(began), len(s.asked))
		}
	})
	t.Run("the caller has seen enough", func(t *testing.T) {
		s := &script{answers: []string{messages("bookmark 3")}}
		ctx, cancel := context.WithCancel(t.Context())
		err := s.client(t).Watch(ctx, WatchQuery{}, func(*Message) bool { cancel(); return true }, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

// While a cluster is upgraded, some servers do not know the route yet. A node that
// was named and that nobody knows is another matter.
func TestWatchLeavesServersThatCannotStream(t *testing.T) {
	s := &script{answers: []string{"404", messages("bookmark 3"), "404", "404", messages("change 4")}}
	err := s.client(t).Watch(t.Context(), WatchQuery{From: "2"}, func(m *Message) bool { return m.Index < 4 }, nil)
	if want := []string{"a 2", "b 2", "a 3", "b 3", "a 3"}; err != nil || !slices.Equal(s.asked, want) {
		t.Errorf("%v, asked %q, want %q", err, s.asked, want)
	}
	for _, q := range []WatchQuery{{}, {Node: "pm-9"}} {
		s = &script{answers: slices.Repeat([]string{"404"}, 10_000)}
		err = s.client(t).Watch(t.Context(), q, func(*Message) bool { return true }, nil)
		if !IsNotFound(err) || (q.Node != "") != (len(s.asked) == 1) {
			t.Errorf("%+v: %v after %d attempts", q, err, len(s.asked))
		}
	}
}
