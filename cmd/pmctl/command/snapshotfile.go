package command

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/fsm"
)

// What follows reads files and needs no server.

// withFile runs read on a file, - being standard input.
func (a *app) withFile(name string, read func(r io.Reader) error) error {
	if name == "-" {
		return read(a.In)
	}
	f, err := os.Open(name)
	if err != nil {
		return usagef("%v", err)
	}
	defer func() { _ = f.Close() }() // only read
	if err := read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// snapshotReadCommand is inspect and verify, which differ in how much they check.
func (a *app) snapshotReadCommand(use, short, long string, read func(io.Reader) (*fsm.SnapshotInfo, error), verdict string) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: arguments("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			var info *fsm.SnapshotInfo
			err := a.withFile(args[0], func(r io.Reader) (err error) {
				info, err = read(r)
				return err
			})
			if err != nil {
				return err
			}
			return a.show(format, info, func(w io.Writer) error {
				if verdict != "" {
					_, err := fmt.Fprintf(w, "%s: %s: index %d, %s, sha256 %s\n", args[0], verdict, info.Index, bytesText(uint64(max(info.Size, 0))), info.SHA256)
					return err
				}
				return a.showSnapshot(w, info)
			})
		},
	}
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) snapshotInspectCommand() *cobra.Command {
	return a.snapshotReadCommand("inspect FILE", "Offline: show what a snapshot holds", `Show what a snapshot holds. The whole file is read and its checksums are checked.`, fsm.InspectSnapshot, "")
}

func (a *app) snapshotVerifyCommand() *cobra.Command {
	return a.snapshotReadCommand("verify FILE", "Offline: read a snapshot as a restore would",
		`Read a snapshot as a restore would: checksums, order, and how its rows fit together.
The exit code is 1 when it could not be restored.`, fsm.VerifySnapshot, "is whole and can be restored")
}

func (a *app) showSnapshot(w io.Writer, i *fsm.SnapshotInfo) error {
	t := table{}
	t.add("Cluster id:", orDash(i.ClusterID))
	t.add("Index, term:", fmt.Sprintf("%d, %d", i.Index, i.Term))
	t.add("Epoch, level:", fmt.Sprintf("%d, %d", i.Epoch, i.FeatureLevel))
	t.add("Commands:", strconv.FormatUint(i.Commands, 10))
	t.add("Last command:", age(a.Now(), i.Time)+" ago")
	if i.Time == nil {
		t.rows[len(t.rows)-1][1] = none
	}
	t.add("Hash of history:", i.ChainHash)
	t.add("File:", fmt.Sprintf("format %d, %s, sha256 %s", i.Format, bytesText(uint64(max(i.Size, 0))), i.SHA256))
	if i.RecoveryID != "" {
		t.add("Last recovery:", i.RecoveryID)
	}
	if err := t.write(w); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w)
	rows := table{header: []string{"TABLE", "ROWS", "SIZE", "LARGEST"}}
	for _, name := range slices.Sorted(maps.Keys(i.Tables)) {
		info := i.Tables[name]
		rows.add(name, strconv.FormatUint(info.Rows, 10), bytesText(info.Bytes), fmt.Sprintf("%s (%s)", orDash(info.Largest), bytesText(info.LargestBytes)))
	}
	return rows.write(w)
}

// diffShown is how many rows a table of differences shows.
const diffShown = 50

func (a *app) snapshotDiffCommand() *cobra.Command {
	var format string
	var all bool
	cmd := &cobra.Command{
		Use: "diff FROM TO", Short: "Offline: compare two snapshots, row by row", Args: arguments("FROM", "TO"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			var d *fsm.SnapshotDiff
			// An error of either file names that file itself.
			var unopened, unread error
			err := a.withFile(args[0], func(from io.Reader) error {
				unopened = a.withFile(args[1], func(to io.Reader) error {
					d, unread = fsm.DiffSnapshots(from, to)
					return nil
				})
				return nil
			})
			if err := errors.Join(err, unopened); err != nil {
				return err
			}
			if unread != nil {
				return fmt.Errorf("%s, %s: %w", args[0], args[1], unread)
			}
			return a.show(format, d, func(w io.Writer) error { return showDiff(w, d, all) })
		},
	}
	reportFlag(cmd, &format)
	cmd.Flags().BoolVar(&all, "all", false, fmt.Sprintf("list all rows rather than the first %d", diffShown))
	return cmd
}

func showDiff(w io.Writer, d *fsm.SnapshotDiff, all bool) error {
	if len(d.Tables) == 0 {
		_, err := fmt.Fprintf(w, "No difference between index %d and index %d.\n", d.From.Index, d.To.Index)
		return err
	}
	t := table{header: []string{"TABLE", "ADDED", "REMOVED", "CHANGED"}}
	for _, name := range slices.Sorted(maps.Keys(d.Tables)) {
		n := d.Tables[name]
		t.add(name, strconv.FormatUint(n.Added, 10), strconv.FormatUint(n.Removed, 10), strconv.FormatUint(n.Changed, 10))
	}
	if err := t.write(w); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w)
	rows := table{header: []string{"CHANGE", "TABLE", "KEY", "FIELDS"}}
	for i, c := range d.Changes {
		if i == diffShown && !all {
			break
		}
		var fields []string
		for _, f := range c.Fields {
			fields = append(fields, f.Path)
		}
		rows.add(c.Kind, c.Table, c.Key, clip(strings.Join(fields, ", "), 100))
	}
	if err := rows.write(w); err != nil {
		return err
	}
	if left := d.Omitted + uint64(len(d.Changes)-len(rows.rows)); left > 0 {
		_, _ = fmt.Fprintf(w, "… and %d more; -o json has what changed in each\n", left)
	}
	return nil
}

func (a *app) snapshotExportCommand() *cobra.Command {
	var filter fsm.ExportFilter
	var out string
	cmd := &cobra.Command{
		Use: "export FILE", Short: "Offline: write rows of a snapshot as lines of JSON", Args: arguments("FILE"),
		Long: `Write rows of a snapshot as lines of JSON: table, key and row. Documents are as users
wrote them, with whatever they hold.`,
		Example: `  pmctl snapshot export pm.snapshot --table packages,deployments --prefix shop`,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.withFile(args[0], func(r io.Reader) error {
				if out == "" {
					_, err := fsm.ExportSnapshot(r, a.Out, filter)
					return err
				}
				_, err := saveTo(out, func(w io.Writer) (*fsm.SnapshotInfo, error) { return fsm.ExportSnapshot(r, w, filter) })
				return err
			})
		},
	}
	cmd.Flags().StringSliceVar(&filter.Tables, "table", nil, "only these tables")
	cmd.Flags().StringVar(&filter.KeyPrefix, "prefix", "", "only keys that begin so")
	cmd.Flags().StringVar(&out, "file", "", "where to write (default: standard output)")
	return cmd
}
