package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

func (a *app) drainCommand() *cobra.Command {
	var reason, format string
	var wait, dryRun bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drain ENV", Short: "Move everything that runs in an environment elsewhere", Args: arguments("ENV"),
		Long: `Move everything that runs in an environment elsewhere, and give it nothing new. What
runs there stays until what takes its place is available; a deployment that has no
place to go stays and says so. It goes on whether this command waits or not, until
'pmctl undrain'.

Exit code 0: drained, or begun without --wait; 3: no such environment; 5: the time ran
out. With --dry-run as of 'pmctl simulate'.`,
		Example: `  pmctl drain eu-1 --reason "new disks" --wait
  pmctl drain eu-1 --dry-run`,
		ValidArgsFunction: a.completeEnvs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun {
				changed, err := a.simulate(cmd.Context(), client.Scenario{Drain: []string{"env=" + args[0]}, Limit: 100}, format)
				return outcome(changed, err)
			}
			begin := a.changing(&format, func([]string) (change, error) {
				return func(p *client.ClusterPolicy) error {
					p.Draining, p.DrainReason = true, reason
					return nil
				}, nil
			})
			if err := begin(cmd, args); err != nil || !wait {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := withTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.followDrain(ctx, c, args[0], timeout)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for others to read")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until nothing runs there any more, and tell how far it is")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "tell where the deployments would go, and change nothing")
	timeoutFlag(cmd, &timeout)
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) undrainCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "undrain ENV", Short: "End a drain; what has moved stays where it is", Args: arguments("ENV"),
		Long: `End a drain and let the environment be given deployments again. What has moved, or has
begun to, stays where it is. An environment that was cordoned as well stays cordoned.`,
		ValidArgsFunction: a.completeEnvs,
	}
	cmd.RunE = a.changing(&format, func([]string) (change, error) {
		return func(p *client.ClusterPolicy) error {
			p.Draining, p.DrainReason = false, ""
			return nil
		}, nil
	})
	reportFlag(cmd, &format)
	return cmd
}

// followDrain tells how far a drain is whenever that changes, until it is done.
func (a *app) followDrain(ctx context.Context, c *client.Client, env string, limit time.Duration) error {
	last, silence := "", ""
	for {
		d, err := c.Drain(ctx, env)
		switch {
		case err == nil:
			if text := drainText(d); text != last {
				last, silence = text, ""
				a.printf("%s\n", text)
			}
			if d.Done {
				return nil
			}
		case ctx.Err() != nil:
		case client.IsNotFound(err):
			return fmt.Errorf("the drain of %q was ended meanwhile", env)
		case client.IsUnavailable(err):
			if text := err.Error(); text != silence {
				silence = text
				a.errorf("waiting for a server: %s\n", printable(text))
			}
		default:
			return err
		}
		if err := a.pause(ctx); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return &hinted{&timeoutError{fmt.Sprintf("timed out after %s draining %q: %s", limit, env, orText(last, "the server does not answer"))}, "it goes on; 'pmctl describe env " + env + "' says what is held"}
			}
			return err
		}
	}
}

// drainText is how far a drain is, in one line.
func drainText(d *client.Drain) string {
	if d == nil {
		return ""
	}
	text := fmt.Sprintf("%d of %s moved", d.Moved, counted(d.Deployments, "deployment"))
	if d.Moving > 0 {
		text += ", " + strconv.Itoa(d.Moving) + " moving"
	}
	if d.HeldCount == 0 {
		return text
	}
	text += ", " + strconv.Itoa(d.HeldCount) + " held"
	if len(d.Held) > 0 {
		text += ": " + d.Held[0].Key + " (" + d.Held[0].Code + ": " + d.Held[0].Message + ")"
	}
	return text
}

func (a *app) heldTable(held []client.HeldDeployment) table {
	t := table{header: []string{"DEPLOYMENT", "REASON", "SINCE", "MESSAGE"}}
	for _, h := range held {
		t.add(h.Key, h.Code, age(a.Now(), h.Since), h.Message)
	}
	return t
}

// describeMove adds how a deployment leaves environments, and gives the table of those. A
// server of before there were moves has none to tell.
func (a *app) describeMove(ctx context.Context, c *client.Client, key string, d *description) (table, error) {
	t := table{header: []string{"CLUSTER", "WHY", "REPLACEMENT", "SINCE"}}
	m, err := c.Move(ctx, key)
	if client.IsNotFound(err) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	if m.State != client.MoveNone {
		text := m.State
		if m.Held != nil {
			text = fmt.Sprintf("%s for %s: %s (%s)", text, age(a.Now(), m.Held.Since), m.Held.Message, m.Held.Code)
		}
		d.field("Move", text)
	}
	var lost []string
	for _, l := range m.Lost {
		lost = append(lost, l.Env)
	}
	d.field("Returns to", strings.Join(lost, ", "))
	if n := len(m.Failovers); n > 0 {
		d.field("Failovers", fmt.Sprintf("%d, the last %s ago", n, age(a.Now(), &m.Failovers[n-1])))
	}
	for _, l := range m.Leaving {
		t.add(l.Env, l.Reason, orDash(l.Replacement), age(a.Now(), l.Since))
	}
	return t, nil
}

// warnOfPartition says on the error stream that nothing is moved by itself. That it cannot be
// asked is no error: it is not what was asked for.
func (a *app) warnOfPartition(ctx context.Context, c *client.Client) {
	if f, err := c.Fleet(ctx); err == nil && f.PartitionSuspected {
		a.errorf("warning: FleetPartitionSuspected: %s; automatic moves are stopped\n", f.Reason)
	}
}
