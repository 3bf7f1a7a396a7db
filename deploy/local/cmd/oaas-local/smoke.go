package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/model"
)

const (
	// smokeLimit ends a smoke test that hangs. Builds are not counted.
	smokeLimit = 170 * time.Second
	// stepLimit bounds each wait, so that the message names the step and not only the whole.
	stepLimit = 60 * time.Second
)

func smokeCommand() *cobra.Command {
	var options stackOptions
	cmd := &cobra.Command{
		Use:   "smoke",
		Short: "Check the whole product: failover, outages and deletion, judged by the objects in both clusters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return smoke(cmd.Context(), cmd.OutOrStdout(), &options)
		},
	}
	options.bind(cmd.Flags())
	return cmd
}

// smokeTest is the state of one run.
type smokeTest struct {
	*stack
	*timeline
	pkg    *model.OPackage
	judges []*judge
	// posted are the deployments that should exist, by key.
	posted []placedEverywhere
}

// placedEverywhere is an expectation with the ClassRuntime's name in each cluster.
type placedEverywhere struct {
	*expectation
	names map[string]string
}

func smoke(ctx context.Context, out io.Writer, options *stackOptions) error {
	// Everything that may take minutes once is done before the clock runs.
	if _, err := local.Build(ctx, local.BuildOptions{Progress: os.Stderr}); err != nil {
		return err
	}
	s, err := newStack(ctx, options)
	if err != nil {
		return err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	ctx, cancel := context.WithTimeoutCause(ctx, smokeLimit, fmt.Errorf("the smoke test took longer than %s", smokeLimit))
	defer cancel()
	test := &smokeTest{stack: s, timeline: newTimeline(out)}
	if test.pkg, err = smokePackage(); err != nil {
		return err
	}
	began := time.Now()
	if err := test.run(ctx, options); err != nil {
		test.printLogs(out)
		return err
	}
	test.print(began, "PASSED")
	return nil
}

// smokePackage is the example with several classes and functions; its deployments are submitted one by one.
func smokePackage() (*model.OPackage, error) {
	root, err := local.SourceRoot()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(root, "deploy", "examples", "shop.yaml"))
	if err != nil {
		return nil, err
	}
	pkg, err := model.DecodePackageYAML(data)
	if err != nil {
		return nil, err
	}
	if len(pkg.Deployments) < 2 {
		return nil, fmt.Errorf("the example has %d deployments, want 2", len(pkg.Deployments))
	}
	return pkg, nil
}

func (t *smokeTest) run(ctx context.Context, options *stackOptions) error {
	scenes := []func(context.Context) error{
		func(ctx context.Context) error { return t.begin(ctx, options) },
		t.deployFirst, t.killLeader, t.restartNode, t.deleteFirst, t.crmDown, t.clusterDown, t.deleteAll,
	}
	for _, scene := range scenes {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// limited is step with a limit of its own.
func (t *smokeTest) limited(ctx context.Context, what string, do func(context.Context) error) error {
	return t.step(what, func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, stepLimit, fmt.Errorf("no success within %s", stepLimit))
		defer cancel()
		return do(ctx)
	})
}

// waitJudged waits until both clusters hold exactly what is expected of the posted deployments.
func (t *smokeTest) waitJudged(ctx context.Context) error {
	for _, j := range t.judges {
		var expected []placed
		for _, p := range t.posted {
			if name := p.names[j.cluster]; name != "" {
				expected = append(expected, placed{p.expectation, name})
			}
		}
		err := system.Poll(ctx, "every object in "+j.cluster+" is as expected", func(ctx context.Context) (bool, error) {
			err := j.check(ctx, expected)
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *smokeTest) place(ctx context.Context, pm *system.PM, deployment *model.OClassDeployment) error {
	e, err := expect(t.pkg, deployment)
	if err != nil {
		return err
	}
	names, err := pm.Client().UnitIDs(ctx, deployment.Key)
	if err != nil {
		return err
	}
	for _, env := range e.envs {
		if names[env] == "" {
			return fmt.Errorf("deployment %s has no unit for %s: %v", deployment.Key, env, names)
		}
	}
	if len(names) != len(e.envs) {
		return fmt.Errorf("deployment %s has units for %v, want %v", deployment.Key, names, e.envs)
	}
	t.posted = append(t.posted, placedEverywhere{e, names})
	return nil
}

func (t *smokeTest) forget(key string) {
	for i, p := range t.posted {
		if p.key == key {
			t.posted = append(t.posted[:i:i], t.posted[i+1:]...)
			return
		}
	}
}

// printLogs shows the ends of all logs, because the directory goes with the test.
func (t *smokeTest) printLogs(out io.Writer) {
	if t.system == nil {
		return
	}
	for _, server := range t.system.Servers() {
		state := "running"
		if !server.Running() {
			state = "not running"
		}
		_, _ = fmt.Fprintf(out, "--- %s (%s), end of its log:\n%s\n", server.Name, state, strings.TrimSpace(server.LogTail(15)))
	}
}
