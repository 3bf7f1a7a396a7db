package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

type deleteOptions struct {
	files         []string
	wait          bool
	timeout       time.Duration
	ignoreMissing bool
	// force and orphan together give up environments, those of envs if there are any.
	force, orphan bool
	envs          []string
}

// check refuses half of what takes two words.
func (o *deleteOptions) check() error {
	switch {
	case o.force != o.orphan:
		return usagef("--force and --orphan go together: environments are not waited for, and what they have is left behind")
	case len(o.envs) > 0 && !o.force:
		return usagef("--env names environments that are not waited for, which takes --force --orphan")
	}
	return nil
}

func (a *app) deleteCommand() *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:   "delete (package|deployment|env|deletion NAME... | -f FILE|DIR|-)",
		Short: "Delete deployments and packages, forget environments",
		Long: `Delete deployments and packages, or everything that files define.

A deleted deployment is gone from the API at once. Each cluster then removes its
share and confirms; --wait waits for all of them, 'pmctl get deletions' shows who
has not confirmed. An environment can be forgotten once nothing is deployed to it.

A cluster that will not come back never confirms. --force --orphan deletes a
deployment without waiting for clusters that are unreachable, or for those of
--env; for a deletion that waits already, name the deletion, by key or uid. What
the clusters have is left behind, listed, and noted in the audit log. Should one
come back, it is removed there after all.`,
		Example: `  pmctl delete deployment shop.Cart --wait
  pmctl delete -f shop.yaml
  pmctl delete deployment shop.Cart --force --orphan
  pmctl delete deletion shop.Cart --force --orphan --env edge-7`,
		ValidArgsFunction: a.completeOf([]string{"deployment", "package", "env", "deletion"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			todo, err := a.toDelete(o.files, args)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.deleteAll(cmd.Context(), c, todo, o)
		},
	}
	fileFlag(cmd, &o.files)
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until every cluster has confirmed")
	cmd.Flags().BoolVar(&o.ignoreMissing, "ignore-not-found", false, "succeed when an object does not exist")
	cmd.Flags().BoolVar(&o.force, "force", false, "with --orphan: do not wait for clusters that are unreachable")
	cmd.Flags().BoolVar(&o.orphan, "orphan", false, "with --force: leave behind what these clusters have")
	cmd.Flags().StringSliceVar(&o.envs, "env", nil, "with --force --orphan: only these environments")
	complete(cmd, "env", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.names(cmd.Context(), "envs", "", o.envs), cobra.ShellCompDirectiveNoFileComp
	})
	timeoutFlag(cmd, &o.timeout)
	return cmd
}

// target is an object to delete.
type target struct{ kind, name string }

// toDelete lists deployments before the packages that they are made of.
func (a *app) toDelete(files, args []string) ([]target, error) {
	switch {
	case len(files) > 0 && len(args) > 0:
		return nil, usagef("give either -f or names, not both")
	case len(files) == 0 && len(args) == 0:
		return nil, usagef("nothing to delete: give -f FILE, or a type and names")
	case len(files) == 0:
		return targets(args)
	}
	m, err := a.readManifest(files)
	if err != nil {
		return nil, err
	}
	var out []target
	for _, d := range m.deployments {
		out = append(out, target{"deployment", d.doc.Key})
	}
	for _, p := range slices.Backward(m.packages) {
		out = append(out, target{"package", p.doc.Name})
	}
	return out, nil
}

func targets(args []string) ([]target, error) {
	kind, names, err := typeAndNames(args)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"deployment", "package", "env", "deletion"}, kind.singular) {
		return nil, usagef("%s cannot be deleted, only deployments, packages and envs; deletions can be given up", kind.plural)
	}
	if len(names) == 0 {
		return nil, usagef("name the %s to delete", kind.plural)
	}
	var out []target
	for _, name := range names {
		out = append(out, target{kind.singular, name})
	}
	return out, nil
}

func (a *app) deleteAll(ctx context.Context, c *client.Client, todo []target, o deleteOptions) error {
	for _, t := range todo {
		switch {
		case t.kind == "deletion" && !o.force:
			return usagef("deletion %s ends when all clusters have confirmed; --force --orphan gives up those that are unreachable", t.name)
		case o.force && t.kind != "deployment" && t.kind != "deletion":
			return usagef("--force --orphan is for deployments and deletions, not for %s %s", t.kind, t.name)
		}
	}
	var deployments []string
	for _, t := range todo {
		err := a.deleteOne(ctx, c, t, o)
		switch {
		case err == nil && (t.kind == "deployment" || t.kind == "deletion"):
			deployments = append(deployments, t.name)
		case client.IsNotFound(err) && o.ignoreMissing:
			a.printf("%s/%s not found\n", t.kind, t.name)
		case err != nil:
			return fmt.Errorf("%s %s: %w", t.kind, t.name, err)
		}
	}
	if !o.wait {
		return nil
	}
	ctx, cancel := withTimeout(ctx, o.timeout)
	defer cancel()
	for _, key := range deployments {
		if err := a.awaitDeletion(ctx, c, key, o); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) deleteOne(ctx context.Context, c *client.Client, t target, o deleteOptions) error {
	if o.force {
		return a.abandon(ctx, c, t, o.envs)
	}
	note := ""
	var err error
	switch t.kind {
	case "deployment":
		var resp *client.DeleteResponse
		if resp, err = c.DeleteDeployment(ctx, t.name); err == nil {
			note = fmt.Sprintf(" (%s to confirm)", clusters(len(resp.DeletedEnvs)))
		}
	case "package":
		err = c.DeletePackage(ctx, t.name)
	case "env":
		err = c.RemoveEnv(ctx, t.name)
	}
	if err != nil {
		return err
	}
	a.printf("%s/%s deleted%s\n", t.kind, t.name, note)
	if t.kind == "package" {
		a.hintLeft(ctx, c, t.name)
	}
	return nil
}

// abandon gives up environments and says what is left in them.
func (a *app) abandon(ctx context.Context, c *client.Client, t target, envs []string) error {
	var left *client.Abandoned
	var err error
	if t.kind == "deletion" {
		var d *client.Deletion
		if d, err = findDeletion(ctx, c, t.name); err == nil {
			left, err = c.AbandonDeletion(ctx, d.DeploymentUID, envs)
		}
	} else {
		left, err = c.ForceDelete(ctx, t.name, envs)
	}
	if err != nil {
		return err
	}
	a.printf("%s/%s given up in %s, %d to confirm\n", t.kind, t.name, clusters(countEnvs(left.Orphaned)), len(left.PendingEnvs))
	for _, o := range left.Orphaned {
		a.errorf("warning: %s is left behind in %s\n", o.UnitID, o.Env)
	}
	return nil
}

func countEnvs(units []client.Orphaned) int {
	envs := map[string]bool{}
	for _, u := range units {
		envs[u.Env] = true
	}
	return len(envs)
}

// findDeletion finds the deletion with a uid, or the only one of a key.
func findDeletion(ctx context.Context, c *client.Client, name string) (*client.Deletion, error) {
	all, err := c.Deletions(ctx)
	if err != nil {
		return nil, err
	}
	var found []*client.Deletion
	for i := range all {
		if all[i].DeploymentUID == name {
			return &all[i], nil
		}
		if all[i].Key == name {
			found = append(found, &all[i])
		}
	}
	switch len(found) {
	case 0:
		return nil, deletionResource().missing(name)
	case 1:
		return found[0], nil
	default:
		return nil, usagef("%d deployments of the key %s are being deleted; name one by its uid, 'pmctl get deletions -o wide' shows them", len(found), name)
	}
}

// maxLeftNamed bounds how many deployments a hint names.
const maxLeftNamed = 8

// hintLeft says which deployments of a package that was deleted go on. It is a courtesy: the
// deletion has succeeded also when this cannot be found out.
func (a *app) hintLeft(ctx context.Context, c *client.Client, name string) {
	left, err := c.Deployments(ctx, client.DeploymentFilter{PackageName: name})
	if err != nil || len(left) == 0 {
		return
	}
	var keys []string
	for i := range left {
		keys = append(keys, left[i].Key)
	}
	slices.Sort(keys)
	more := ""
	if n := len(keys) - maxLeftNamed; n > 0 {
		keys, more = keys[:maxLeftNamed], fmt.Sprintf(" and %d more", n)
	}
	a.errorf("hint: deployments of package %s still run: %s%s; 'pmctl delete deployment KEY' removes them\n", name, strings.Join(keys, ", "), more)
}

func clusters(n int) string {
	if n == 1 {
		return "1 cluster"
	}
	return fmt.Sprintf("%d clusters", n)
}

// awaitDeletion follows the deletions of a key, or the one of a uid, until every
// cluster has confirmed. The key may be in use again meanwhile: a deletion is known
// by the uid of what was deleted.
func (a *app) awaitDeletion(ctx context.Context, c *client.Client, key string, o deleteOptions) error {
	var last client.Deletion
	said := ""
	for {
		all, err := c.Deletions(ctx)
		if err != nil && ctx.Err() == nil && !client.IsUnavailable(err) {
			return err
		}
		if err == nil {
			open := openDeletion(all, key, last.DeploymentUID)
			if open == nil {
				if o.force || len(last.OrphanedEnvs) > 0 {
					a.printf("deployment/%s removed: all clusters confirmed that were waited for\n", key)
					return nil
				}
				a.printf("deployment/%s removed: all clusters confirmed\n", key)
				return nil
			}
			last = *open
			if text := deletionProgress(last); text != said {
				a.errorf("%s\n", text)
				said = text
			}
		}
		if err := a.pause(ctx); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return &timeoutError{fmt.Sprintf("timed out after %s: %s", o.timeout, orText(said, "the server does not answer"))}
			}
			return err
		}
	}
}

// openDeletion finds the deletion with the uid, or the latest of the key while
// the uid is not known yet.
func openDeletion(all []client.Deletion, key, uid string) *client.Deletion {
	var found *client.Deletion
	for i := range all {
		d := &all[i]
		switch {
		case d.Key != key && d.DeploymentUID != key, uid != "" && d.DeploymentUID != uid:
		case found == nil, d.DeletedAt != nil && found.DeletedAt != nil && d.DeletedAt.After(*found.DeletedAt):
			found = d
		}
	}
	return found
}

func deletionProgress(d client.Deletion) string {
	text := fmt.Sprintf("deployment/%s: %d of %s confirmed", d.Key, len(d.ConfirmedEnvs), clusters(len(d.Envs)))
	if d.Progress != "" {
		text = "deployment/" + d.Key + ": " + d.Progress
	}
	if len(d.PendingEnvs) > 0 {
		text += ", waiting for " + pendingReasons(d)
	}
	return text
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
