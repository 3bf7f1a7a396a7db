package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"oaas.io/control-plane/jepsen/nemesis"
	"oaas.io/control-plane/jepsen/run"
)

// What is printed to do a run again means the same run.
func TestCommandMeansTheSameRun(t *testing.T) {
	want := flags{Options: run.Options{
		Seed: 42, Duration: 90 * time.Second, Nodes: 5, CRMs: 1, Agents: 2, Processes: 3, Rate: 2.5, Restore: false, Loopback: true,
		Nemeses: []string{"kill-leader", "move-all"}, Workloads: []string{"register"}, PMArgs: []string{"--profile=fast", "--log-level=debug"},
		Shape: nemesis.Options{MeanFault: 4 * time.Second, MeanPause: 1500 * time.Millisecond, Overlap: 0.25},
		Bin:   "some/bin", UpgradeBin: "other/bin", Settle: time.Minute,
	}}
	words := strings.Fields(want.command(want.Bin))
	got := flags{}
	cmd := &cobra.Command{Use: words[0]}
	got.bind(cmd)
	if err := cmd.ParseFlags(words[1:]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Options, got.Options); diff != "" {
		t.Error(diff)
	}
}

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{nil: 0, errBroken: 1, fmt.Errorf("figures: %w", errBroken): 1, errors.New("no such directory"): 2} {
		if got := exitCode(err); got != want {
			t.Errorf("%v gives %d, want %d", err, got, want)
		}
	}
}

func TestUsageIsChecked(t *testing.T) {
	for _, args := range [][]string{{"--nemesis", "no-such"}, {"--workload", "no-such"}, {"--overlap", "2"}, {"--no-such"}, {"surplus"}} {
		cmd := command()
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); exitCode(err) != exitCannot {
			t.Errorf("%v: %v", args, err)
		}
	}
}
