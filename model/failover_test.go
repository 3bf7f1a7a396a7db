package model

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the documentation shows is what is read, and it has one form.
func TestFailoverExample(t *testing.T) {
	text, err := os.ReadFile("testdata/failover.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/rest.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```yaml\n"+string(text)+"```") {
		t.Error("docs/rest.md does not have testdata/failover.yaml as it is")
	}
	docs, err := DecodeManifest(text)
	if err != nil || len(docs) != 1 || docs[0].Deployment == nil {
		t.Fatalf("got %+v, %v", docs, err)
	}
	d := docs[0].Deployment
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	most := uint32(2)
	want := &FailoverPolicy{Mode: FailoverAutomatic, After: "5m", MaxPerHour: &most, OnReturn: OnReturnStay}
	if diff := cmp.Diff(want, d.Failover); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	if !d.Failover.Automatic() || d.Failover.Wait() != 5*time.Minute || d.Failover.PerHour() != 2 {
		t.Errorf("it means %v, %s, %d", d.Failover.Automatic(), d.Failover.Wait(), d.Failover.PerHour())
	}
	got, err := d.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if form := `"failover":{"mode":"automatic","after":"5m","max_per_hour":2,"on_return":"stay"},"functions"`; !strings.Contains(string(got), form) {
		t.Errorf("canonical form has no %s: %s", form, got)
	}
}

func TestFailoverIsOff(t *testing.T) {
	var none *FailoverPolicy
	for in, automatic := range map[string]bool{``: false, `,"failover":null`: false, `,"failover":{}`: false, `,"failover":{"mode":"automatic"}`: true} {
		d, err := DecodeDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c"` + in + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if d.Failover.Automatic() != automatic {
			t.Errorf("%s: automatic is %v", in, d.Failover.Automatic())
		}
	}
	if none.Automatic() || (&FailoverPolicy{}).Wait() != DefaultFailoverAfter || (&FailoverPolicy{}).PerHour() != DefaultMaxFailovers {
		t.Error("the defaults are not those of the documentation")
	}
}

func TestFailoverIsChecked(t *testing.T) {
	for in, want := range map[string]string{
		`"mode":"maybe"`:     `failover.mode: must be one of off, automatic, got "maybe"`,
		`"on_return":"go"`:   `failover.on_return: must be one of stay, return, got "go"`,
		`"max_per_hour":-1`:  `failover.max_per_hour: must be a whole number`,
		`"max_per_hours":1`:  `failover.max_per_hours: is none of mode, after, max_per_hour, on_return`,
		`"after":"soon"`:     `failover.after: "soon" is not a duration within 0s..24h0m0s`,
		`"after":"25h"`:      `failover.after: "25h" is not a duration`,
		`"max_per_hour":0`:   `failover.max_per_hour: must be within 1..10, got 0; mode off never moves it`,
		`"max_per_hour":11`:  `failover.max_per_hour: must be within 1..10, got 11`,
		`"mode":"automatic"`: ``,
	} {
		d, err := ReadDeployment([]byte(`{"key":"k","package_name":"p","class_key":"c","failover":{` + in + `}}`))
		if err == nil {
			err = d.Validate()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v\nwant %s", in, err, want)
		}
	}
}
