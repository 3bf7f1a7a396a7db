package command

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/raftstore/recovery"
)

func (a *app) recoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "recover", Short: "Offline: bring a cluster back that has lost its quorum", Args: cobra.NoArgs, RunE: needSubcommand,
		Long: `Bring a cluster back that has lost the disks of a majority of its nodes.

All of this works on the data directories of stopped nodes. As long as a majority can
come back, wait for it: a recovery loses what only the missing nodes had.

  pmctl recover inspect DIR...             what each holds, and which to use
  pmctl recover apply DIR... --dry-run     what would be done
  pmctl recover apply DIR... --confirm ID  make that one the whole cluster
  pmctl recover from-snapshot FILE ...     when no data directory is left`,
	}
	cmd.AddCommand(a.recoverInspectCommand(), a.recoverApplyCommand(), a.recoverFromSnapshotCommand())
	return cmd
}

func (a *app) recoverInspectCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect DIR...", Short: "Show what data directories of stopped nodes hold, and which to use", Args: arguments("DIR..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			found, err := recovery.Compare(cmd.Context(), args...)
			if err != nil {
				return err
			}
			return a.show(format, found, func(w io.Writer) error { return showComparison(w, found) })
		},
	}
	reportFlag(cmd, &format)
	return cmd
}

func showComparison(w io.Writer, c *recovery.Comparison) error {
	t := table{header: []string{"DATA DIRECTORY", "SERVER ID", "TERM", "LOG", "ENDS WITH", "COMMITTED TO", "PACKAGES", "DEPLOYMENTS", "UNITS", "HASH", "PROBLEMS"}}
	for _, r := range c.Reports {
		t.add(r.DataDir, r.ServerID, strconv.FormatUint(r.Term, 10), fmt.Sprintf("%d to %d", r.FirstIndex, r.LastIndex), fmt.Sprintf("%d in term %d", r.EndIndex, r.EndTerm),
			"at least "+strconv.FormatUint(r.CommittedAtLeast, 10), strconv.Itoa(r.Applied.Packages), strconv.Itoa(r.Applied.Deployments), strconv.Itoa(r.Applied.Units),
			clip(r.Applied.ChainHash, 12), orDash(strings.Join(r.Problems, "; ")))
	}
	if err := t.write(w); err != nil {
		return err
	}
	servers := table{header: []string{"", "SERVER ID", "ADDRESS", "VOTER", "DIRECTORY"}}
	best := c.Reports[0]
	for _, s := range best.Servers {
		dir := none
		for _, r := range c.Reports {
			if r.ServerID == s.ID {
				dir = r.DataDir
			}
		}
		servers.add("", s.ID, s.Address, strconv.FormatBool(s.Voter), dir)
	}
	_, _ = fmt.Fprintf(w, "\nThe cluster %s as %s knows it:\n", orDash(best.ClusterID), best.DataDir)
	if err := servers.write(w); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, "\nUse %s:\n", c.Use)
	for _, why := range c.Why {
		_, _ = fmt.Fprintf(w, "- %s\n", why)
	}
	return nil
}

// recoverFlags are what both ways to recover take.
func (a *app) recoverFlags(cmd *cobra.Command, o *recovery.Options, format *string) {
	reportFlag(cmd, format)
	fs := cmd.Flags()
	fs.StringVar(&o.ConfirmClusterID, "confirm", "", "id of the cluster")
	fs.BoolVar(&o.DryRun, "dry-run", false, "only say what would be done")
	fs.StringVar(&o.Address, "address", "", "host:port of the node's Raft port from now on")
	fs.StringVar(&o.Reason, "reason", "", "why, for the record")
}

// settleRecover checks and completes the options.
func (a *app) settleRecover(o *recovery.Options, format string) error {
	if err := checkReport(format); err != nil {
		return err
	}
	if !o.DryRun && o.ConfirmClusterID == "" {
		return usagef("--confirm is required: the id of the cluster; --dry-run shows it")
	}
	o.Now = a.Now
	o.Operator = orText(a.Getenv("USER"), "unknown")
	return nil
}

func (a *app) recoverApplyCommand() *cobra.Command {
	var format string
	var force bool
	o := recovery.Options{}
	cmd := &cobra.Command{
		Use: "apply DIR...", Short: "Make the node with the newest log the whole cluster", Args: arguments("DIR..."),
		Long: `Of the data directories that are left, choose the one with the newest log and make its
server the whole cluster. Start it then with the command that it always had; all others
start with empty data directories and join.

The directory's log is copied before. Entries of which nothing proves that they were
committed count as committed from then on, and the epoch rises: every environment is
sent its units again.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.settleRecover(&o, format); err != nil {
				return err
			}
			found, err := recovery.Compare(cmd.Context(), args...)
			if err != nil {
				return err
			}
			if found.Quorum && !force && !o.DryRun {
				return &hinted{errors.New("these servers are a majority of the cluster: nothing has to be recovered"), "start their nodes; --force recovers all the same"}
			}
			o.DataDir = found.Use
			res, err := recovery.Recover(cmd.Context(), o)
			if err != nil {
				return recoverError(err)
			}
			return a.show(format, res, func(w io.Writer) error { return showRecovery(w, &o, res, found) })
		},
	}
	a.recoverFlags(cmd, &o, &format)
	cmd.Flags().BoolVar(&force, "force", false, "recover although the directories are those of a majority")
	return cmd
}

func (a *app) recoverFromSnapshotCommand() *cobra.Command {
	var format string
	o := recovery.Options{}
	cmd := &cobra.Command{
		Use: "from-snapshot FILE --data-dir DIR --address HOST:PORT", Short: "Begin again with a snapshot, when no data directory is left", Args: arguments("FILE"),
		Long: `Make a data directory of a new node that begins with the contents and the identity of a
snapshot. Start the node on it; all others start with empty data directories and join.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.DataDir == "" || o.Address == "" {
				return usagef("--data-dir and --address are required")
			}
			if err := a.settleRecover(&o, format); err != nil {
				return err
			}
			res, err := recovery.FromSnapshot(cmd.Context(), args[0], o)
			if err != nil {
				return recoverError(err)
			}
			return a.show(format, res, func(w io.Writer) error { return showRecovery(w, &o, res, nil) })
		},
	}
	a.recoverFlags(cmd, &o, &format)
	cmd.Flags().StringVar(&o.DataDir, "data-dir", "", "data directory to make")
	return cmd
}

// recoverError says how to confirm.
func recoverError(err error) error {
	if errors.Is(err, recovery.ErrNotConfirmed) {
		return &usageError{err}
	}
	return err
}

func showRecovery(w io.Writer, o *recovery.Options, r *recovery.Result, c *recovery.Comparison) error {
	verb := "Recovered"
	if r.DryRun {
		verb = "Would recover"
	}
	_, _ = fmt.Fprintf(w, "%s cluster %s in %s, log up to %d of term %d.\n", verb, r.ClusterID, o.DataDir, r.Index, r.Term)
	for _, text := range r.Consequences {
		_, _ = fmt.Fprintf(w, "- %s\n", text)
	}
	if r.DryRun {
		_, err := fmt.Fprintf(w, "Nothing was changed. To do it: --confirm %s\n", r.ClusterID)
		return err
	}
	if r.Copy != "" {
		_, _ = fmt.Fprintf(w, "The log from before: %s\n", r.Copy)
	}
	_, _ = fmt.Fprintf(w, "The record: %s\n", r.Audit)
	next := "Next: start this node, then the others with empty data directories."
	if c != nil && len(c.Reports) > 1 {
		next = "Next: start this node, then the others with empty data directories; keep copies of those that were not used."
	}
	_, err := fmt.Fprintln(w, next)
	return err
}
