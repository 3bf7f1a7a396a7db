package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

func (a *app) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rollout", Short: "Follow deployments", Args: cobra.NoArgs, RunE: needSubcommand}
	var watch bool
	var timeout time.Duration
	status := &cobra.Command{
		Use:   "status [deployment/]KEY",
		Short: "Watch a deployment become available in each cluster",
		Long: `Watch a deployment become available in each of its clusters.

On a terminal the clusters and their functions are redrawn in place. Otherwise
each transition is a line with its time. It says why a cluster is waiting.

Exit code 0: available everywhere; 1: a cluster refused it, so that only a change
helps; 3: no such deployment; 5: the time ran out.`,
		Args:              arguments("KEY", "[KEY]"),
		ValidArgsFunction: a.completeDeployments,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := deploymentArg(args)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if !watch {
				return a.glance(cmd.Context(), c, key)
			}
			ctx, cancel := withTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.follow(ctx, c, key, timeout)
		},
	}
	status.Flags().BoolVarP(&watch, "watch", "w", true, "watch until the rollout is done; false prints its present state")
	timeoutFlag(status, &timeout)
	cmd.AddCommand(status)
	return cmd
}

// deploymentArg reads KEY, deployment/KEY or deployment KEY.
func deploymentArg(args []string) (string, error) {
	if len(args) == 1 {
		if _, err := findResource(args[0]); err != nil && !hasSlash(args[0]) {
			return args[0], nil
		}
	}
	kind, names, err := typeAndNames(args)
	switch {
	case err != nil:
		return "", err
	case kind.singular != "deployment":
		return "", usagef("only deployments have a rollout, got %s", kind.singular)
	case len(names) != 1:
		return "", usagef("name one deployment")
	}
	return names[0], nil
}

// glance prints the state once. It fails when the rollout has failed.
func (a *app) glance(ctx context.Context, c *client.Client, key string) error {
	units, err := c.Units(ctx, key)
	if err != nil {
		return err
	}
	p := newProgress(key, units)
	for _, line := range p.frame(0) {
		a.printf("%s\n", line)
	}
	return p.failure()
}

// display shows a rollout while it goes on.
type display interface {
	// show is called after every look at the units.
	show(p progress, elapsed time.Duration)
	// trouble tells that the servers did not answer.
	trouble(err error)
}

// follow watches a rollout until it is done, has failed, or ctx ends. limit is
// the time that ctx allows, for the message.
func (a *app) follow(ctx context.Context, c *client.Client, key string, limit time.Duration) error {
	started := a.Now()
	screen := a.newDisplay()
	var last progress
	for {
		units, err := c.Units(ctx, key)
		switch {
		case err == nil:
			last = newProgress(key, units)
			elapsed := a.Now().Sub(started)
			screen.show(last, elapsed)
			if err := last.failure(); err != nil {
				return err
			}
			if last.done() {
				a.printf("deployment %q is available in %s (%s)\n", key, clusters(len(last.units)), elapsed.Round(100*time.Millisecond))
				return nil
			}
		case ctx.Err() != nil:
		case client.IsNotFound(err) && last.key != "":
			return &hinted{fmt.Errorf("deployment %q was deleted meanwhile", key), "'pmctl get deletions' shows what the clusters still have to remove"}
		case client.IsUnavailable(err):
			screen.trouble(err)
		default:
			return err
		}
		if err := a.pause(ctx); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return last.timedOut(key, limit, a.Now())
			}
			return err
		}
	}
}
