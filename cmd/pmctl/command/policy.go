package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// policyAttempts is how often a change is made again after somebody else's.
const policyAttempts = 5

// change edits the policy of an environment in place.
type change func(*client.ClusterPolicy) error

func (a *app) policyCommands() []*cobra.Command {
	return []*cobra.Command{a.cordonCommand(), a.uncordonCommand(), a.drainCommand(), a.undrainCommand(), a.taintCommand(), a.labelCommand(), a.envPolicyCommand()}
}

func (a *app) cordonCommand() *cobra.Command {
	var reason, format string
	cmd := &cobra.Command{
		Use: "cordon ENV", Short: "Give an environment nothing new", Args: arguments("ENV"),
		Long: `Give an environment nothing new. What runs there stays, and its outages count as
planned until it is uncordoned. 'pmctl simulate --lose env=ENV' says what would move
if it went away.`,
		ValidArgsFunction: a.completeEnvs,
	}
	cmd.RunE = a.changing(&format, func([]string) (change, error) {
		return func(p *client.ClusterPolicy) error {
			p.Cordoned, p.CordonReason = true, reason
			return nil
		}, nil
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for others to read")
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) uncordonCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "uncordon ENV", Short: "Let an environment be given deployments again", Args: arguments("ENV"),
		ValidArgsFunction: a.completeEnvs,
	}
	cmd.RunE = a.changing(&format, func([]string) (change, error) {
		return func(p *client.ClusterPolicy) error {
			p.Cordoned, p.CordonReason = false, ""
			return nil
		}, nil
	})
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) taintCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "taint ENV KEY[=VALUE]:EFFECT... KEY[:EFFECT]-...", Short: "Keep deployments away that do not tolerate it", Args: arguments("ENV", "TAINT..."),
		Long: `Keep deployments away from an environment that do not tolerate the taint. EFFECT is
NoSelect, or PreferNoSelect, which only prefers others. A '-' at the end removes.`,
		Example: `  pmctl taint edge-1 gpu=true:NoSelect
  pmctl taint edge-1 gpu-`,
		ValidArgsFunction: a.completeEnvs,
		RunE:              a.changing(&format, func(args []string) (change, error) { return taintChange(args) }),
	}
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) labelCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "label ENV KEY=VALUE... KEY-...", Short: "Add labels to those that an environment reports", Args: arguments("ENV", "LABEL..."),
		Long:              `Add labels to those that an environment reports; of equal keys these hold. A '-' at the end removes.`,
		Example:           `  pmctl label eu-1 tier=gold team-`,
		ValidArgsFunction: a.completeEnvs,
		RunE:              a.changing(&format, func(args []string) (change, error) { return labelChange(args) }),
	}
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) envPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "env-policy", Short: "What operators say about an environment", Args: cobra.NoArgs, RunE: needSubcommand}
	var got, set string
	getCmd := &cobra.Command{
		Use: "get ENV", Short: "Show the policy", Args: arguments("ENV"), ValidArgsFunction: a.completeEnvs,
		RunE: asked(a, &got, func(ctx context.Context, c *client.Client, args []string) (*client.ClusterPolicy, error) {
			p, _, err := c.ClusterPolicy(ctx, args[0])
			return p, err
		}, showPolicy),
	}
	reportFlag(getCmd, &got)
	setCmd := &cobra.Command{
		Use: "set ENV NAME=VALUE...", Short: "Change region, zone, provider, cost, availability or max_units", Args: arguments("ENV", "NAME=VALUE..."),
		Long: `Change what operators say about an environment: region and zone (in place of the
reported ones), provider, cost (for 30 days, in any unit that is the same for all),
availability (declared, within 0..1), max_units, max_units_per_package,
latency_ms.NAME (round trip to another environment, or to a region). An empty value takes it back. Labels,
taints and the cordon have commands of their own.`,
		Example:           `  pmctl env-policy set eu-1 cost=120 availability=0.9995 zone=`,
		ValidArgsFunction: a.completePolicy,
		RunE:              a.changing(&set, func(args []string) (change, error) { return settingChange(args) }),
	}
	reportFlag(setCmd, &set)
	cmd.AddCommand(getCmd, setCmd)
	return cmd
}

// changing is a command that changes the policy of its first argument by the others.
func (a *app) changing(format *string, of func(args []string) (change, error)) func(*cobra.Command, []string) error {
	return asked(a, format, func(ctx context.Context, c *client.Client, args []string) (*client.ClusterPolicy, error) {
		edit, err := of(args[1:])
		if err != nil {
			return nil, err
		}
		for attempt := 1; ; attempt++ {
			p, version, err := c.ClusterPolicy(ctx, args[0])
			if err != nil {
				return nil, err
			}
			if err := edit(p); err != nil {
				return nil, err
			}
			p, err = c.SetClusterPolicy(ctx, args[0], p, version)
			if err != nil && exitCode(err) == ExitConflict && attempt < policyAttempts {
				continue
			}
			return p, err
		}
	}, showPolicy)
}

func taintChange(args []string) (change, error) {
	var add []client.Taint
	var remove []client.Taint
	for _, arg := range args {
		spec, gone := strings.CutSuffix(arg, "-")
		left, effect, hasEffect := strings.Cut(spec, ":")
		key, value, _ := strings.Cut(left, "=")
		t := client.Taint{Key: key, Value: value, Effect: effect}
		switch {
		case key == "":
			return nil, usagef("%q has no key", arg)
		case gone:
			remove = append(remove, t)
		case !hasEffect || effect != "NoSelect" && effect != "PreferNoSelect":
			return nil, usagef("%q: the effect is NoSelect or PreferNoSelect, as in KEY=VALUE:NoSelect", arg)
		default:
			add = append(add, t)
		}
	}
	return func(p *client.ClusterPolicy) error {
		for _, r := range remove {
			before := len(p.Taints)
			p.Taints = slices.DeleteFunc(p.Taints, func(t client.Taint) bool { return t.Key == r.Key && (r.Effect == "" || t.Effect == r.Effect) })
			if len(p.Taints) == before {
				return &notFoundError{kind: "taint", name: r.Key, lister: "env-policy get ENV"}
			}
		}
		for _, t := range add {
			p.Taints = append(slices.DeleteFunc(p.Taints, func(have client.Taint) bool { return have.Key == t.Key && have.Effect == t.Effect }), t)
		}
		return nil
	}, nil
}

func labelChange(args []string) (change, error) {
	set, gone := map[string]string{}, map[string]bool{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			if key, ok = strings.CutSuffix(arg, "-"); !ok || key == "" {
				return nil, usagef("%q is neither KEY=VALUE nor KEY-", arg)
			}
			gone[key] = true
			continue
		}
		set[key] = value
	}
	return func(p *client.ClusterPolicy) error {
		for _, key := range slices.Sorted(maps.Keys(gone)) {
			if _, ok := p.Labels[key]; !ok {
				return &notFoundError{kind: "label", name: key, lister: "env-policy get ENV"}
			}
			delete(p.Labels, key)
		}
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		maps.Copy(p.Labels, set)
		return nil
	}, nil
}

// latencySetting is followed by the environment or region that the latency is to.
const latencySetting = "latency_ms."

// policySettings are what 'env-policy set' changes, in the order in which it is shown.
var policySettings = []string{"region", "zone", "provider", "cost", "availability", "max_units", "max_units_per_package"}

func settingChange(args []string) (change, error) {
	values := map[string]string{}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !strings.HasPrefix(name, latencySetting) {
			name = strings.ReplaceAll(name, "-", "_")
		}
		switch {
		case !ok:
			return nil, usagef("%q is not NAME=VALUE", arg)
		case len(name) > len(latencySetting) && strings.HasPrefix(name, latencySetting):
		case !slices.Contains(policySettings, name):
			return nil, usagef("unknown setting %q, choose one of: %s", name, strings.Join(policySettings, ", "))
		}
		values[name] = value
	}
	return func(p *client.ClusterPolicy) error {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if err := setPolicy(p, name, values[name]); err != nil {
				return usagef("%s: %v", name, err)
			}
		}
		return nil
	}, nil
}

func setPolicy(p *client.ClusterPolicy, name, value string) error {
	text := func(into **string) {
		if *into = &value; value == "" {
			*into = nil
		}
	}
	number := func(into **float64) error {
		*into = nil
		if value == "" {
			return nil
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", value)
		}
		*into = &v
		return nil
	}
	count := func(into *uint64) error {
		*into = 0
		if value == "" {
			return nil
		}
		v, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no count", value)
		}
		*into = v
		return nil
	}
	if to, ok := strings.CutPrefix(name, latencySetting); ok {
		var ms *float64
		if err := number(&ms); err != nil {
			return err
		}
		if delete(p.LatencyMS, to); ms != nil {
			if p.LatencyMS == nil {
				p.LatencyMS = map[string]float64{}
			}
			p.LatencyMS[to] = *ms
		}
		return nil
	}
	switch name {
	case "region":
		text(&p.Region)
	case "zone":
		text(&p.Zone)
	case "provider":
		p.Provider = value
	case "cost":
		return number(&p.Cost)
	case "availability":
		return number(&p.Availability)
	case "max_units":
		return count(&p.MaxUnits)
	case "max_units_per_package":
		return count(&p.MaxUnitsPerPackage)
	}
	return nil
}

func showPolicy(w io.Writer, p *client.ClusterPolicy) error {
	t := table{}
	cordon := "no"
	if p.Cordoned {
		cordon = "yes"
		if p.CordonReason != "" {
			cordon += ", " + p.CordonReason
		}
	}
	t.add("Cordoned:", cordon)
	if p.Draining {
		t.add("Draining:", strings.Join(nonEmpty("yes", p.DrainReason), ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		t.add("Label:", key+"="+p.Labels[key])
	}
	for _, taint := range p.Taints {
		text := taint.Key
		if taint.Value != "" {
			text += "=" + taint.Value
		}
		t.add("Taint:", text+":"+taint.Effect)
	}
	text := func(name string, v *string) {
		if v != nil {
			t.add(name, *v)
		}
	}
	text("Region:", p.Region)
	text("Zone:", p.Zone)
	if p.Provider != "" {
		t.add("Provider:", p.Provider)
	}
	number := func(name string, v *float64) {
		if v != nil {
			t.add(name, strconv.FormatFloat(*v, 'g', -1, 64))
		}
	}
	number("Cost:", p.Cost)
	number("Availability:", p.Availability)
	if p.MaxUnits > 0 {
		t.add("Max units:", strconv.FormatUint(p.MaxUnits, 10))
	}
	if p.MaxUnitsPerPackage > 0 {
		t.add("Max units per package:", strconv.FormatUint(p.MaxUnitsPerPackage, 10))
	}
	for _, name := range slices.Sorted(maps.Keys(p.LatencyMS)) {
		t.add("Latency to "+name+":", strconv.FormatFloat(p.LatencyMS[name], 'g', -1, 64)+" ms")
	}
	return t.write(w)
}

// completeEnvs completes the name of one environment.
func (a *app) completeEnvs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.names(cmd.Context(), "envs", "", nil), cobra.ShellCompDirectiveNoFileComp
}

// completePolicy completes an environment and then what can be set.
func (a *app) completePolicy(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeEnvs(cmd, args, toComplete)
	}
	var out []string
	for _, name := range policySettings {
		out = append(out, name+"=")
	}
	return out, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}
