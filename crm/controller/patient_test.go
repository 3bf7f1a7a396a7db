package controller

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answers plays an API server: a status for each try in turn, 0 for none, the last one for
// all that follow.
type answers struct {
	t        *testing.T
	statuses []int
	after    string // Retry-After
	tries    int
	open     int
}

var errAway = errors.New("connection refused")

type body struct {
	io.Reader
	closed func()
}

func (b body) Close() error {
	b.closed()
	return nil
}

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	status := a.statuses[min(a.tries, len(a.statuses)-1)]
	a.tries++
	if status == 0 {
		return nil, errAway
	}
	a.open++
	header := http.Header{}
	if a.after != "" {
		header.Set("Retry-After", a.after)
	}
	return &http.Response{StatusCode: status, Header: header, Body: body{strings.NewReader("x"), func() { a.open-- }}}, nil
}

func TestReadsOutliveAnOutage(t *testing.T) {
	for name, test := range map[string]struct {
		method   string
		statuses []int
		after    string
		// status 0 is an error.
		status, tries int
		atLeast       time.Duration
	}{
		"answered":          {method: "GET", statuses: []int{200}, status: 200, tries: 1},
		"refused":           {method: "GET", statuses: []int{403}, status: 403, tries: 1},
		"throttled":         {method: "GET", statuses: []int{429}, status: 429, tries: 1},
		"told when":         {method: "GET", statuses: []int{503, 200}, after: "1", status: 503, tries: 1},
		"back":              {method: "GET", statuses: []int{0, 502, 503, 504, 200}, status: 200, tries: 5, atLeast: 4 * readPause / 2},
		"a write":           {method: "PATCH", statuses: []int{0, 200}, tries: 1},
		"a write, answered": {method: "POST", statuses: []int{503, 200}, status: 503, tries: 1},
		"never":             {method: "GET", statuses: []int{0}, atLeast: readPatience},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := &answers{t: t, statuses: test.statuses, after: test.after}
			r, err := http.NewRequestWithContext(t.Context(), test.method, "http://api/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			answer, err := patientTransport{next: server}.RoundTrip(r)
			status := 0
			if err == nil {
				status = answer.StatusCode
				_ = answer.Body.Close()
			}
			if status != test.status || (err != nil) != (test.status == 0) || test.tries > 0 && server.tries != test.tries {
				t.Errorf("%s: %d, %v after %d tries", name, status, err, server.tries)
			}
			if took := time.Since(began); took < test.atLeast || took > test.atLeast+4*readPause {
				t.Errorf("%s: took %s", name, took)
			}
			if server.open != 0 {
				t.Errorf("%s: %d answers left open", name, server.open)
			}
		})
	}
}

// Who no longer waits is not kept.
func TestReadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = patientTransport{next: &answers{t: t, statuses: []int{0}}}.RoundTrip(r) //nolint:bodyclose // there is none
		if !errors.Is(err, errAway) || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
