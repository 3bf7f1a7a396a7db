package main

import (
	"bytes"
	"os"
	"testing"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

// TestSmoke is the main job end to end: two clusters, three nodes, a killed
// leader, outages and deletions, judged by the objects in both clusters. The
// programs are those of `make build`, or are built here.
func TestSmoke(t *testing.T) {
	var timeline bytes.Buffer
	err := smoke(t.Context(), &timeline, &stackOptions{bin: os.Getenv(system.BinEnv), dir: t.TempDir()})
	t.Log("\n" + timeline.String())
	if err != nil {
		t.Fatal(err)
	}
}
