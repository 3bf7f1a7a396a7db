package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := command().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err == nil {
		return
	}
	if interrupted && errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "Interrupted; everything was stopped.")
		os.Exit(130)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "oaas-local:", err)
	os.Exit(1)
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "oaas-local",
		Short:         "Run Kubernetes clusters and the whole product on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(buildCommand(), upCommand(), runCommand(), demoCommand(), smokeCommand(), benchCommand(), benchHACommand(), benchCRMCommand(), benchDispatchCommand())
	return root
}

func buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build the local Kubernetes and Knative into the cache (some ten minutes the first time)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			binaries, err := local.Build(cmd.Context(), local.BuildOptions{Progress: os.Stderr})
			if err != nil {
				return err
			}
			knative, err := local.BuildKnative(cmd.Context(), local.BuildOptions{Progress: os.Stderr})
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n", binaries.Dir, filepath.Dir(knative.Program))
			return nil
		},
	}
}

func upCommand() *cobra.Command {
	clusters, nodes, fsync := 1, local.DefaultNodes, false
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start clusters, print their kubeconfigs, and keep them until Ctrl-C",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			began := time.Now()
			started, err := startClusters(ctx, clusters, local.Options{Nodes: nodes, FSync: fsync, Progress: os.Stderr})
			if err != nil {
				return err
			}
			defer stopClusters(started)
			fmt.Fprintf(os.Stderr, "Ready in %.1f s. Stop with Ctrl-C.\n", time.Since(began).Seconds())
			for _, c := range started {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%s  # %s\n", c.Kubeconfig, c.Name)
			}
			return stay(ctx, func() error { return whole(started) })
		},
	}
	cmd.Flags().IntVar(&clusters, "clusters", clusters, "number of clusters, named oaas-1, oaas-2, ...")
	cmd.Flags().IntVar(&nodes, "nodes", nodes, "simulated nodes per cluster")
	cmd.Flags().BoolVar(&fsync, "fsync", fsync, "make etcd wait for the disk")
	return cmd
}

func runCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "run -- COMMAND [ARGS...]",
		Short:   "Run a command beside a cluster, named by KUBECONFIG and " + local.TestKubeconfigEnv + ", and end with its exit code",
		Example: "  oaas-local run -- go test ./crm/...",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			started, err := startClusters(ctx, 1, local.Options{Progress: os.Stderr})
			if err != nil {
				return err
			}
			defer stopClusters(started)
			child := exec.CommandContext(ctx, args[0], args[1:]...)
			child.Env = append(os.Environ(), "KUBECONFIG="+started[0].Kubeconfig, local.TestKubeconfigEnv+"="+started[0].Kubeconfig)
			child.Stdout, child.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return process.Run(child)
		},
	}
}

// startClusters starts oaas-1, oaas-2, ... at the same time. After an error none is left running.
func startClusters(ctx context.Context, count int, options local.Options) ([]*local.Cluster, error) {
	binaries, err := local.Build(ctx, local.BuildOptions{Progress: options.Progress})
	if err != nil {
		return nil, err
	}
	options.Binaries = binaries
	clusters := make([]*local.Cluster, count)
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range clusters {
		group.Go(func() error {
			mine := options
			mine.Name = fmt.Sprintf("oaas-%d", i+1)
			c, err := local.Start(groupCtx, mine)
			clusters[i] = c
			return err
		})
	}
	if err := group.Wait(); err != nil {
		stopClusters(clusters)
		return nil, err
	}
	return clusters, nil
}

func stopClusters(clusters []*local.Cluster) {
	var group errgroup.Group
	for _, c := range clusters {
		if c != nil {
			group.Go(c.Stop)
		}
	}
	if err := group.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// stay waits for Ctrl-C, which is no error, and ends with one as soon as check finds one.
func stay(ctx context.Context, check func() error) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := check(); err != nil {
				return err
			}
		}
	}
}

// whole returns why one of the clusters is not.
func whole(clusters []*local.Cluster) error {
	for _, c := range clusters {
		if err := c.Err(); err != nil {
			return err
		}
	}
	return nil
}
