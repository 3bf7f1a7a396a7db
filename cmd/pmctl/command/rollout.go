package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// statusFormats are the formats of a rollout's status. json has one document a line while it
// is watched.
var statusFormats = []string{"text", "json", "yaml", jsonPathHint}

func (a *app) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rollout", Short: "Follow deployments, and steer how their changes go out", Args: cobra.NoArgs, RunE: needSubcommand}
	cmd.AddCommand(
		a.rolloutStatusCommand(), a.rolloutHistoryCommand(), a.rolloutUndoCommand(),
		a.rolloutChangeCommand("pause", "Let no further cluster have its turn until the rollout is resumed", (*client.Client).PauseRollout),
		a.rolloutChangeCommand("resume", "Let a paused rollout go on, or a failed one try once more", (*client.Client).ResumeRollout),
		a.rolloutChangeCommand("abort", "End a rollout as if it had failed: on_failure says what becomes of the clusters", (*client.Client).AbortRollout),
	)
	return cmd
}

func (a *app) rolloutStatusCommand() *cobra.Command {
	var watch bool
	var timeout time.Duration
	var format string
	status := &cobra.Command{
		Use:   "status [deployment/]KEY",
		Short: "Watch a deployment become available in each cluster",
		Long: `Watch a deployment become available in each of its clusters, wave by wave if its
changes go out in waves.

On a terminal the clusters and their functions are redrawn in place. Otherwise
each transition is a line with its time. It says why a cluster is waiting.

A cluster where older content serves because the present one does not start has
not got it: it is Degraded.

Exit code 0: available everywhere; 1: a cluster refused it or gives up on it, so that
only a change helps, or the rollout has failed or was taken back; 3: no such deployment;
5: the time ran out.`,
		Args:              arguments("KEY", "[KEY]"),
		ValidArgsFunction: a.completeDeployments,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := deploymentArg(args)
			if err != nil {
				return err
			}
			if err := checkFormat(format, statusFormats); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if !watch {
				return a.glance(cmd.Context(), c, key, format)
			}
			ctx, cancel := withTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.followIn(ctx, c, key, timeout, a.newDisplay(format))
		},
	}
	status.Flags().BoolVarP(&watch, "watch", "w", true, "watch until the rollout is done; false prints its present state")
	timeoutFlag(status, &timeout)
	formatFlag(status, &format, statusFormats)
	return status
}

// rolloutChangeCommand is a command that does one thing to a rollout.
func (a *app) rolloutChangeCommand(verb, short string, change func(*client.Client, context.Context, string) (*client.RolloutChanged, error)) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: verb + " [deployment/]KEY", Short: short, Args: arguments("KEY", "[KEY]"), ValidArgsFunction: a.completeDeployments,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, args []string) (*client.RolloutChanged, error) {
			key, err := deploymentArg(args)
			if err != nil {
				return nil, err
			}
			return change(c, ctx, key)
		}, showChanged),
	}
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) rolloutUndoCommand() *cobra.Command {
	var format string
	var revision uint64
	cmd := &cobra.Command{
		Use: "undo [deployment/]KEY", Short: "Go back to an earlier revision of a deployment",
		Long: `Go back to an earlier revision of a deployment: to the last that worked, or to the
one that is named; 'pmctl rollout history' lists them. A rollout that is under way is
taken back; else the earlier content goes out as any other change. How much of the
deployment there is, and where, stays.`,
		Example: `  pmctl rollout undo shop.Cart
  pmctl rollout undo shop.Cart --to-revision 3`,
		Args: arguments("KEY", "[KEY]"), ValidArgsFunction: a.completeDeployments,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, args []string) (*client.RolloutChanged, error) {
			key, err := deploymentArg(args)
			if err != nil {
				return nil, err
			}
			return c.Rollback(ctx, key, revision)
		}, showChanged),
	}
	cmd.Flags().Uint64Var(&revision, "to-revision", 0, "revision to go back to, 0 for the last that worked")
	complete(cmd, "to-revision", a.completeRevisions)
	reportFlag(cmd, &format)
	return cmd
}

// completeRevisions completes the numbers of the revisions that there are.
func (a *app) completeRevisions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	key, err := deploymentArg(args)
	if err != nil || len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(client.OnceAround(cmd.Context()), completionTime)
	defer cancel()
	list, err := c.Revisions(ctx, key)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, r := range list {
		if !r.Present {
			out = append(out, strconv.FormatUint(r.Number, 10)+"\t"+printable(clip(r.Summary, 60)))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func showChanged(w io.Writer, r *client.RolloutChanged) error {
	_, err := fmt.Fprintf(w, "deployment/%s: revision %d, %s\n", printable(r.ID), r.Revision, rolloutWord(r.Phase))
	return err
}

// rolloutWord says in words what a rollout is doing.
func rolloutWord(phase string) string {
	if phase == client.RolloutNone {
		return "to all clusters at once"
	}
	return phase
}

func (a *app) rolloutHistoryCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "history [deployment/]KEY", Short: "List the last revisions of a deployment: who changed what, and how it ended",
		Args: arguments("KEY", "[KEY]"), ValidArgsFunction: a.completeDeployments,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, args []string) ([]client.Revision, error) {
			key, err := deploymentArg(args)
			if err != nil {
				return nil, err
			}
			return c.Revisions(ctx, key)
		}, func(w io.Writer, list []client.Revision) error {
			t := table{header: []string{"REVISION", "TIME", "BY", "OUTCOME", "CHANGE"}}
			for _, r := range list {
				when := none
				if r.Time != nil {
					when = r.Time.UTC().Format("2006-01-02T15:04:05Z")
				}
				outcome := r.Outcome
				if r.Present {
					outcome = "present"
				}
				by := auditor(&client.AuditEntry{Principal: r.Principal, Agent: r.Agent})
				t.add(strconv.FormatUint(r.Number, 10), when, by, orDash(outcome), orDash(r.Summary))
			}
			return t.write(w)
		}),
	}
	reportFlag(cmd, &format)
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

// look asks how a deployment stands. A server of before there were rollouts has none to
// tell.
func look(ctx context.Context, c *client.Client, key string) (progress, error) {
	units, err := c.Units(ctx, key)
	if err != nil {
		return progress{}, err
	}
	r, err := c.Rollout(ctx, key)
	if err != nil && !client.IsNotFound(err) {
		return progress{}, err
	}
	return newProgress(key, units, r), nil
}

// glance prints the state once. It fails when the rollout has failed.
func (a *app) glance(ctx context.Context, c *client.Client, key, format string) error {
	p, err := look(ctx, c, key)
	if err != nil {
		return err
	}
	if format != "" && format != statusFormats[0] {
		if err := printStructured(a.Out, format, p.document()); err != nil {
			return err
		}
		return p.failure()
	}
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
	// end says that all clusters have it.
	end(p progress, elapsed time.Duration)
}

// follow watches a rollout until it is done, has failed, or ctx ends. limit is
// the time that ctx allows, for the message.
func (a *app) follow(ctx context.Context, c *client.Client, key string, limit time.Duration) error {
	return a.followIn(ctx, c, key, limit, a.newDisplay(""))
}

func (a *app) followIn(ctx context.Context, c *client.Client, key string, limit time.Duration, screen display) error {
	started := a.Now()
	var last progress
	for {
		p, err := look(ctx, c, key)
		switch {
		case err == nil:
			last = p
			elapsed := a.Now().Sub(started)
			screen.show(last, elapsed)
			if err := last.failure(); err != nil {
				return err
			}
			if last.done() {
				screen.end(last, elapsed)
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
