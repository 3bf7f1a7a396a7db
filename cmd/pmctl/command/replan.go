package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// replanOptions are what is planned anew, and how.
type replanOptions struct {
	keys                   []string
	all, rebalance, dryRun bool
	format                 string
}

func (a *app) replanCommand() *cobra.Command {
	var o replanOptions
	cmd := &cobra.Command{
		Use:   "replan KEY... | --all",
		Short: "Plan deployments anew for the environments as they are now",
		Long: `Plan deployments anew, from what was asked for and the environments as they are now.
What runs stays where it is as far as it may and meets the target; with --rebalance it
moves to something better where that is worth while (5 % cheaper, and not too many
moves for it).

Exit codes: 0, or with --dry-run: 0 no change, 1 change, 2 error.`,
		Example: `  pmctl replan shop.Cart
  pmctl replan --all --dry-run
  pmctl replan --all --rebalance`,
		ValidArgsFunction: a.completeDeployments,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				o.keys = append(o.keys, strings.TrimPrefix(arg, "deployment/"))
			}
			if o.all == (len(o.keys) > 0) {
				return usagef("give the keys of deployments, or --all")
			}
			if err := checkPlanFormat(o.format); err != nil {
				return err
			}
			changed, err := a.replanAll(cmd.Context(), &o)
			if !o.dryRun {
				return err
			}
			return outcome(changed, err)
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "all deployments, one after the other")
	cmd.Flags().BoolVar(&o.rebalance, "rebalance", false, "move to something better where that is worth while")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only show what would change")
	planFormatFlag(cmd, &o.format)
	return cmd
}

// replanAll goes on after a deployment that cannot be planned: the others have nothing
// to do with it.
func (a *app) replanAll(ctx context.Context, o *replanOptions) (changed bool, err error) {
	c, err := a.client()
	if err != nil {
		return false, err
	}
	keys := o.keys
	if o.all {
		list, err := c.Deployments(ctx, client.DeploymentFilter{})
		if err != nil {
			return false, err
		}
		for i := range list {
			keys = append(keys, list[i].Key)
		}
	}
	var failed []string
	for _, key := range keys {
		one, err := a.replan(ctx, c, key, o)
		if ctx.Err() != nil {
			return changed, ctx.Err()
		}
		if err != nil && len(keys) == 1 {
			return changed, err
		}
		if err != nil {
			failed = append(failed, key)
			a.printf("deployment/%s: %v\n", key, err)
		}
		changed = changed || one
	}
	if n := len(failed); n > 0 {
		return changed, fmt.Errorf("%d of %s could not be planned: %s", n, counted(len(keys), "deployment"), strings.Join(failed[:min(n, 10)], ", "))
	}
	return changed, nil
}

func (a *app) replan(ctx context.Context, c *client.Client, key string, o *replanOptions) (changed bool, err error) {
	if o.dryRun {
		raw, err := c.PreviewReplan(ctx, key, o.rebalance)
		if err != nil {
			return false, err
		}
		return a.printPreview(raw, o.format)
	}
	got, err := c.Replan(ctx, key, o.rebalance)
	if err != nil {
		return false, err
	}
	if o.format == "json" {
		raw, err := encodeJSON(got)
		a.printf("%s", raw)
		return got.Change != "none", err
	}
	a.printf("deployment/%s: %s\n", key, got.Change)
	if got.Change == "none" {
		return false, nil
	}
	for _, e := range got.Environments {
		a.printf("  %s %s\n", changeSigns[e.Change], e.Env)
	}
	a.printf("  %s\n", got.Summary)
	return true, nil
}
