package controller

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

const (
	// readPatience is how long a read of a cache goes on trying.
	readPatience = 30 * time.Second
	// readPause is the mean pause between two tries.
	readPause = 500 * time.Millisecond
)

// PatientHTTPClient is the client of caches. A read that the API server does not answer
// is repeated for a while. To a cache that would be one more failure, after each of which
// it waits twice as long, up to a minute: it would show the state of before an outage long
// after its end, and the controller would act on it.
func PatientHTTPClient(config *rest.Config) (*http.Client, error) {
	patient := rest.CopyConfig(config)
	patient.Wrap(func(next http.RoundTripper) http.RoundTripper { return patientTransport{next: next} })
	c, err := rest.HTTPClientFor(patient)
	if err != nil {
		return nil, fmt.Errorf("HTTP client of the caches: %w", err)
	}
	return c, nil
}

// patientTransport repeats reads that are not answered, or answered for an API server that
// is not there. What the API server itself refuses is not repeated here.
type patientTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p patientTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	for {
		answer, err := p.next.RoundTrip(r)
		if r.Method != http.MethodGet || err == nil && !away(answer) || time.Since(began) >= readPatience {
			return answer, err
		}
		timer := time.NewTimer(readPause/2 + rand.N(readPause))
		select {
		case <-r.Context().Done():
			timer.Stop()
			return answer, err
		case <-timer.C:
		}
		if answer != nil {
			_ = answer.Body.Close() // another answer takes its place
		}
	}
}

// away reports whether an answer speaks for an API server that is not there, or not yet.
// One that says when to come again is left to the caller, who heeds it.
func away(answer *http.Response) bool {
	switch answer.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return answer.Header.Get("Retry-After") == ""
	}
	return false
}
