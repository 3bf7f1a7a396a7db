package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/model"
)

func demoCommand() *cobra.Command {
	var options stackOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run two clusters, a crm in each and three pmd, deploy the examples, and stay until Ctrl-C",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), &options)
		},
	}
	options.bind(cmd.Flags())
	return cmd
}

func demo(ctx context.Context, out io.Writer, options *stackOptions) error {
	s, err := newStack(ctx, options)
	if err != nil {
		return err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted

	began := time.Now()
	_, _ = fmt.Fprintln(out, "Starting two Kubernetes clusters ...")
	if err := s.startClusters(ctx, os.Stderr); err != nil {
		return err
	}
	for _, c := range s.clusters {
		_, _ = fmt.Fprintf(out, "  %s  %s\n", c.Name, c.Server)
	}
	_, _ = fmt.Fprintln(out, "Starting three pmd, and a crm for each cluster; one is found by gossip, the other connects by itself, as at an edge ...")
	startCtx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := s.startSystem(startCtx, options); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "Everything is up after %.1f s.\n\n", time.Since(began).Seconds())

	if err := s.submitExamples(ctx, out); err != nil {
		return err
	}
	s.printTour(ctx, out)
	if err := stay(ctx, s.check); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "\nStopping everything ...")
	return nil
}

// submitExamples applies the examples as a user would and shows how they become available.
func (s *stack) submitExamples(ctx context.Context, out io.Writer) error {
	files, err := exampleFiles()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := s.cli(ctx, out, "apply", "-f", displayPath(file)); err != nil {
			return err
		}
		keys, err := deploymentKeys(file)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := s.cli(ctx, out, "rollout", "status", "deployment/"+key, "--timeout", "60s"); err != nil {
				return err
			}
		}
	}
	return s.cli(ctx, out, "get", "deployments")
}

func deploymentKeys(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pkg, err := model.DecodePackageYAML(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var keys []string
	for _, deployment := range pkg.Deployments {
		keys = append(keys, deployment.Key)
	}
	return keys, nil
}

// servers are the URLs of all nodes, as pmctl takes them: it moves on to the next when one is gone.
func (s *stack) servers() string {
	var urls []string
	for _, pm := range s.system.PMs {
		urls = append(urls, pm.URL())
	}
	return strings.Join(urls, ",")
}

// cli runs pmctl and shows the command line.
func (s *stack) cli(ctx context.Context, out io.Writer, args ...string) error {
	_, _ = fmt.Fprintf(out, "$ pmctl %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, s.system.CLI(), args...)
	cmd.Env = append(os.Environ(), "PMCTL_SERVER="+s.servers())
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := process.Run(cmd); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("pmctl %s: %w", strings.Join(args, " "), err)
	}
	_, _ = fmt.Fprintln(out)
	return nil
}

// displayPath is short when the command runs in the source tree.
func displayPath(path string) string {
	if at, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(at, path); err == nil && !strings.HasPrefix(short, "..") {
			return short
		}
	}
	return path
}

func (s *stack) printTour(ctx context.Context, out io.Writer) {
	_, _ = fmt.Fprintln(out, "The Package Manager (any node answers for all of them):")
	leader, err := s.system.Leader(ctx)
	for _, pm := range s.system.PMs {
		role := ""
		if err == nil && pm == leader {
			role = "  <- leader"
		}
		_, _ = fmt.Fprintf(out, "  %s  %s  pid %d%s\n", pm.Name, pm.URL(), pm.PID(), role)
	}
	_, _ = fmt.Fprintln(out, "The clusters:")
	for _, crm := range s.system.CRMs {
		_, _ = fmt.Fprintf(out, "  %s  KUBECONFIG=%s\n          crm pid %d, metrics at http://%s/metrics\n", crm.Cluster.Name, crm.Cluster.Kubeconfig, crm.PID(), crm.MetricsAddress)
	}
	first, kubectl := s.clusters[0], s.clusters[0].KubectlPath
	_, _ = fmt.Fprintf(out, `Logs and data: %[1]s

Try next, in another terminal:
  export PMCTL_SERVER=%[7]s
  %[3]s get envs -o wide
  %[3]s describe deployment shop.Cart
  %[3]s delete deployment shop.Order
  curl -s %[2]s/api/v1/class-runtimes
  %[4]s --kubeconfig %[5]s -n %[6]s get classruntimes,deployments,pods
`, s.system.Dir, s.system.PMs[0].URL(), s.system.CLI(), kubectl, first.Kubeconfig, s.system.Namespace, s.servers())
	if err == nil {
		_, _ = fmt.Fprintf(out, "  kill -9 %d    # the leader: another node takes over, nothing is lost\n", leader.PID())
	}
	_, _ = fmt.Fprintln(out, "\nStop everything with Ctrl-C.")
}

// check tolerates the death of single processes, which the user is invited to kill, but not that nothing is left to show.
func (s *stack) check() error {
	if err := whole(s.clusters); err != nil {
		return err
	}
	for _, pm := range s.system.PMs {
		if pm.Running() {
			return nil
		}
	}
	return errors.New("no pmd is left")
}
