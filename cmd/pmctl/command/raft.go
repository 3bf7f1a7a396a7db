package command

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/raftstore/replay"
)

func (a *app) raftCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "raft", Short: "The replicated log: numbers, entries, tuning", Args: cobra.NoArgs, RunE: needSubcommand}
	cmd.AddCommand(a.raftInfoCommand(), a.raftLogCommand(), a.raftTuneCommand(), a.raftReplayCommand())
	return cmd
}

func (a *app) raftInfoCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "info [NODE]", Short: "Show a node's numbers: log, state, disk, snapshots, process", Args: arguments("[NODE]"), ValidArgsFunction: a.completeNodes,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, args []string) (*client.Node, error) {
			return c.Node(ctx, strings.Join(args, ""))
		}, a.showNode),
	}
	reportFlag(cmd, &format)
	return cmd
}

func (a *app) showNode(w io.Writer, n *client.Node) error {
	number := func(v uint64) string { return strconv.FormatUint(v, 10) }
	t := table{}
	t.add("Node:", nodeName(n.Name, n.ServerID))
	t.add("Server id:", n.ServerID)
	t.add("Cluster id:", orDash(n.ClusterID))
	t.add("Zone:", orDash(n.Zone))
	t.add("Version:", fmt.Sprintf("%s (%s, %s), feature level %d", n.Version, n.Process.GoVersion, n.Process.Platform, n.Features.Own))
	t.add("Up for:", duration(time.Duration(n.Uptime)))
	t.add("Role:", fmt.Sprintf("%s in term %d, leader %s", n.Raft.State, n.Raft.Term, orDash(n.LeaderID)))
	t.add("Last contact:", spanText(n.Raft.LastContact))
	t.add("Log:", fmt.Sprintf("last %d, committed %d, applied %d", n.Raft.LastLogIndex, n.Raft.CommitIndex, n.Raft.AppliedIndex))
	for _, s := range n.Snapshots {
		t.add("Snapshot:", fmt.Sprintf("%s at index %d, term %d, %s", s.ID, s.Index, s.Term, bytesText(uint64(max(s.Size, 0)))))
	}
	t.add("State:", fmt.Sprintf("epoch %d, level %d, %d commands, hash %s", n.State.Epoch, n.State.FeatureLevel, n.State.AppliedCount, clip(n.State.ChainHash, 16)))
	t.add("", strings.Join([]string{
		counted(n.State.Packages, "package"), counted(n.State.Deployments, "deployment"), counted(n.State.Units, "unit"),
		counted(n.State.Clusters, "cluster"), counted(n.State.Deletions, "deletion"), counted(n.State.Alarms, "alarm"),
	}, ", "))
	t.add("Disk:", fmt.Sprintf("%s, %s of %s free, log file %s, writes p50 %s p99 %s", orDash(n.Disk.Path), bytesText(n.Disk.Free), bytesText(n.Disk.Total),
		bytesText(uint64(max(n.Disk.LogFileBytes, 0))), spanText(n.Disk.WriteP50), spanText(n.Disk.WriteP99)))
	t.add("Tuning:", fmt.Sprintf("heartbeat %s, election %s, snapshot every %s after %s entries, %s trailing", spanText(n.Tuning.HeartbeatTimeout), spanText(n.Tuning.ElectionTimeout),
		spanText(n.Tuning.SnapshotInterval), number(n.Tuning.SnapshotThreshold), number(n.Tuning.TrailingLogs)))
	t.add("Process:", fmt.Sprintf("pid %d on %s, %d goroutines, heap %s of %s", n.Process.PID, orDash(n.Process.Host), n.Process.Goroutines, bytesText(n.Process.HeapBytes), bytesText(n.Process.SystemHeap)))
	return t.write(w)
}

func (a *app) raftLogCommand() *cobra.Command {
	var format, node string
	var from, to uint64
	cmd := &cobra.Command{
		Use: "log", Short: "Show entries of a node's log, decoded", Args: cobra.NoArgs,
		Long: `Show entries of a node's log. Commands are decoded; documents, idempotency keys and
values of configurations are told by their length only. -o json has one entry a line,
-o yaml and jsonpath have a list of all.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			entries, unwritten := []client.LogEntry{}, error(nil)
			err = c.RaftLog(cmd.Context(), node, from, to, func(e client.LogEntry) bool {
				if format == "json" { // as they come: a log may be long
					unwritten = a.printLine(format, e)
				} else {
					entries = append(entries, e)
				}
				return unwritten == nil
			})
			if err = errors.Join(err, unwritten); err != nil || format == "json" {
				return err
			}
			return a.show(format, entries, func(w io.Writer) error { return showEntries(w, entries) })
		},
	}
	reportFlag(cmd, &format)
	cmd.Flags().Uint64Var(&from, "from", 0, "first index (default: the last 100 entries)")
	cmd.Flags().Uint64Var(&to, "to", 0, "last index (default: the end)")
	a.nodeFlag(cmd, &node, "node whose log to show (default: the one that is asked)")
	return cmd
}

func showEntries(w io.Writer, entries []client.LogEntry) error {
	t := table{header: []string{"INDEX", "TERM", "TYPE", "APPENDED", "BYTES", "WHAT"}}
	for _, e := range entries {
		when := none
		if e.AppendedAt != nil {
			when = e.AppendedAt.UTC().Format("2006-01-02T15:04:05.000Z")
		}
		t.add(strconv.FormatUint(e.Index, 10), strconv.FormatUint(e.Term, 10), e.Type, when, strconv.Itoa(e.Size), clip(strings.TrimSpace(e.Op+" "+e.Text), 80))
	}
	return t.write(w)
}

func (a *app) raftTuneCommand() *cobra.Command {
	var format, node string
	var t client.Tuning
	cmd := &cobra.Command{
		Use: "tune", Short: "Show or change what a running node can change, until its next restart", Args: cobra.NoArgs,
		Example: `  pmctl raft tune --node pm-1
  pmctl raft tune --node pm-1 --snapshot-threshold 50000`,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, _ []string) (*client.Tuning, error) {
			if t == (client.Tuning{}) {
				return c.Tuning(ctx, node)
			}
			return c.Tune(ctx, node, t)
		}, func(w io.Writer, t *client.Tuning) error {
			out := table{header: []string{"NAME", "VALUE"}}
			out.add("snapshot-interval", spanText(t.SnapshotInterval))
			out.add("snapshot-threshold", strconv.FormatUint(t.SnapshotThreshold, 10))
			out.add("trailing-logs", strconv.FormatUint(t.TrailingLogs, 10))
			out.add("heartbeat", spanText(t.HeartbeatTimeout))
			out.add("election", spanText(t.ElectionTimeout))
			return out.write(w)
		}),
	}
	reportFlag(cmd, &format)
	a.nodeFlag(cmd, &node, "node to tune (default: the one that is asked)")
	fs := cmd.Flags()
	fs.DurationVar((*time.Duration)(&t.SnapshotInterval), "snapshot-interval", 0, "how often the log is looked at for a snapshot, from the next look on")
	fs.Uint64Var(&t.SnapshotThreshold, "snapshot-threshold", 0, "entries after which a snapshot is taken")
	fs.Uint64Var(&t.TrailingLogs, "trailing-logs", 0, "entries kept behind a snapshot")
	fs.DurationVar((*time.Duration)(&t.HeartbeatTimeout), "heartbeat", 0, "time without the leader before an election; change all nodes")
	fs.DurationVar((*time.Duration)(&t.ElectionTimeout), "election", 0, "time that a candidate waits for votes; change all nodes")
	return cmd
}

// replayed is what a replay came to, for output.
type replayed struct {
	DataDir       string   `json:"data_dir"`
	ServerID      string   `json:"server_id"`
	ClusterID     string   `json:"cluster_id"`
	SnapshotIndex uint64   `json:"snapshot_index"`
	FirstIndex    uint64   `json:"first_index"`
	LastIndex     uint64   `json:"last_index"`
	Commands      int      `json:"commands"`
	Refused       int      `json:"refused"`
	Damaged       []string `json:"damaged_snapshots"`

	State client.StateCounts `json:"state"`
}

func (a *app) raftReplayCommand() *cobra.Command {
	var format string
	o := replay.Options{}
	cmd := &cobra.Command{
		Use: "replay --data-dir DIR", Short: "Offline: apply a stopped node's log and show what comes out", Args: cobra.NoArgs,
		Long: `Apply the log of a stopped node's data directory to an empty state, up to an index, and
show what that state holds and its hash. Nothing on the disk is changed. Two nodes
with the same hash at the same index have applied the same commands.

A log does not say which of its last entries were committed.`,
		Example: `  pmctl raft replay --data-dir /var/lib/pmd --until 1200`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			if o.DataDir == "" {
				return usagef("--data-dir is required")
			}
			res, err := replay.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			snap := res.State.Snapshot()
			meta := snap.Meta()
			out := replayed{
				DataDir: o.DataDir, ServerID: res.ServerID, ClusterID: res.ClusterID, SnapshotIndex: res.SnapshotIndex, FirstIndex: res.FirstIndex, LastIndex: res.LastIndex,
				Commands: res.Commands, Refused: res.Refused, Damaged: append([]string{}, res.Damaged...),
				State: client.StateCounts{
					Index: snap.Index(), Epoch: meta.GetEpoch(), AppliedCount: meta.GetAppliedCount(), ChainHash: hex.EncodeToString(meta.GetChainHash()), FeatureLevel: snap.FeatureLevel(),
					Packages: len(snap.Packages()), Deployments: len(snap.Deployments()), Units: len(snap.Units()), Clusters: len(snap.Clusters()),
					Deletions: len(snap.Deletions()), Members: len(snap.Members()), Alarms: len(snap.Alarms()),
				},
			}
			return a.show(format, out, func(w io.Writer) error { return showReplayed(w, &out) })
		},
	}
	reportFlag(cmd, &format)
	cmd.Flags().StringVar(&o.DataDir, "data-dir", "", "data directory of a node that does not run")
	cmd.Flags().Uint64Var(&o.Until, "until", 0, "last index to apply (default: all)")
	return cmd
}

func showReplayed(w io.Writer, r *replayed) error {
	t := table{}
	t.add("Data directory:", r.DataDir)
	t.add("Server id:", orDash(r.ServerID))
	t.add("Cluster id:", orDash(r.ClusterID))
	t.add("Began with:", fmt.Sprintf("snapshot at index %d", r.SnapshotIndex))
	if r.SnapshotIndex == 0 {
		t.rows[len(t.rows)-1][1] = "an empty state"
	}
	t.add("Log:", fmt.Sprintf("%d to %d", r.FirstIndex, r.LastIndex))
	t.add("Applied:", fmt.Sprintf("%s, %d of them without effect", counted(r.Commands, "command"), r.Refused))
	t.add("State at index:", strconv.FormatUint(r.State.Index, 10))
	t.add("Hash:", orDash(r.State.ChainHash))
	t.add("Epoch, level:", fmt.Sprintf("%d, %d", r.State.Epoch, r.State.FeatureLevel))
	t.add("Holds:", strings.Join([]string{
		counted(r.State.Packages, "package"), counted(r.State.Deployments, "deployment"), counted(r.State.Units, "unit"), counted(r.State.Clusters, "cluster"),
		counted(r.State.Deletions, "deletion"), counted(r.State.Members, "member"), counted(r.State.Alarms, "alarm"),
	}, ", "))
	for _, d := range r.Damaged {
		t.add("Damaged snapshot:", d)
	}
	return t.write(w)
}
