package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// The exit codes of the commands that plan: scripts ask whether there is something to
// do.
const (
	exitChange    = 1
	exitPlanError = 2
)

// planOutcome is what a command that plans came to.
type planOutcome struct {
	code int
	// err is nil unless the code is exitPlanError.
	err error
}

func (e *planOutcome) Error() string {
	if e.err == nil {
		return "there are changes"
	}
	return e.err.Error()
}

func (e *planOutcome) Unwrap() error { return e.err }

// outcome gives the error of a command that plans; usage errors stay what they are,
// and have the same exit code.
func outcome(changed bool, err error) error {
	switch {
	case err != nil:
		return &planOutcome{code: exitPlanError, err: err}
	case changed:
		return &planOutcome{code: exitChange}
	default:
		return nil
	}
}

// planDocument is a plan as the server tells it.
type planDocument struct {
	Clusters    []string `json:"clusters"`
	Mode        string   `json:"mode"`
	Summary     string   `json:"summary"`
	TargetMet   bool     `json:"target_met"`
	Changes     struct{ Keep, Add, Remove []string }
	Assignments []struct {
		Cluster             string
		Replicas, Primaries int
		Pods                map[string]int
	}
	Explanation struct {
		Counts     map[string]int
		Candidates []struct {
			Cluster, Verdict, Stage, Code, Message string
			Availability                           *float64
			Findings                               []struct{ Code, Message string }
			ReplaceWith                            *struct {
				Cluster    string
				Achieved   float64
				TargetMet  bool     `json:"target_met"`
				CostChange *float64 `json:"cost_change"`
			} `json:"replace_with"`
		}
		Warnings    []struct{ Code, Message string }
		Relaxations []struct{ Code, Message string }
		Binding     []struct{ Code, Message string }
	}
}

func (a *app) planCommand() *cobra.Command {
	var files []string
	var format string
	cmd := &cobra.Command{
		Use:   "plan -f FILE|DIR|-",
		Short: "Show what apply would do to deployments",
		Long: `Show what applying the deployments of YAML or JSON files would do, and why. Nothing
is changed. The packages have to be applied before; those in the files are not.
Every cluster that would get something new is asked what it would make of it.

Exit codes: 0 no change, 1 change, 2 error.`,
		Example: `  pmctl plan -f shop.yaml
  pmctl plan -f shop.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usagef("-f is required: a file, a directory, or - for standard input")
			}
			if err := checkPlanFormat(format); err != nil {
				return err
			}
			changed, err := a.plan(cmd.Context(), files, format)
			return outcome(changed, err)
		},
	}
	fileFlag(cmd, &files)
	planFormatFlag(cmd, &format)
	return cmd
}

func planFormatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", "text", "text or json")
	complete(cmd, "output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp
	})
}

func checkPlanFormat(format string) error {
	if format != "text" && format != "json" {
		return usagef("-o is text or json, not %q", format)
	}
	return nil
}

func (a *app) plan(ctx context.Context, files []string, format string) (changed bool, err error) {
	m, err := a.readManifest(files)
	if err != nil {
		return false, err
	}
	c, err := a.client()
	if err != nil {
		return false, err
	}
	for _, d := range m.deployments {
		raw, err := c.Preview(ctx, d.doc)
		if err != nil {
			return false, fmt.Errorf("%s: deployment %s: %w", d.at, d.doc.Key, err)
		}
		one, err := a.printPreview(raw, format)
		if err != nil {
			return false, fmt.Errorf("deployment %s: %w", d.doc.Key, err)
		}
		changed = changed || one
	}
	return changed, nil
}

// printPreview shows a dry run, and says whether it would change anything.
func (a *app) printPreview(raw json.RawMessage, format string) (changed bool, err error) {
	var got struct {
		Key, Change  string
		Environments []struct {
			Env, Change string
			Cluster     *clusterPreview
		}
		Plan planDocument
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return false, fmt.Errorf("the answer cannot be read: %w", err)
	}
	if format == "json" {
		a.printf("%s\n", raw)
		return got.Change != "none", nil
	}
	a.printf("deployment/%s: %s\n", got.Key, got.Change)
	for _, e := range got.Environments {
		a.printf("  %s %s\n", changeSigns[e.Change], e.Env)
		a.printCluster(e.Cluster)
	}
	a.explainPlan(&got.Plan)
	return got.Change != "none", nil
}

// changeSigns stand before what changes.
var changeSigns = map[string]string{"create": "+", "update": "~", "remove": "-", "delete": "-", "none": " "}

// clusterPreview is what a cluster says of its share of a deployment.
type clusterPreview struct {
	Verdict, Code, Message, Template string
	Objects                          []struct{ Kind, Name, Change, Reason, Message string }
	Warnings                         []string
}

func (a *app) printCluster(c *clusterPreview) {
	if c == nil {
		return
	}
	for _, o := range c.Objects {
		a.printf("      %s %s/%s", changeSigns[o.Change], o.Kind, o.Name)
		if o.Reason != "" {
			a.printf(": %s (%s)", o.Message, o.Reason)
		}
		a.printf("\n")
	}
	for _, text := range c.Warnings {
		a.printf("      warning: %s\n", text)
	}
	switch {
	case c.Verdict == "refused" && len(c.Objects) == 0:
		a.printf("      refused: %s (%s)\n", c.Message, c.Code)
	case c.Verdict == "unknown":
		a.printf("      not asked: %s (%s)\n", c.Message, c.Code)
	}
}

func (a *app) explainCommand() *cobra.Command {
	var format string
	var index uint64
	cmd := &cobra.Command{
		Use:               "explain KEY",
		Short:             "Show why a deployment runs where it does",
		Long:              "Show the last plan of a deployment: what was chosen, what not, and why. Earlier\nones are listed by 'pmctl plans KEY'.",
		Example:           "  pmctl explain shop.Cart\n  pmctl explain shop.Cart --index 17",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDeployments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPlanFormat(format); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			key := strings.TrimPrefix(args[0], "deployment/")
			var raw json.RawMessage
			if index > 0 {
				raw, err = c.PastPlan(cmd.Context(), key, index)
			} else {
				raw, err = c.Plan(cmd.Context(), key)
			}
			if err != nil {
				return err
			}
			if format == "json" {
				a.printf("%s\n", raw)
				return nil
			}
			var p planDocument
			if err := json.Unmarshal(raw, &p); err != nil {
				return fmt.Errorf("the plan cannot be read: %w", err)
			}
			a.explainPlan(&p)
			return nil
		},
	}
	planFormatFlag(cmd, &format)
	cmd.Flags().Uint64Var(&index, "index", 0, "an earlier plan, by its index")
	return cmd
}

func (a *app) plansCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "plans KEY", Short: "List the last plans of a deployment", Args: arguments("KEY"),
		ValidArgsFunction: a.completeDeployments,
	}
	cmd.RunE = asked(a, &format, func(ctx context.Context, c *client.Client, args []string) ([]client.PlanEntry, error) {
		return c.Plans(ctx, strings.TrimPrefix(args[0], "deployment/"))
	}, func(w io.Writer, list []client.PlanEntry) error {
		t := table{header: []string{"INDEX", "GENERATION", "ENVIRONMENTS", "MET", "SUMMARY"}}
		for _, p := range list {
			t.add(strconv.FormatUint(p.Index, 10), strconv.FormatUint(p.Generation, 10), strings.Join(p.Clusters, ","), strconv.FormatBool(p.TargetMet), p.Summary)
		}
		return t.write(w)
	})
	reportFlag(cmd, &format)
	return cmd
}

// explainPlan writes a plan for people: the answer first, then the reasons.
func (a *app) explainPlan(p *planDocument) {
	a.printf("%s\n", p.Summary)
	for _, w := range p.Explanation.Warnings {
		a.printf("warning: %s (%s)\n", w.Message, w.Code)
	}
	for _, r := range p.Explanation.Relaxations {
		a.printf("would do: %s (%s)\n", r.Message, r.Code)
	}
	for _, b := range p.Explanation.Binding {
		a.printf("would help: %s (%s)\n", b.Message, b.Code)
	}
	for _, g := range p.Assignments {
		var has []string
		if g.Replicas > 0 {
			has = append(has, fmt.Sprintf("%s, %d of them primary", counted(g.Replicas, "shard replica"), g.Primaries))
		}
		for _, f := range slices.Sorted(maps.Keys(g.Pods)) {
			has = append(has, fmt.Sprintf("%s: at least %s", f, counted(g.Pods[f], "pod")))
		}
		if len(has) > 0 {
			a.printf("  gets     %s: %s\n", g.Cluster, strings.Join(has, "; "))
		}
	}
	total := 0
	for _, n := range p.Explanation.Counts {
		total += n
	}
	for _, c := range p.Explanation.Candidates {
		a.printf("  %-8s %s (%s)\n", c.Verdict, c.Message, c.Code)
		if c.Verdict != "selected" {
			continue
		}
		for _, f := range c.Findings {
			a.printf("             %s (%s)\n", f.Message, f.Code)
		}
		if r := c.ReplaceWith; r != nil {
			text := fmt.Sprintf("with %s instead: available %.10g %% of the time", r.Cluster, r.Achieved*100)
			if !r.TargetMet {
				text += ", misses the target"
			}
			if r.CostChange != nil {
				text += fmt.Sprintf(", costs %+.4g", *r.CostChange)
			}
			a.printf("             %s\n", text)
		}
	}
	if more := total - len(p.Explanation.Candidates); more > 0 {
		a.printf("  and %d more\n", more)
	}
}

func (a *app) simulateCommand() *cobra.Command {
	var s client.Scenario
	var target, format string
	cmd := &cobra.Command{
		Use:   "simulate [KEY...]",
		Short: "Show what would become of deployments if environments were lost or drained, or the target were another",
		Long: `Plan deployments as if something had happened, and change nothing. Without keys
those are planned that run in what is lost or drained, or all for another target.

Exit codes: 0 no change, 1 change, 2 error, or a deployment that could not be planned.`,
		Example: `  pmctl simulate --lose region=eu-1
  pmctl simulate --lose env=edge-7 --lose env=edge-8 shop.Cart
  pmctl simulate --drain env=edge-7
  pmctl simulate --target 0.9999 shop.Cart`,
		ValidArgsFunction: a.completeDeployments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPlanFormat(format); err != nil {
				return err
			}
			for _, key := range args {
				s.Deployments = append(s.Deployments, strings.TrimPrefix(key, "deployment/"))
			}
			if target != "" {
				p, err := strconv.ParseFloat(target, 64)
				if err != nil {
					return usagef("--target is a number within 0..1, not %q", target)
				}
				s.Target = &p
			}
			if len(s.Lose)+len(s.Drain) == 0 && s.Target == nil && len(args) == 0 {
				return usagef("say what is lost with --lose or left with --drain, another --target, or which deployments to plan again")
			}
			changed, err := a.simulate(cmd.Context(), s, format)
			return outcome(changed, err)
		},
	}
	cmd.Flags().StringSliceVar(&s.Lose, "lose", nil, "environments that are lost: region=NAME, zone=NAME, env=NAME or LABEL=VALUE")
	cmd.Flags().StringSliceVar(&s.Drain, "drain", nil, "environments that are to be left, as with --lose")
	cmd.Flags().StringVar(&target, "target", "", "availability that the deployments are to have, within 0..1")
	cmd.Flags().IntVar(&s.Limit, "limit", 100, "deployments to plan at most")
	planFormatFlag(cmd, &format)
	return cmd
}

func (a *app) simulate(ctx context.Context, s client.Scenario, format string) (changed bool, err error) {
	c, err := a.client()
	if err != nil {
		return false, err
	}
	raw, err := c.Simulate(ctx, s)
	if err != nil {
		return false, err
	}
	var got struct {
		Lost, Drained                     []string
		Affected, Changed, Missed, Failed int
		Deployments                       []struct {
			Key, Error string
			Before     []string
			Plan       *planDocument
		}
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return false, fmt.Errorf("the answer cannot be read: %w", err)
	}
	if format == "json" {
		a.printf("%s\n", raw)
	} else {
		if len(got.Lost) > 0 {
			a.printf("lost: %s\n", strings.Join(got.Lost, ", "))
		}
		if len(got.Drained) > 0 {
			a.printf("drained: %s\n", strings.Join(got.Drained, ", "))
		}
		for _, d := range got.Deployments {
			if d.Plan == nil {
				a.printf("deployment/%s: cannot be planned: %s\n", d.Key, d.Error)
				continue
			}
			a.printf("deployment/%s: %s -> %s\n  %s\n", d.Key, strings.Join(d.Before, ", "), strings.Join(d.Plan.Clusters, ", "), d.Plan.Summary)
		}
		a.printf("%s affected, %d shown: %d would move, %d below their target, %d without a plan\n",
			counted(got.Affected, "deployment"), len(got.Deployments), got.Changed, got.Missed, got.Failed)
	}
	if got.Failed > 0 {
		return true, fmt.Errorf("%s cannot be planned", counted(got.Failed, "deployment"))
	}
	return got.Changed > 0, nil
}
