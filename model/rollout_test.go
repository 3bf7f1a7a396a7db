package model

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rolloutExample is the example of the documentation.
func rolloutExample(tb testing.TB) []byte {
	tb.Helper()
	text, err := os.ReadFile("testdata/rollout.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestRolloutExample(t *testing.T) {
	docs, err := DecodeManifest(rolloutExample(t))
	if err != nil || len(docs) != 1 || docs[0].Deployment == nil {
		t.Fatalf("got %+v, %v", docs, err)
	}
	d := docs[0].Deployment
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	want := &RolloutStrategy{Canary: "1", MaxUnavailable: "25%", MinHealthyTime: "30s", ProgressDeadline: "10m", OnFailure: OnFailureRollback}
	if diff := cmp.Diff(want, d.Rollout); diff != "" {
		t.Errorf("strategy (-want +got):\n%s", diff)
	}
	got, err := d.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	form := `"rollout":{"canary":1,"max_unavailable":"25%","min_healthy_time":"30s","progress_deadline":"10m","on_failure":"rollback"},"functions"`
	if !strings.Contains(string(got), form) {
		t.Errorf("canonical form has no %s: %s", form, got)
	}
}

// What the documentation shows is what the tests read.
func TestRolloutExampleIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/rest.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```yaml\n"+string(rolloutExample(t))+"```") {
		t.Error("docs/rest.md does not have testdata/rollout.yaml as it is")
	}
}

// Documents without a strategy have the bytes of the original system.
func TestRolloutIsLeftOut(t *testing.T) {
	for in, want := range map[string]string{
		``:                             ``,
		`,"rollout":null`:              ``,
		`,"rollout":{}`:                `"rollout":{"on_failure":"keep"},`,
		`,"rollout":{"canary":0}`:      `"rollout":{"canary":0,"on_failure":"keep"},`,
		`,"rollout":{"canary":"100%"}`: `"rollout":{"canary":"100%","on_failure":"keep"},`,
	} {
		d, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c"` + in + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		whole := `{"key":"k","package_name":"p","class_key":"c","nfr_requirements":{"min_throughput_rps":null,"availability":null,"cpu_utilization_target":null},` +
			want + `"functions":[],"condition":"PENDING"}`
		if diff := cmp.Diff(whole, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
}

func TestRolloutSchema(t *testing.T) {
	const amount = `must be a number of environments, such as 2, or a share of them, such as "25%", got `
	for in, want := range map[string]string{
		`"canary":"2"`:             `rollout.canary: ` + amount + `2`,
		`"canary":-1`:              `rollout.canary: ` + amount + `-1`,
		`"canary":1.5`:             `rollout.canary: ` + amount + `1.5`,
		`"canary":10000`:           `rollout.canary: ` + amount + `10000`,
		`"max_unavailable":"025%"`: `rollout.max_unavailable: ` + amount + `025%`,
		`"max_unavailable":true`:   `rollout.max_unavailable: ` + amount + `a boolean (true)`,
		`"min_healthy_time":30`:    `rollout.min_healthy_time: must be a string`,
		`"on_failure":"revert"`:    `rollout.on_failure: must be one of keep, rollback, got "revert"`,
		`"max_unavail":1`:          `rollout.max_unavail: is none of canary, max_unavailable, min_healthy_time, progress_deadline, on_failure`,
	} {
		_, err := ReadDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c","rollout":{` + in + `}}`))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", in, err, want)
		}
	}
}

func TestValidateRollout(t *testing.T) {
	for in, want := range map[string]string{
		`"canary":1001`:                                      `rollout.canary: must be within 0..1000, got 1001`,
		`"canary":"101%"`:                                    `rollout.canary: must be within 0%..100%, got 101%`,
		`"max_unavailable":0`:                                `rollout.max_unavailable: must be within 1..1000, got 0`,
		`"max_unavailable":"0%"`:                             `rollout.max_unavailable: must be within 1%..100%, got 0%`,
		`"min_healthy_time":"soon"`:                          `rollout.min_healthy_time: "soon" is not a duration within 0s..24h0m0s; write for instance 30s or 10m`,
		`"min_healthy_time":"-1s"`:                           `rollout.min_healthy_time: "-1s" is not a duration`,
		`"progress_deadline":"999ms"`:                        `rollout.progress_deadline: "999ms" is not a duration within 1s..168h0m0s`,
		`"progress_deadline":"169h"`:                         `rollout.progress_deadline: "169h" is not a duration`,
		`"progress_deadline":"10s"`:                          `rollout.progress_deadline: is 10s; it must be more than min_healthy_time, which is 10s`,
		`"min_healthy_time":"1h","progress_deadline":"30m"`:  `rollout.progress_deadline: is 30m0s; it must be more than min_healthy_time, which is 1h0m0s`,
		`"min_healthy_time":"0s","progress_deadline":"1s"`:   ``,
		`"canary":"0%","max_unavailable":"1%"`:               ``,
		`"canary":1000,"max_unavailable":1000`:               ``,
		`"min_healthy_time":"24h","progress_deadline":"25h"`: ``,
	} {
		d, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c","rollout":{` + in + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		switch err := d.Validate(); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", in, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v\nwant %s", in, err, want)
		}
	}
}

func TestAmounts(t *testing.T) {
	for _, tt := range []struct {
		amount   Amount
		n        int
		down, up int
		ok       bool
	}{
		{"2", 10, 2, 2, true}, {"25%", 10, 2, 3, true}, {"100%", 7, 7, 7, true}, {"1%", 3, 0, 1, true}, {"0%", 3, 0, 0, true},
		{"", 3, 0, 0, false}, {"x", 3, 0, 0, false}, {"-1", 3, 0, 0, false},
	} {
		down, ok := tt.amount.Of(tt.n, false)
		up, _ := tt.amount.Of(tt.n, true)
		if down != tt.down || up != tt.up || ok != tt.ok {
			t.Errorf("%q of %d: %d, %d, %v", tt.amount, tt.n, down, up, ok)
		}
	}
	s := &RolloutStrategy{}
	if s.MinHealthy() != DefaultMinHealthyTime || s.Deadline() != DefaultProgressDeadline {
		t.Errorf("defaults are %s and %s", s.MinHealthy(), s.Deadline())
	}
	s = &RolloutStrategy{MinHealthyTime: "0s", ProgressDeadline: "2m"}
	if s.MinHealthy() != 0 || s.Deadline() != 2*time.Minute {
		t.Errorf("%s and %s", s.MinHealthy(), s.Deadline())
	}
}
