package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/system"
)

// TestSystemWithTLS has one cluster found by gossip and another one connect by itself, with
// TLS and certificates on both sides.
func TestSystemWithTLS(t *testing.T) {
	if _, err := local.Build(t.Context(), local.BuildOptions{Progress: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), smokeLimit)
	defer cancel()
	options := &stackOptions{bin: os.Getenv(system.BinEnv), dir: t.TempDir(), tls: true}
	s, err := newStack(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	if err := s.startClusters(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	// It returns when every cluster is healthy.
	if err := s.startSystem(ctx, options); err != nil {
		t.Fatal(err)
	}
	envs, err := s.system.PMs[0].Client().Envs(ctx)
	if err != nil || len(envs) != clusterCount {
		t.Fatalf("environments %+v (%v)", envs, err)
	}
	for i, scheme := range []string{"https://", "agent://"} {
		if !strings.HasPrefix(envs[i].Address, scheme) {
			t.Errorf("%s is reached at %s", envs[i].Name, envs[i].Address)
		}
	}
}
