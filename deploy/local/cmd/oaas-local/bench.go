package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local"
)

// benchLimit ends a measurement that hangs.
const benchLimit = 20 * time.Minute

// benchOptions are the flags of bench.
type benchOptions struct {
	stackOptions
	out    string
	rounds int
}

func benchCommand() *cobra.Command {
	options := benchOptions{rounds: 100}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what the product promises: answers, time until it runs, refusals of bad input",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd.Context(), cmd.OutOrStdout(), &options)
		},
	}
	options.bind(cmd.Flags())
	cmd.Flags().StringVar(&options.out, "out", "", "write the results as JSON to this file")
	cmd.Flags().IntVar(&options.rounds, "rounds", options.rounds, "deployments, one after the other")
	return cmd
}

func runBench(ctx context.Context, out io.Writer, options *benchOptions) error {
	if options.rounds < 1 {
		return fmt.Errorf("--rounds %d: want 1 or more", options.rounds)
	}
	// Everything that may take minutes once is done before any clock runs.
	if _, err := local.Build(ctx, local.BuildOptions{Progress: os.Stderr}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, benchLimit, fmt.Errorf("the measurement took longer than %s", benchLimit))
	defer cancel()
	results, err := measureStack(ctx, options)
	if err != nil {
		return err
	}
	smoked, err := measureSmoke(ctx, options)
	if err != nil {
		return err
	}
	results = append(results, smoked)
	if err := bench.WriteTable(out, results); err != nil {
		return err
	}
	if options.out != "" {
		if err := bench.WriteJSON(options.out, results); err != nil {
			return err
		}
	}
	if failed := bench.Failed(results); failed > 0 {
		return fmt.Errorf("%d of %d figures miss their bound", failed, len(results))
	}
	return nil
}

// measureStack measures on a stack of its own, from its start on.
func measureStack(ctx context.Context, options *benchOptions) ([]bench.Result, error) {
	s, err := newStack(ctx, &options.stackOptions)
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	began := time.Now()
	if err := s.startClusters(ctx, os.Stderr); err != nil {
		return nil, err
	}
	clusters := time.Since(began)
	began = time.Now()
	if err := s.startSystem(ctx, &options.stackOptions); err != nil {
		return nil, err
	}
	results := []bench.Result{
		bench.AtMost("clusters_ready", clusters.Seconds(), 30, "s", "two Kubernetes clusters in parallel with a warm cache, until their nodes are Ready and the CRD is served"),
		bench.Info("system_ready", time.Since(began).Seconds(), "s", "three pmd and two crm, from nothing until there is a leader and both clusters are found"),
	}
	for _, measure := range []func(context.Context, int) ([]bench.Result, error){s.benchRefusals, s.benchDeployments} {
		more, err := measure(ctx, options.rounds)
		if err != nil {
			return nil, err
		}
		results = append(results, more...)
	}
	return results, nil
}

// measureSmoke times a whole smoke test.
func measureSmoke(ctx context.Context, options *benchOptions) (bench.Result, error) {
	fmt.Fprintln(os.Stderr, "smoke test ...")
	began := time.Now()
	if err := smoke(ctx, io.Discard, &stackOptions{bin: options.bin}); err != nil {
		return bench.Result{}, fmt.Errorf("smoke test: %w", err)
	}
	return bench.AtMost("smoke_duration", time.Since(began).Seconds(), 180, "s", "the whole smoke test with a warm cache, clusters included"), nil
}
