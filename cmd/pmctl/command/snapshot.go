package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot", Short: "The state as a file: save, look into it, compare, restore", Args: cobra.NoArgs, RunE: needSubcommand}
	cmd.AddCommand(a.snapshotSaveCommand(), a.snapshotRestoreCommand(), a.snapshotListCommand(), a.snapshotGetCommand(), a.snapshotBackupCommand(),
		a.snapshotInspectCommand(), a.snapshotVerifyCommand(), a.snapshotDiffCommand(), a.snapshotExportCommand())
	return cmd
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	var format, node string
	cmd := &cobra.Command{
		Use: "save FILE", Short: "Save the state, with every write that was acknowledged before", Args: arguments("FILE"),
		Long: `Save the state to a file, with every write that was acknowledged before the call. The
file appears only once it is whole and its digest is right. - is standard output.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err := c.Snapshot(cmd.Context(), node, a.Out)
				return err
			}
			s, err := saveTo(args[0], func(w io.Writer) (*client.SnapshotSummary, error) { return c.Snapshot(cmd.Context(), node, w) })
			if err != nil {
				return err
			}
			return a.show(format, s, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s: index %d, %s, sha256 %s\n", args[0], s.Index, bytesText(uint64(s.Size)), s.SHA256)
				return err
			})
		},
	}
	reportFlag(cmd, &format)
	a.nodeFlag(cmd, &node, "node that makes the file (default: the one that is asked)")
	return cmd
}

// saveTo writes a file that appears under its name only when it is whole.
func saveTo[T any](name string, write func(w io.Writer) (T, error)) (out T, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // mode 0600
	if err != nil {
		return out, usagef("%v", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	out, err = write(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return out, err
	}
	return out, os.Rename(tmp.Name(), name)
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var format, confirm string
	cmd := &cobra.Command{
		Use: "restore FILE --confirm CLUSTER-ID", Short: "Replace the state by a saved one", Args: arguments("FILE"),
		Long: `Replace packages, deployments, plans and environments by those of a snapshot.

The id of the cluster that is overwritten has to be given ('pmctl raft info' shows it).
The state before is kept first. Every environment is then sent what the snapshot wants;
what runs and is not in the snapshot is taken down.`,
		Example: `  pmctl snapshot verify pm.snapshot
  pmctl snapshot restore pm.snapshot --confirm 0d9c0c7e-0f5c-4d5b-9a1c-5f0a4b8f6a11`,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, args []string) (*client.Restored, error) {
			if confirm == "" {
				return nil, usagef("--confirm is required: the id of the cluster whose state is replaced")
			}
			f, err := os.Open(args[0])
			if err != nil {
				return nil, usagef("%v", err)
			}
			defer func() { _ = f.Close() }() // only read
			info, err := f.Stat()
			if err != nil {
				return nil, usagef("%v", err)
			}
			return c.Restore(ctx, confirm, f, info.Size())
		}, func(w io.Writer, r *client.Restored) error {
			_, err := fmt.Fprintf(w, "restored at index %d, epoch %d: %s, %s, %s; %s %s taken down\nthe state before: %s\n", r.Index, r.Epoch,
				counted(r.Packages, "package"), counted(r.Deployments, "deployment"), counted(r.Units, "unit"), counted(r.Removed, "unit"), are(r.Removed), orDash(r.SafetyCopy))
			return err
		}),
	}
	reportFlag(cmd, &format)
	cmd.Flags().StringVar(&confirm, "confirm", "", "id of the cluster whose state is replaced")
	return cmd
}

func (a *app) snapshotBackupCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "backup", Short: "Make a backup now, where the scheduled ones go", Args: cobra.NoArgs,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, _ []string) (*client.Backup, error) {
			return c.RunBackup(ctx)
		}, func(w io.Writer, b *client.Backup) error { return a.showBackups(w, []client.Backup{*b}) }),
	}
	reportFlag(cmd, &format)
	return cmd
}
