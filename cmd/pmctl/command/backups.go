package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/raftstore/backup"
)

// place is where backups are read from without a cluster: when all nodes are lost,
// nobody else is there to read them.
type place struct{ target, credentialsFile string }

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.target, "target", "", "read the place of the backups itself, not through the cluster: an absolute directory, or s3://bucket/prefix?endpoint=https://host:port, as in pmd's --backup-target")
	cmd.Flags().StringVar(&p.credentialsFile, "credentials-file", "", "with --target s3://…: file with the credentials, in the form of Amazon's shared credentials (default: the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)")
}

// open gives the place, nil when the cluster is to be asked.
func (p *place) open() (backup.Target, error) {
	if p.target == "" {
		if p.credentialsFile != "" {
			return nil, usagef("--credentials-file goes with --target")
		}
		return nil, nil
	}
	creds, err := backup.LoadCredentials(p.credentialsFile, os.Getenv)
	if err != nil {
		return nil, usagef("--credentials-file: %v", err)
	}
	t, err := backup.OpenExisting(p.target, creds)
	if err != nil {
		return nil, usagef("--target: %v", err)
	}
	return t, nil
}

func (a *app) snapshotListCommand() *cobra.Command {
	var format string
	var from place
	cmd := &cobra.Command{
		Use: "list", Short: "List the stored backups", Args: cobra.NoArgs,
		Long: `List the stored backups of the cluster, the newest first; with --target those of every
cluster that keeps some there, without asking a node.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			list, err := a.storedBackups(cmd.Context(), &from)
			if err != nil {
				return err
			}
			return a.show(format, list, func(w io.Writer) error { return a.showBackups(w, list) })
		},
	}
	reportFlag(cmd, &format)
	from.flags(cmd)
	return cmd
}

func (a *app) storedBackups(ctx context.Context, from *place) ([]client.Backup, error) {
	target, err := from.open()
	if err != nil {
		return nil, err
	}
	if target == nil {
		c, err := a.client()
		if err != nil {
			return nil, err
		}
		return c.Backups(ctx)
	}
	list, err := backup.List(ctx, target)
	if err != nil {
		return nil, err
	}
	out := make([]client.Backup, len(list))
	for i, b := range list {
		out[i] = client.Backup{Name: b.Name, Location: target.String(), Time: &b.Time, Size: b.Size, Index: b.Index, Digest: b.Digest}
	}
	return out, nil
}

func (a *app) snapshotGetCommand() *cobra.Command {
	var format string
	var from place
	cmd := &cobra.Command{
		Use: "get NAME FILE", Short: "Fetch a stored backup, as a file to restore or recover from", Args: arguments("NAME", "FILE"),
		Long: `Fetch a stored backup into a file, which appears only once it is whole and its digest is
that of its name. - is standard output. With --target no node is asked: that is for a
cluster that is lost.`,
		Example: `  pmctl snapshot list
  pmctl snapshot get NAME pm.snapshot
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… pmctl snapshot get NAME pm.snapshot --target s3://bucket/pm`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeBackups(cmd.Context(), &from), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			fetch, err := a.fetcher(cmd.Context(), &from, args[0])
			if err != nil {
				return err
			}
			if args[1] == "-" {
				_, err := fetch(a.Out)
				return err
			}
			got, err := saveTo(args[1], fetch)
			if err != nil {
				return err
			}
			return a.show(format, got, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s: index %d, %s\n", args[1], got.Index, bytesText(uint64(max(got.Size, 0))))
				return err
			})
		},
	}
	reportFlag(cmd, &format)
	from.flags(cmd)
	return cmd
}

// completeBackups gives the names of the stored backups, none when they cannot be
// had: the shell is no place for errors.
func (a *app) completeBackups(ctx context.Context, from *place) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	list, _ := a.storedBackups(ctx, from)
	names := make([]string, len(list))
	for i, b := range list {
		names[i] = b.Name
	}
	return names
}

// fetcher gives what writes the backup of that name.
func (a *app) fetcher(ctx context.Context, from *place, name string) (func(io.Writer) (*client.SnapshotSummary, error), error) {
	target, err := from.open()
	if err != nil {
		return nil, err
	}
	if target != nil {
		return func(w io.Writer) (*client.SnapshotSummary, error) {
			b, err := backup.Fetch(ctx, target, name, w)
			if errors.Is(err, backup.ErrNotFound) {
				return nil, &notFoundError{kind: "backup", name: name, lister: "snapshot list --target …"}
			}
			if err != nil {
				return nil, err
			}
			return &client.SnapshotSummary{Index: b.Index, Size: b.Size, SHA256: b.Digest}, nil
		}, nil
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) (*client.SnapshotSummary, error) { return c.Backup(ctx, name, w) }, nil
}

func (a *app) showBackups(w io.Writer, list []client.Backup) error {
	if len(list) == 0 {
		a.errorf("No backups.\n")
		return nil
	}
	t := table{header: []string{"NAME", "AGE", "SIZE", "INDEX", "DIGEST", "LOCATION"}}
	for _, b := range list {
		t.add(b.Name, age(a.Now(), b.Time), bytesText(uint64(max(b.Size, 0))), fmt.Sprint(b.Index), orDash(b.Digest), b.Location)
	}
	return t.write(w)
}
