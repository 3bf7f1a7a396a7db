package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/deploy/local/workdir"
)

// haLimit ends a measurement that hangs.
const haLimit = 60 * time.Minute

// haPackage has one class, so that a deployment of it is one unit in the one cluster that there is.
const haPackage = `{"name":"bench","classes":[{"key":"Probe","function_bindings":[{"name":"one","function_key":"Probe.one","access_modifier":"PUBLIC"}]}],
	"functions":[{"key":"Probe.one","provision_config":{"container_image":"registry.example.com/bench/one:1"}}]}`

const haCluster = "bench-1"

// haOptions are the flags of bench-ha.
type haOptions struct {
	stackOptions
	out         string
	kills       int
	rounds      int
	deployments int
	only        []string
}

// haFigure is a group of figures that are measured together on a system of its own.
type haFigure struct {
	name    string
	profile string
	measure func(context.Context, *haStack, *haOptions) ([]bench.Result, error)
}

func haFigures() []haFigure {
	return []haFigure{
		{"failover-standard", "standard", measureFailover},
		{"failover-fast", "fast", measureFailover},
		{"sigterm", "standard", measureSigterm},
		{"rolling", "standard", measureRolling},
		{"bad-input", "standard", measureBadInput},
		{"scale", "standard", measureScale},
	}
}

func benchHACommand() *cobra.Command {
	options := haOptions{kills: 30, rounds: 10, deployments: 100_000}
	cmd := &cobra.Command{
		Use:   "bench-ha",
		Short: "Measure what a cluster of three nodes promises: failover, restarts, scale, bad input (no Kubernetes)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBenchHA(cmd.Context(), cmd.OutOrStdout(), &options)
		},
	}
	options.bind(cmd.Flags())
	cmd.Flags().StringVar(&options.out, "out", "", "write the results as JSON to this file")
	cmd.Flags().IntVar(&options.kills, "kills", options.kills, "how often the leader is killed, for each of the failover figures")
	cmd.Flags().IntVar(&options.rounds, "rounds", options.rounds, "how often the leader is ended by SIGTERM; a fifth of it, at least one, are rolling restarts, and five times it is how often each kind of bad input is sent")
	cmd.Flags().IntVar(&options.deployments, "deployments", options.deployments, "deployments that are loaded for the figures at scale")
	cmd.Flags().StringSliceVar(&options.only, "only", nil, "measure only these: "+strings.Join(haNames(), ", "))
	return cmd
}

func haNames() (names []string) {
	for _, f := range haFigures() {
		names = append(names, f.name)
	}
	return names
}

// Validate reports flags that cannot be used.
func (o *haOptions) Validate() error {
	var errs []error
	for flag, n := range map[string]int{"kills": o.kills, "rounds": o.rounds, "deployments": o.deployments} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("--%s %d: want 1 or more", flag, n))
		}
	}
	for _, name := range o.only {
		if !slices.Contains(haNames(), name) {
			errs = append(errs, fmt.Errorf("--only %s: want some of %s", name, strings.Join(haNames(), ", ")))
		}
	}
	return errors.Join(errs...)
}

func runBenchHA(ctx context.Context, out io.Writer, options *haOptions) error {
	results, err := measureHA(ctx, options)
	return publish(out, options.out, results, err)
}

// measureHA gives what was measured, also when not all could be.
func measureHA(ctx context.Context, options *haOptions) ([]bench.Result, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, haLimit, fmt.Errorf("the measurement took longer than %s", haLimit))
	defer cancel()
	scratch, err := workdir.New("", "bench-ha")
	if err != nil {
		return nil, err
	}
	defer func() { _ = scratch.Remove() }() // a temporary directory that stays is no reason to lose the results
	bin := options.bin
	if bin == "" {
		bin = scratch.Path
		if err := system.Build(ctx, bin, "pmd"); err != nil {
			return nil, err
		}
	}
	var results []bench.Result
	for _, figure := range haFigures() {
		if len(options.only) > 0 && !slices.Contains(options.only, figure.name) {
			continue
		}
		more, err := measureFigure(ctx, bin, figure, options)
		results = append(results, more...)
		if err != nil {
			return results, fmt.Errorf("%s: %w", figure.name, err)
		}
	}
	return results, nil
}

func measureFigure(ctx context.Context, bin string, figure haFigure, options *haOptions) ([]bench.Result, error) {
	fmt.Fprintf(os.Stderr, "%s ...\n", figure.name)
	dir := options.dir
	if dir != "" {
		dir += "/" + figure.name
	}
	s, err := startHA(ctx, bin, dir, figure.profile)
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	results, err := figure.measure(ctx, s, options)
	for _, r := range results {
		fmt.Fprintf(os.Stderr, "  %s %g %s (%s)\n", r.Name, r.Value, r.Unit, r.Bound)
	}
	return results, err
}

// haStack is three nodes and one cluster that only exists in memory.
type haStack struct {
	system  *system.System
	agent   *agent.Agent
	profile string
}

func startHA(ctx context.Context, bin, dir, profile string) (*haStack, error) {
	a, err := agent.Start(agent.Options{Name: haCluster})
	if err != nil {
		return nil, err
	}
	s := &haStack{agent: a, profile: profile}
	s.system, err = system.Start(ctx, system.Options{
		Bin: bin, Dir: dir, Nodes: nodeCount, PMArgs: []string{"--profile=" + profile},
		PMEnv: []string{fmt.Sprintf(`CRM_CLUSTERS_JSON={%q:{"url":"http://%s"}}`, haCluster, a.Address())},
	})
	if err != nil {
		s.stop() //nolint:contextcheck // see above
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.stop() //nolint:contextcheck // see above
		return nil, err
	}
	return s, nil
}

// prepare waits for the cluster and stores the package that all deployments are of.
func (s *haStack) prepare(ctx context.Context) error {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return err
	}
	err = system.Poll(ctx, "the cluster is healthy", func(ctx context.Context) (bool, error) {
		envs, err := leader.Client().Envs(ctx)
		return err == nil && len(envs) == 1 && envs[0].Health.Status == "Healthy", err
	})
	if err != nil {
		return err
	}
	_, err = leader.Client().Do(ctx, http.MethodPost, "/api/v1/packages", []byte(haPackage), nil)
	return err
}

func (s *haStack) stop() {
	if s.system != nil {
		if err := s.system.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if err := s.agent.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// recover starts a node again and waits until it has caught up and is a voter in health.
func (s *haStack) recover(ctx context.Context, pm *system.PM) error {
	if err := pm.Start(); err != nil {
		return err
	}
	// Ready means that it can answer linearizable reads: its state is not behind.
	if err := pm.WaitReady(ctx); err != nil {
		return err
	}
	return system.Poll(ctx, pm.Name+" is a healthy voter", func(ctx context.Context) (bool, error) {
		var members []struct {
			GRPCAddress string `json:"grpc_address"`
			Voter       bool   `json:"voter"`
			Health      *struct {
				Healthy bool     `json:"healthy"`
				Reasons []string `json:"reasons"`
			} `json:"health"`
		}
		if _, err := pm.Client().Do(ctx, http.MethodGet, "/api/v1/members", nil, &members); err != nil {
			return false, err
		}
		for _, m := range members {
			if m.GRPCAddress != pm.GRPCAddress {
				continue
			}
			if m.Health != nil && !m.Health.Healthy {
				return false, fmt.Errorf("not healthy: %v", m.Health.Reasons)
			}
			return m.Voter, nil
		}
		return false, errors.New("it is no member")
	})
}

func deploymentBody(key string) []byte {
	return fmt.Appendf(nil, `{"key":%q,"package_name":"bench","class_key":"Probe","target_envs":[%q]}`, key, haCluster)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
