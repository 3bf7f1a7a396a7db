package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// eventFormats are the formats of events. json has one message a line, and a
// template is applied to each message.
var eventFormats = []string{"text", "json", jsonPathHint}

// topics are what can be followed.
var topics = []string{"packages", "deployments", "plans", "units", "clusters", "members", "deletions", "rollouts", "autopilot", "alarms", "audit"}

func (a *app) eventsCommand() *cobra.Command {
	var format, deployment, env string
	var follow bool
	var span time.Duration
	q := client.WatchQuery{}
	cmd := &cobra.Command{
		Use: "events KEY | [TOPIC[:NAME]...]", Short: "Show what has happened to a deployment, or what has changed at all",
		Long: `With the KEY of a deployment, show its timeline: what was wished and planned, what its
clusters said, how its rollouts went. It outlives the deployment.

Otherwise show the changes that a server remembers. With -w, go on with new ones. A
change that several servers know is told once: when one goes away, another goes on where
it ended.

Topics are ` + strings.Join(topics, ", ") + `.
A NAME is that of an object, or the key of the deployment that something belongs to;
a * at its end stands for any rest.`,
		Example: `  pmctl events shop.Cart
  pmctl events deployment/shop.Cart -w --env oaas-1
  pmctl events -w --deployment shop.Cart
  pmctl events clusters alarms members -w --from now
  pmctl events 'packages:shop*' --from snapshot -o json`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			keys, directive := a.completeDeployments(cmd, args, toComplete)
			return append(keys, topics...), directive
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, eventFormats); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := withTimeout(cmd.Context(), span)
			defer cancel()
			if key, ok := timelineKey(args); ok {
				return a.timeline(ctx, c, key, env, format, follow)
			}
			for _, arg := range args {
				if topic, _, _ := strings.Cut(arg, ":"); !slices.Contains(topics, topic) {
					return &usageError{fmt.Errorf("there is no topic %q, only %s", topic, strings.Join(topics, ", "))}
				}
			}
			if q.Topics = args; deployment != "" {
				for _, topic := range []string{"deployments", "plans", "units", "deletions", "rollouts", "audit"} {
					q.Topics = append(q.Topics, topic+":"+deployment)
				}
			}
			err = a.followEvents(ctx, c, q, format, follow)
			if ctx.Err() != nil {
				return nil // the time is up, or the user has seen enough
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&follow, "watch", "w", false, "go on with new changes")
	fs.StringVar(&q.From, "from", client.FromOldest, "where to begin: oldest, now, snapshot (all that there is), or the index of an earlier message")
	complete(cmd, "from", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{client.FromOldest, client.FromNow, client.FromSnapshot}, cobra.ShellCompDirectiveNoFileComp
	})
	fs.StringVar(&deployment, "deployment", "", "only what belongs to this deployment")
	fs.StringVar(&env, "env", "", "with KEY: only this environment, and what is about all")
	complete(cmd, "env", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.names(cmd.Context(), "envs", "", nil), cobra.ShellCompDirectiveNoFileComp
	})
	fs.DurationVar(&span, "for", 0, "how long to follow, 0 for ever")
	fs.DurationVar(&q.MaxStaleness, "max-staleness", 0, "leave a server whose state may be older")
	fs.BoolVar(&q.Stale, "stale", false, "begin with what the server has, also without a leader")
	a.nodeFlag(cmd, &q.Node, "node that tells (default: the one that is asked)")
	formatFlag(cmd, &format, eventFormats)
	return cmd
}

// followEvents writes messages as they come. Without follow it ends when the
// server has told what it has.
func (a *app) followEvents(ctx context.Context, c *client.Client, q client.WatchQuery, format string, follow bool) error {
	var unwritten error
	troubled := ""
	err := c.Watch(ctx, q, func(m *client.Message) bool {
		troubled = ""
		if m.Type == "bookmark" && !follow {
			return false
		}
		unwritten = a.eventLines(m, format)
		return unwritten == nil
	}, func(err error) {
		if text := err.Error(); text != troubled {
			troubled = text
			a.errorf("waiting for a server: %s\n", printable(text))
		}
	})
	return errors.Join(err, unwritten)
}

func (a *app) eventLines(m *client.Message, format string) error {
	if format != "" && format != eventFormats[0] {
		return a.printLine(format, m)
	}
	what := m.Operation
	if m.Type == "snapshot" {
		what = m.Type
	}
	when := none
	if !m.Time.IsZero() {
		when = m.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	for i := range m.Events {
		e := &m.Events[i]
		name := e.Key
		if e.Name != "" && e.Topic != "audit" && e.Topic != "alarms" {
			name = e.Name + "/" + e.Key
		}
		line := fmt.Sprintf("%s  %d  %s  %s %s/%s", when, m.Index, what, e.Type, e.Topic, name)
		if text := eventText(e); text != "" {
			line += "  " + text
		}
		a.printf("%s\n", printable(line))
	}
	return nil
}

// eventText says in a few words what an object has become.
func eventText(e *client.Event) string {
	as := func(into any) bool { return json.Unmarshal(e.Object, into) == nil }
	var (
		unit    client.Unit
		cluster client.Env
		alarm   client.Alarm
		audit   client.AuditEntry
		rollout client.Rollout
	)
	switch {
	case e.Type != "put" || len(e.Object) == 0:
		return ""
	case e.Topic == "deployments" || e.Topic == "plans":
		return fmt.Sprintf("generation %d", e.Generation)
	case e.Topic == "units" && as(&unit):
		text := fmt.Sprintf("%s %s", unit.Env, unit.Phase)
		if unit.Waiting != nil {
			text += fmt.Sprintf(": %s (%s)", unit.Waiting.Message, unit.Waiting.Code)
		}
		return text
	case e.Topic == "rollouts" && as(&rollout):
		return strings.Join(nonEmpty(fmt.Sprintf("%s, revision %d, wave %d of %d", rollout.Phase, rollout.Revision, rollout.Wave, rollout.Waves), rollout.Reason, rollout.Message), " ")
	case e.Topic == "clusters" && as(&cluster):
		return strings.TrimSpace(stateOf(cluster.Health) + " " + cluster.Health.Message)
	case e.Topic == "alarms" && as(&alarm):
		return alarm.Kind + ": " + alarm.Message
	case e.Topic == "audit" && as(&audit):
		return strings.Join(slices.DeleteFunc([]string{audit.Action, audit.Object, audit.Detail, "by " + auditor(&audit)}, func(s string) bool { return s == "" }), " ")
	default:
		return ""
	}
}

func (a *app) auditCommand() *cobra.Command {
	var format string
	q := client.AuditQuery{}
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who did what to the control plane, packages and deployments", Args: cobra.NoArgs,
		Long: `Show the newest entries of the audit log, the newest first. To follow it, see
'pmctl events audit -w'.`,
		Example: `  pmctl audit --operator
  pmctl audit --action 'deployment.*' --object shop.Cart`,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, _ []string) ([]client.AuditEntry, error) {
			return c.Audit(ctx, q)
		}, showAudit),
	}
	fs := cmd.Flags()
	fs.IntVar(&q.Limit, "limit", 0, "how many entries (default 100, at most 1000)")
	fs.Uint64Var(&q.Before, "before", 0, "only entries before this index")
	fs.StringVar(&q.Action, "action", "", "only this action; a * at its end stands for any rest")
	fs.StringVar(&q.Object, "object", "", "only about this object")
	fs.BoolVar(&q.Operator, "operator", false, "only what was done to the control plane itself")
	fs.BoolVar(&q.Stale, "stale", false, "what the server has, also without a leader")
	reportFlag(cmd, &format)
	return cmd
}

func showAudit(w io.Writer, list []client.AuditEntry) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No entries found.")
		return err
	}
	t := table{header: []string{"TIME", "INDEX", "ACTION", "OBJECT", "DETAIL", "BY", "FROM", "REQUEST"}}
	for i := range list {
		e := &list[i]
		t.add(e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), strconv.FormatUint(e.Index, 10), e.Action, orDash(e.Object), orDash(clip(e.Detail, 60)),
			auditor(e), orDash(e.Address), orDash(e.RequestID))
	}
	return t.write(w)
}

// auditor names who did something, as well as it is known.
func auditor(e *client.AuditEntry) string {
	switch {
	case e.Principal != "" && e.Agent != "":
		return e.Principal + " with " + e.Agent
	case e.Principal != "":
		return e.Principal
	default:
		return orDash(e.Agent)
	}
}
