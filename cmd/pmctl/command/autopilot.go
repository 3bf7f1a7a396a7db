package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

func (a *app) autopilotCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "autopilot", Short: "Autopilot: state, explanations, settings", Args: cobra.NoArgs, RunE: needSubcommand}
	var status, explained string
	state := func(ctx context.Context, c *client.Client, _ []string) (*client.Autopilot, error) {
		return c.Autopilot(ctx)
	}
	statusCmd := &cobra.Command{
		Use: "status", Short: "Show how the leader sees the cluster", Args: cobra.NoArgs, RunE: asked(a, &status, state, a.showAutopilot),
	}
	reportFlag(statusCmd, &status)
	explainCmd := &cobra.Command{
		Use: "explain", Short: "Say why nodes are (not) healthy and (not) voters, and what is wrong", Args: cobra.NoArgs,
		RunE: asked(a, &explained, state, a.explainAutopilot),
	}
	reportFlag(explainCmd, &explained)
	cmd.AddCommand(statusCmd, explainCmd, a.autopilotConfigCommand())
	return cmd
}

func (a *app) showAutopilot(w io.Writer, s *client.Autopilot) error {
	t := table{}
	t.add("Healthy:", strconv.FormatBool(s.Healthy))
	t.add("Failures tolerated:", fmt.Sprintf("%d now, %d when all nodes are healthy", s.FailureTolerance, s.OptimisticFailureTolerance))
	t.add("Voters:", fmt.Sprintf("%d of %d", s.Voters, s.DesiredVoters))
	if err := t.write(w); err != nil {
		return err
	}
	nodes := table{header: []string{"NODE", "ROLE", "ZONE", "HEALTHY", "STABLE FOR", "LAG", "CONTACT"}}
	for _, n := range s.Servers {
		nodes.add(nodeName(n.Name, n.ServerID), n.Role, orDash(n.Zone), strconv.FormatBool(n.Healthy), age(a.Now(), n.StableSince), strconv.FormatUint(n.Lag, 10), spanText(n.LastContact))
	}
	_, _ = fmt.Fprintln(w)
	return nodes.write(w)
}

// failures is so many failures, and the verb.
func failures(n int) string {
	if n < 1 {
		return "no failure is"
	}
	return counted(n, "failure") + " " + are(n)
}

func (a *app) explainAutopilot(w io.Writer, s *client.Autopilot) error {
	out := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	switch {
	case len(s.Problems) > 0:
		for _, p := range s.Problems {
			out("! %s", p)
		}
	default:
		out("Nothing is wrong: %s of %d, %s tolerated.", counted(s.Voters, "voter"), s.DesiredVoters, failures(s.FailureTolerance))
	}
	for _, n := range s.Servers {
		health := "healthy"
		if !n.Healthy {
			health = "not healthy"
		}
		out("%s: %s, %s", nodeName(n.Name, n.ServerID), n.Role, health)
		for _, r := range n.Reasons {
			out("  - %s", r)
		}
	}
	return nil
}

func (a *app) autopilotConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Settings of autopilot", Args: cobra.NoArgs, RunE: needSubcommand}
	var got, set string
	getCmd := &cobra.Command{
		Use: "get", Short: "Show the settings", Args: cobra.NoArgs,
		RunE: asked(a, &got, func(ctx context.Context, c *client.Client, _ []string) (*client.AutopilotConfig, error) {
			config, _, err := c.AutopilotConfig(ctx)
			return config, err
		}, showSettings),
	}
	reportFlag(getCmd, &got)
	setCmd := &cobra.Command{
		Use: "set NAME=VALUE...", Short: "Change settings", Args: arguments("NAME=VALUE..."),
		Long: `Change settings of autopilot: cleanup_dead_servers, dead_server_grace,
last_contact_threshold, max_trailing_logs, server_stabilization, min_quorum,
desired_voters, spread_zones, non_voters (names with commas). An empty value is the
default. The rest stays; if somebody else changes settings meanwhile, nothing happens.`,
		Example:           `  pmctl autopilot config set desired_voters=5 dead_server_grace=30m`,
		ValidArgsFunction: completeSettings,
		RunE: asked(a, &set, func(ctx context.Context, c *client.Client, args []string) (*client.AutopilotConfig, error) {
			if _, err := changeSettings(client.AutopilotConfig{}, args); err != nil {
				return nil, err
			}
			config, version, err := c.AutopilotConfig(ctx)
			if err != nil {
				return nil, err
			}
			if config, err = changeSettings(*config, args); err != nil {
				return nil, err
			}
			if strings.HasSuffix(version, `.0"`) { // the defaults, which have no version
				version = ""
			}
			return c.SetAutopilotConfig(ctx, config, version)
		}, showSettings),
	}
	reportFlag(setCmd, &set)
	cmd.AddCommand(getCmd, setCmd)
	return cmd
}

// settingNames are the names of the settings in their order.
func settingNames() []string {
	t := reflect.TypeFor[client.AutopilotConfig]()
	out := make([]string, t.NumField())
	for i := range out {
		out[i] = t.Field(i).Tag.Get("json")
	}
	return out
}

func completeSettings(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, name := range settingNames() {
		out = append(out, name+"=")
	}
	return out, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

func showSettings(w io.Writer, c *client.AutopilotConfig) error {
	t := table{header: []string{"NAME", "VALUE"}}
	v := reflect.ValueOf(*c)
	for i, name := range settingNames() {
		text := fmt.Sprint(v.Field(i).Interface())
		if list, ok := v.Field(i).Interface().([]string); ok {
			text = orDash(strings.Join(list, ","))
		}
		t.add(name, text)
	}
	return t.write(w)
}

// changeSettings applies NAME=VALUE arguments.
func changeSettings(c client.AutopilotConfig, args []string) (*client.AutopilotConfig, error) {
	names := settingNames()
	v := reflect.ValueOf(&c).Elem()
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usagef("%q is not NAME=VALUE", arg)
		}
		at := -1
		for i, have := range names {
			if have == strings.ReplaceAll(name, "-", "_") {
				at = i
			}
		}
		if at < 0 {
			return nil, usagef("unknown setting %q, choose one of: %s", name, strings.Join(names, ", "))
		}
		if err := setSetting(v.Field(at), value); err != nil {
			return nil, usagef("%s: %v", name, err)
		}
	}
	return &c, nil
}

func setSetting(field reflect.Value, value string) error {
	if value == "" {
		field.SetZero()
		if field.Kind() == reflect.Slice {
			field.Set(reflect.ValueOf([]string{}))
		}
		return nil
	}
	if field.Kind() == reflect.Slice {
		field.Set(reflect.ValueOf(splitServers(value)))
		return nil
	}
	doc := value
	if field.Type() == reflect.TypeFor[client.Duration]() {
		doc = strconv.Quote(value)
	}
	if err := json.Unmarshal([]byte(doc), field.Addr().Interface()); err != nil {
		return fmt.Errorf("%q does not fit: want %s", value, settingKind(field))
	}
	return nil
}

func settingKind(field reflect.Value) string {
	switch {
	case field.Type() == reflect.TypeFor[client.Duration]():
		return "a duration such as 30s"
	case field.Kind() == reflect.Bool:
		return "true or false"
	default:
		return "a number"
	}
}
