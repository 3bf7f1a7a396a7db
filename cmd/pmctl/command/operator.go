package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// operatorGroup are the commands for those who run the Package Manager.
const operatorGroup = "operator"

// operatorCommands are all of them.
func (a *app) operatorCommands() []*cobra.Command {
	commands := []*cobra.Command{
		a.memberCommand(), a.leaderCommand(), a.autopilotCommand(), a.raftCommand(), a.snapshotCommand(),
		a.chainCommand(), a.alarmsCommand(), a.featureCommand(), a.upgradeCommand(), a.auditCommand(), a.logsCommand(), a.doctorCommand(), a.debugCommand(),
		a.recoverCommand(),
	}
	commands = append(commands, a.policyCommands()...)
	for _, c := range commands {
		c.GroupID = operatorGroup
	}
	return commands
}

// reportFormats are the formats of what is no list of resources.
var reportFormats = []string{"table", "json", "yaml", jsonPathHint}

func reportFlag(cmd *cobra.Command, format *string) {
	formatFlag(cmd, format, reportFormats)
}

// formatFlag declares -o with the formats that a command has; the first one is the
// default.
func formatFlag(cmd *cobra.Command, format *string, formats []string) {
	cmd.Flags().StringVarP(format, "output", "o", formats[0], "output format: "+strings.Join(formats, ", "))
	complete(cmd, "output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, name := range formats {
			out = append(out, strings.TrimSuffix(name, "TEMPLATE"))
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	})
}

// show writes a value in a format; asTable does so for people.
func (a *app) show(format string, value any, asTable func(w io.Writer) error) error {
	if format == "" || format == reportFormats[0] {
		return asTable(a.Out)
	}
	return printStructured(a.Out, format, value)
}

// checkReport refuses an unknown format before anything is done.
func checkReport(format string) error { return checkFormat(format, reportFormats) }

// asked is a command that asks the API and shows what it says.
func asked[T any](a *app, format *string, ask func(ctx context.Context, c *client.Client, args []string) (T, error), asTable func(w io.Writer, v T) error) func(*cobra.Command, []string) error {
	return judged(a, format, ask, asTable, func(T) error { return nil })
}

// judged is asked for answers that may be bad news: they are shown like any other,
// and the verdict then decides on the exit code.
func judged[T any](a *app, format *string, ask func(ctx context.Context, c *client.Client, args []string) (T, error), asTable func(w io.Writer, v T) error, verdict func(v T) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := checkReport(*format); err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		v, err := ask(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		if err := a.show(*format, v, func(w io.Writer) error { return asTable(w, v) }); err != nil {
			return err
		}
		return verdict(v)
	}
}

// knownTo is what a command learned, from the leader or from one node.
type knownTo[T any] struct {
	value T
	// stale is true when one node told what it knows.
	stale bool
	// lacking says why it was not the leader, although it should have been.
	lacking error
}

// learn asks the leader. When there is none, or when the user wants that, it asks
// one node for what it knows.
func learn[T any](ctx context.Context, stale bool, leader, node func(context.Context) (T, error)) (knownTo[T], error) {
	var lacking error
	if !stale {
		// A node without a leader waits for one before it says so: no need to go on.
		v, err := leader(client.OnceAround(ctx))
		var gone *client.UnreachableError
		if !client.IsUnavailable(err) || errors.As(err, &gone) { // nobody there is nobody to ask
			return knownTo[T]{value: v}, err
		}
		lacking = err
	}
	v, err := node(ctx)
	if err != nil && lacking != nil {
		err = lacking
	}
	return knownTo[T]{value: v, stale: true, lacking: lacking}, err
}

// MarshalJSON is that of the value.
func (k knownTo[T]) MarshalJSON() ([]byte, error) { return json.Marshal(k.value) }

// verdict is an error when one node had to stand in for the leader: what it knows
// may be out of date, and that all is well there says nothing about the cluster.
func (k knownTo[T]) verdict() error {
	if k.lacking == nil {
		return nil
	}
	return fmt.Errorf("this is what one node knows, and may be out of date: %w", k.lacking)
}

// nodeFlag declares --node with its completion.
func (a *app) nodeFlag(cmd *cobra.Command, node *string, what string) {
	cmd.Flags().StringVar(node, "node", "", what)
	complete(cmd, "node", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return append(a.nodeNames(cmd.Context()), client.Leader), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeNodes completes one node's name.
func (a *app) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.nodeNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
}

// nodeNames asks the server for the nodes' names. Without an answer there is
// nothing to complete.
func (a *app) nodeNames(ctx context.Context) []string {
	servers, err := a.servers()
	if err != nil {
		return nil
	}
	c, err := client.New(client.Options{Servers: servers, RetryFor: -1})
	if err != nil {
		return nil
	}
	defer c.CloseIdle()
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	members, err := c.Members(ctx)
	if err != nil {
		return nil
	}
	var out []string
	for _, m := range members {
		out = append(out, nodeName(m.Name, m.ServerID))
	}
	return out
}

// nodeName is how people know a node.
func nodeName(name, id string) string {
	if name != "" {
		return name
	}
	return id
}

// findMember finds a node by name or server id.
func findMember(members []client.Member, node string) *client.Member {
	for i := range members {
		if members[i].ServerID == node || members[i].Name == node {
			return &members[i]
		}
	}
	return nil
}

// awaitMember polls the members until done says so. text tells what for.
func (a *app) awaitMember(ctx context.Context, c *client.Client, limit time.Duration, text string, done func([]client.Member) bool) error {
	ctx, cancel := withTimeout(ctx, limit)
	defer cancel()
	for {
		members, err := c.MembersWithHealth(ctx)
		if err == nil && done(members) {
			return nil
		}
		if err != nil && ctx.Err() == nil && !client.IsUnavailable(err) {
			return err
		}
		if err := a.pause(ctx); err != nil {
			return &timeoutError{fmt.Sprintf("timed out after %s waiting until %s; 'pmctl autopilot explain' says why", limit, text)}
		}
	}
}

func (a *app) chainCommand() *cobra.Command {
	var format, node string
	cmd := &cobra.Command{
		Use: "chain", Short: "Compare what the nodes have applied, by the hashes of their histories", Args: cobra.NoArgs,
		Long: `Compare what the nodes have applied.

Every applied command extends a hash. Nodes that applied the same commands have the
same hash at the same index. The exit code is 1 when they do not agree.`,
		RunE: judged(a, &format, func(ctx context.Context, c *client.Client, _ []string) (*client.Chain, error) {
			return c.Chain(ctx, node)
		}, func(w io.Writer, report *client.Chain) error {
			t := table{header: []string{"NODE", "INDEX", "HASH", "NOTE"}}
			for _, s := range report.Servers {
				t.add(nodeName(s.Name, s.ServerID), strconv.FormatUint(s.Index, 10), orDash(clip(s.Hash, 16)), orDash(s.Error))
			}
			return t.write(w)
		}, chainVerdict),
	}
	reportFlag(cmd, &format)
	a.nodeFlag(cmd, &node, "node that compares itself with the others")
	return cmd
}

// chainVerdict is an error unless all nodes were compared and agree.
func chainVerdict(r *client.Chain) error {
	var silent []string
	hashes := map[string]bool{}
	for _, s := range r.Servers {
		if s.Error != "" {
			silent = append(silent, nodeName(s.Name, s.ServerID))
		} else if s.Index == r.Index {
			hashes[s.Hash] = true
		}
	}
	switch {
	case len(hashes) > 1:
		return &hinted{fmt.Errorf("the nodes do not agree at index %d", r.Index), "see the chapter on diverged nodes in docs/operations.md"}
	case len(silent) > 0:
		return fmt.Errorf("not compared: %s", strings.Join(silent, ", "))
	default:
		return nil
	}
}

func (a *app) alarmsCommand() *cobra.Command {
	var format string
	var stale bool
	cmd := &cobra.Command{
		Use: "alarms", Short: "Show what makes the cluster read-only", Args: cobra.NoArgs,
		Long: `Show what makes the cluster read-only. Without a leader, the node that is asked tells
what it knows, which may be out of date; the exit code is then 5.`,
		RunE: judged(a, &format, func(ctx context.Context, c *client.Client, _ []string) (knownTo[[]client.Alarm], error) {
			return learn(ctx, stale, c.Alarms, c.KnownAlarms)
		}, a.showAlarms, knownTo[[]client.Alarm].verdict),
	}
	reportFlag(cmd, &format)
	cmd.Flags().BoolVar(&stale, "stale", false, "what the node that is asked knows, without the leader")
	return cmd
}

func (a *app) showAlarms(w io.Writer, k knownTo[[]client.Alarm]) error {
	switch {
	case len(k.value) > 0:
	case k.stale:
		a.errorf("No alarms that this node knows of.\n")
		return nil
	default:
		a.errorf("No alarms.\n")
		return nil
	}
	t := table{header: []string{"KIND", "NODE", "SINCE", "MESSAGE"}}
	for _, al := range k.value {
		t.add(al.Kind, nodeName(al.Name, al.ServerID), age(a.Now(), al.Since), al.Message)
	}
	return t.write(w)
}

func (a *app) featureCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "feature", Short: "Feature levels: which commands the cluster uses", Args: cobra.NoArgs, RunE: needSubcommand}
	var format string
	status := &cobra.Command{
		Use: "status", Short: "Show the level of the cluster and whom it waits for", Args: cobra.NoArgs,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, _ []string) (*client.FeatureLevel, error) {
			return c.FeatureLevel(ctx)
		}, a.showFeatures),
	}
	reportFlag(status, &format)
	var raised string
	var wait bool
	var timeout time.Duration
	raise := &cobra.Command{
		Use: "raise [LEVEL]", Short: "Raise the level now rather than when the leader does so itself", Args: arguments("[LEVEL]"),
		Long: `Raise the level of the cluster to LEVEL, or to what all of its servers know.

The leader does so by itself within seconds after the last server was upgraded.
There is no way back: older programs do not start with the data any more.`,
		RunE: asked(a, &raised, func(ctx context.Context, c *client.Client, args []string) (*client.FeatureLevel, error) {
			var level uint64
			if len(args) > 0 {
				var err error
				if level, err = strconv.ParseUint(args[0], 10, 32); err != nil {
					return nil, usagef("%q is no level", args[0])
				}
			}
			if wait {
				if err := a.awaitLevel(ctx, c, uint32(level), timeout); err != nil {
					return nil, err
				}
			}
			return c.RaiseFeatureLevel(ctx, uint32(level))
		}, a.showFeatures),
	}
	reportFlag(raise, &raised)
	raise.Flags().BoolVar(&wait, "wait", false, "wait until all servers know the level")
	timeoutFlag(raise, &timeout)
	cmd.AddCommand(status, raise)
	return cmd
}

func (a *app) awaitLevel(ctx context.Context, c *client.Client, level uint32, limit time.Duration) error {
	ctx, cancel := withTimeout(ctx, limit)
	defer cancel()
	for {
		have, err := c.FeatureLevel(ctx)
		if err == nil && (have.Possible >= level && level != 0 || level == 0 && len(have.Behind) == 0) {
			return nil
		}
		if err != nil && ctx.Err() == nil && !client.IsUnavailable(err) {
			return err
		}
		if err := a.pause(ctx); err != nil {
			return &timeoutError{fmt.Sprintf("timed out after %s waiting for all servers to know the level", limit)}
		}
	}
}

func (a *app) showFeatures(w io.Writer, f *client.FeatureLevel) error {
	t := table{}
	t.add("Level of the cluster:", strconv.FormatUint(uint64(f.Level), 10))
	t.add("All servers know:", strconv.FormatUint(uint64(f.Possible), 10))
	t.add("This server knows:", strconv.FormatUint(uint64(f.Own), 10))
	t.add("Behind:", orDash(strings.Join(f.Behind, ", ")))
	return t.write(w)
}

// bytesText gives a size in the unit that fits.
func bytesText(n uint64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, units, i := float64(n), "KMGTPE", -1
	for value >= unit && i < len(units)-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[i])
}

// spanText rounds a duration to what people read.
func spanText(d client.Duration) string {
	switch t := time.Duration(d); {
	case t == 0:
		return "0s"
	case t.Abs() >= time.Minute:
		return t.Round(time.Second).String()
	case t.Abs() >= time.Second:
		return t.Round(10 * time.Millisecond).String()
	default:
		return t.Round(10 * time.Microsecond).String()
	}
}
