package workload_test

import (
	"net/http"
	"testing"

	"oaas.io/control-plane/api"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/workload"
)

// Every problem that the API can answer with is judged by what docs/rest.md promises.
func TestEveryProblemOfTheAPIHasAnOutcome(t *testing.T) {
	// Those that do not promise that nothing was done.
	open := map[string]bool{"outcome-unknown": true, "internal": true, "gateway-failed": true}
	for _, p := range api.ProblemTypes() {
		want := history.Failed
		if open[string(p.Code)] {
			want = history.Unknown
		}
		if got := workload.Classify(p.Status, string(p.Code), true); got != want {
			t.Errorf("%d %s is %s, want %s", p.Status, p.Code, got, want)
		}
		// Whoever may ask again without the risk of doing it twice knows that nothing was done.
		if p.Retryable && want != history.Failed && p.Code != "gateway-failed" {
			t.Errorf("%s is retryable and not a refusal", p.Code)
		}
	}
}

func TestAnswersThatAreNoneOfTheAPI(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		code   string
		sent   bool
		want   history.Outcome
	}{
		{"never sent", 0, "", false, history.Failed},
		{"sent and not answered", 0, "", true, history.Unknown},
		{"done", http.StatusCreated, "", true, history.OK},
		{"accepted", http.StatusAccepted, "", true, history.OK},
		{"a gateway's refusal", http.StatusBadGateway, "", true, history.Unknown},
		{"a proxy's 503", http.StatusServiceUnavailable, "", true, history.Unknown},
		{"a proxy's 404", http.StatusNotFound, "", true, history.Unknown},
		{"a redirect", http.StatusFound, "", true, history.Unknown},
		{"a code of a later release", http.StatusServiceUnavailable, "new-code", true, history.Unknown},
	} {
		if got := workload.Classify(tc.status, tc.code, tc.sent); got != tc.want {
			t.Errorf("%s is %s, want %s", tc.name, got, tc.want)
		}
	}
}
