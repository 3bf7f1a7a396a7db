package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/model"
)

const (
	defaultTimeout = 5 * time.Minute

	verbCreated   = "created"
	verbUpdated   = "updated"
	verbUnchanged = "unchanged"
)

func (a *app) applyCommand() *cobra.Command {
	var files []string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR|-",
		Short: "Create or update packages and their deployments",
		Long: `Create or update the packages and deployments of YAML or JSON files.

A file holds one or more documents, each a package, with or without deployments,
or a deployment. Every file is checked before anything is sent.`,
		Example: `  pmctl apply -f shop.yaml
  pmctl apply -f deploy/ --wait
  cat shop.yaml | pmctl apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usagef("-f is required: a file, a directory, or - for standard input")
			}
			m, err := a.readManifest(files)
			if err != nil {
				return err
			}
			return a.apply(cmd.Context(), m, wait, timeout)
		},
	}
	fileFlag(cmd, &files)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until every deployment is available in all of its clusters")
	timeoutFlag(cmd, &timeout)
	return cmd
}

func fileFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringSliceVarP(files, "filename", "f", nil, "file or directory with packages and deployments, - for standard input")
	complete(cmd, "filename", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
	})
}

func timeoutFlag(cmd *cobra.Command, timeout *time.Duration) {
	cmd.Flags().DurationVar(timeout, "timeout", defaultTimeout, "how long to wait, 0 for ever")
}

func (a *app) apply(ctx context.Context, m *manifest, wait bool, timeout time.Duration) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	applied, err := a.applyAll(ctx, c, m)
	if err != nil || !wait {
		return err
	}
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()
	for _, key := range applied {
		if err := a.follow(ctx, c, key, timeout); err != nil {
			return err
		}
	}
	return nil
}

// applyAll goes on after an object that was refused, without what depends on it,
// and stops when no server answers. It gives the keys of the deployments.
func (a *app) applyAll(ctx context.Context, c *client.Client, m *manifest) ([]string, error) {
	var applied []string
	var errs []error
	refused := map[string]bool{}
	for _, p := range m.packages {
		verb, err := applyPackage(ctx, c, p.doc)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: package %s: %w", p.at, p.doc.Name, err))
			refused[p.doc.Name] = true
			if hopeless(ctx, err) {
				return nil, errors.Join(errs...)
			}
			continue
		}
		a.printf("package/%s %s\n", p.doc.Name, verb)
	}
	for _, d := range m.deployments {
		if refused[d.doc.PackageName] {
			a.errorf("deployment/%s skipped: its package was refused\n", d.doc.Key)
			continue
		}
		verb, err := applyDeployment(ctx, c, d.doc)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: deployment %s: %w", d.at, d.doc.Key, err))
			if hopeless(ctx, err) {
				break
			}
			continue
		}
		a.printf("deployment/%s %s\n", d.doc.Key, verb)
		applied = append(applied, d.doc.Key)
	}
	return applied, errors.Join(errs...)
}

// hopeless reports that the next object would fail the same way.
func hopeless(ctx context.Context, err error) bool {
	return ctx.Err() != nil || client.IsUnavailable(err)
}

// applyPackage writes only what differs, so that an unchanged file leaves no
// trace.
func applyPackage(ctx context.Context, c *client.Client, pkg *model.OPackage) (string, error) {
	have, err := c.Package(ctx, pkg.Name)
	switch {
	case client.IsNotFound(err):
		_, err := c.CreatePackage(ctx, pkg)
		return verbCreated, err
	case err != nil:
		return "", err
	}
	same, err := sameJSON(have, pkg)
	if err != nil || same {
		return verbUnchanged, err
	}
	_, err = c.UpdatePackage(ctx, pkg)
	return verbUpdated, err
}

// applyDeployment always posts: what a deployment becomes depends on its package
// and on the environments too, so only the server can tell that nothing changes.
func applyDeployment(ctx context.Context, c *client.Client, dep *model.OClassDeployment) (string, error) {
	before, err := c.Deployment(ctx, dep.Key)
	if err != nil && !client.IsNotFound(err) {
		return "", err
	}
	if _, err := c.Deploy(ctx, dep); err != nil {
		return "", err
	}
	if before == nil {
		return verbCreated, nil
	}
	after, err := c.Deployment(ctx, dep.Key)
	if err != nil {
		return "", err
	}
	same, err := sameJSON(wished(before), wished(after))
	if err != nil || same {
		return verbUnchanged, err
	}
	return verbUpdated, nil
}

// wished is a deployment without what the clusters and the clock add to it.
func wished(d *model.OClassDeployment) *model.OClassDeployment {
	out := d.Clone()
	out.Condition, out.Status, out.CreatedAt, out.UpdatedAt = "", nil, nil, nil
	return out
}

type marshaler interface{ MarshalJSON() ([]byte, error) }

// sameJSON compares canonical forms.
func sameJSON(a, b marshaler) (bool, error) {
	left, err := a.MarshalJSON()
	if err != nil {
		return false, err
	}
	right, err := b.MarshalJSON()
	return bytes.Equal(left, right), err
}
