package command

import (
	"strings"
	"testing"

	"oaas.io/control-plane/model"
)

// A package that goes while its deployments stay says so, on stderr and with exit code 0.
func TestDeletePackageNamesWhatStillRuns(t *testing.T) {
	s := newSession(t)
	s.stock()
	out, code := s.run("delete", "package", "shop")
	if want := "hint: deployments of package shop still run: shop.Cart; "; code != ExitOK || !strings.Contains(out, want) || strings.Index(out, want) < strings.Index(out, "--- stderr") {
		t.Errorf("exit %d, lacks %q on stderr:\n%s", code, want, out)
	}
}

// What does not work is in the normal views although the condition is RUNNING, and so is the
// availability of the plan.
func TestDegradedIsShown(t *testing.T) {
	s := newSession(t)
	s.stock()
	d := s.srv.deployments[0]
	share := 0.9999
	d.Condition, d.Status.Degraded, d.Status.Availability = model.ConditionRunning, map[string]string{"oaas-1": "ImagePullFailed", "oaas-2": "ImagePullFailed"}, &share
	s.srv.units["shop.Cart"] = []string{units(unit("oaas-1", "Degraded", true, inPart), unit("oaas-2", "Available", true, ""))}
	s.srv.runtimes = strings.Replace(s.srv.runtimes, `"created_at"`, `"conditions":[{"type":"Degraded","status":"True","reason":"ImagePullFailed"}],"created_at"`, 1)
	var all strings.Builder
	for _, args := range [][]string{{"get", "deployments"}, {"get", "runtimes"}, {"describe", "deployment", "shop.Cart"}} {
		out, _ := s.run(args...)
		all.WriteString(out)
	}
	golden(t, "degraded", all.String())
}

// Nobody knows how what is stored is while its cluster is away: it is not done, and says
// since when.
func TestUnknownIsShown(t *testing.T) {
	s := newSession(t)
	s.stock()
	s.srv.units["shop.Cart"] = []string{units(unit("oaas-1", "Unknown", true, `"unknown":{"last_phase":"Available","since":"2026-03-05T19:57:00Z","message":"connection refused"}`), unit("oaas-2", "Available", true, ""))}
	out, _ := s.run("describe", "deployment", "shop.Cart")
	if want := "for 3m, was Available; connection refused"; !strings.Contains(out, want) {
		t.Errorf("lacks %q:\n%s", want, out)
	}
	out, code := s.run("rollout", "status", "shop.Cart", "--timeout", "30ms")
	if want := "oaas-1: Unknown, was Available; connection refused for "; code != ExitUnavailable || !strings.Contains(out, want) {
		t.Errorf("exit %d, lacks %q:\n%s", code, want, out)
	}
}
