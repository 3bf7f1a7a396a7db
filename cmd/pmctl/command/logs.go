package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// logFormats are the formats of log lines. json has one line for each, and a
// template is applied to each.
var logFormats = []string{"text", "json", jsonPathHint}

// allNodes stands for every node where nodes can be named.
const allNodes = "all"

func (a *app) logsCommand() *cobra.Command {
	var format string
	var nodes []string
	var span time.Duration
	q := client.LogQuery{}
	cmd := &cobra.Command{
		Use: "logs", Short: "Read the log of any node, live", Args: cobra.NoArgs,
		Long: `Read the log of a node: its newest lines and, with -f, new ones as they come. Lines
below a node's own --log-level can be followed although it does not write them.`,
		Example: `  pmctl logs --node pm-1 --level debug --subsystem raft -f
  pmctl logs --node all -f --for 30s`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format, logFormats); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			q.For = span
			return a.tailLogs(cmd.Context(), c, q, nodes, format)
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&nodes, "node", nil, "nodes whose logs to read, or all (default: the node that is asked)")
	complete(cmd, "node", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return append(a.nodeNames(cmd.Context()), client.Leader, allNodes), cobra.ShellCompDirectiveNoFileComp
	})
	fs.StringVar(&q.Level, "level", "", "lowest level: trace, debug, info, warn or error (default info)")
	complete(cmd, "level", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"trace", "debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp
	})
	fs.StringVar(&q.Subsystem, "subsystem", "", "only lines of this logger, for instance raft or api")
	fs.BoolVarP(&q.Follow, "follow", "f", false, "go on with new lines")
	fs.IntVar(&q.Lines, "lines", -1, "how many of the newest lines come first (default 200)")
	fs.DurationVar(&span, "for", 0, "how long to follow, 0 for ever")
	formatFlag(cmd, &format, logFormats)
	return cmd
}

// tailLogs reads the logs of several nodes side by side.
func (a *app) tailLogs(ctx context.Context, c *client.Client, q client.LogQuery, nodes []string, format string) error {
	if slices.Contains(nodes, allNodes) {
		members, err := c.Members(ctx)
		if err != nil {
			return err
		}
		nodes = nil
		for _, m := range members {
			nodes = append(nodes, nodeName(m.Name, m.ServerID))
		}
	}
	if len(nodes) == 0 {
		nodes = []string{""}
	}
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		errs = make([]error, len(nodes))
	)
	for i, node := range nodes {
		wg.Go(func() {
			own := q
			own.Node = node
			var unwritten error
			errs[i] = c.Logs(ctx, own, func(l client.LogLine) bool {
				mu.Lock()
				defer mu.Unlock()
				unwritten = a.logLine(node, l, len(nodes) > 1, format)
				return unwritten == nil
			})
			errs[i] = errors.Join(errs[i], unwritten)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the user has seen enough
	}
	for i, err := range errs {
		if err != nil && len(nodes) > 1 {
			return fmt.Errorf("node %s: %w", nodes[i], err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) logLine(node string, l client.LogLine, named bool, format string) error {
	if format != "" && format != logFormats[0] {
		value := any(l)
		switch {
		case l.Lost > 0:
			value = struct {
				Node string `json:"node,omitempty"`
				Lost uint64 `json:"lost"`
			}{node, l.Lost}
		case named:
			value = struct {
				Node string `json:"node"`
				client.LogLine
			}{node, l}
		}
		return a.printLine(format, value)
	}
	prefix := ""
	if named {
		prefix = node + " "
	}
	if l.Lost > 0 {
		a.printf("%s… %s lost: this reader was too slow\n", prefix, counted(int(min(l.Lost, math.MaxInt32)), "line"))
		return nil
	}
	var fields strings.Builder
	for _, k := range slices.Sorted(maps.Keys(l.Fields)) {
		v := l.Fields[k]
		if strings.ContainsAny(v, " \t\n\"=") {
			v = fmt.Sprintf("%q", v)
		}
		fmt.Fprintf(&fields, " %s=%s", k, v)
	}
	a.printf("%s%s [%-5s] %s: %s\n", prefix, l.Time.UTC().Format("2006-01-02T15:04:05.000Z"), strings.ToUpper(l.Level), l.Subsystem, printable(l.Message+fields.String()))
	return nil
}

// printLine writes one of many values: as a line of JSON, or by a template.
func (a *app) printLine(format string, value any) error {
	if format != "json" {
		return printStructured(a.Out, format, value)
	}
	raw, err := encodeJSON(value)
	if err != nil {
		return err
	}
	a.printf("%s", raw)
	return nil
}
