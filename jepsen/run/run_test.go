package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/nemesis"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

// A short run from its start to its report.
func TestRun(t *testing.T) {
	bin := os.Getenv(system.BinEnv)
	if bin == "" {
		bin = t.TempDir()
		if err := system.Build(t.Context(), bin, "pmd"); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	r, err := Run(t.Context(), Options{
		Seed: 7, Duration: 10 * time.Second, Agents: 1, Bin: bin, Dir: t.TempDir(), Processes: 2, Rate: 8,
		Nemeses: []string{"kill-leader", "pause-follower", "unplug-agent", "upgrade"}, Restore: true, PMArgs: []string{"--profile=fast"},
		Shape: nemesis.Options{MeanFault: time.Second, MeanPause: time.Second}, Progress: &said, Command: "oaas-chaos --seed 7",
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if !r.Kept() || len(r.Problems) > 0 {
		t.Errorf("a promise was broken, or the harness had problems:\n%s", said.String())
	}
	if len(r.Done) != len(r.Steps) || len(r.Done) < 2 {
		t.Errorf("%d of %d steps were done", len(r.Done), len(r.Steps))
	}
	if len(r.Missing) != 1 || r.Missing[0].Name != "upgrade" {
		t.Errorf("missing: %v", r.Missing)
	}
	for _, line := range []string{"Not available: upgrade: ", "NEMESIS", "All nodes are ready ", "ok   linearizable: ", "ok   restore: "} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("the progress does not say %q:\n%s", line, said.String())
		}
	}
	for _, f := range r.Figures() {
		if !f.OK {
			t.Errorf("%+v", f)
		}
	}
	page := filepath.Join(t.TempDir(), "out", "chaos.html")
	if err := r.WriteReport(page); err != nil {
		t.Fatal(err)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"oaas-chaos --seed 7", "kill-leader", "upgrade"} {
		if !strings.Contains(string(html), text) {
			t.Errorf("the report does not say %q", text)
		}
	}
	for _, file := range []string{"history.jsonl", "final.json"} {
		if info, err := os.Stat(filepath.Join(r.Dir, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"nemesis":  {Nemeses: []string{"no-such"}},
		"workload": {Workloads: []string{"no-such"}},
		"overlap":  {Shape: nemesis.Options{Overlap: 2}},
		"duration": {Duration: -time.Second},
	} {
		if err := o.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
