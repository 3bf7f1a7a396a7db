package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/bench"
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
	s, err := newStack(ctx, &options.stackOptions)
	if err != nil {
		return err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	if err := s.startClusters(ctx, os.Stderr); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, benchLimit, fmt.Errorf("the measurement took longer than %s", benchLimit))
	defer cancel()
	if err := s.startSystem(ctx, options.dir); err != nil {
		return err
	}
	var results []bench.Result
	for _, measure := range []func(context.Context, int) ([]bench.Result, error){s.benchRefusals, s.benchDeployments} {
		more, err := measure(ctx, options.rounds)
		if err != nil {
			return err
		}
		results = append(results, more...)
	}
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
