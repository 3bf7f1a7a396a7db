package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

func (a *app) memberCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "member", Aliases: []string{"members"}, Short: "The nodes of the Package Manager: list, remove, promote, demote", Args: cobra.NoArgs, RunE: needSubcommand}
	cmd.AddCommand(a.memberListCommand(), a.memberRemoveCommand(), a.memberVoteCommand(true), a.memberVoteCommand(false))
	return cmd
}

func (a *app) memberListCommand() *cobra.Command {
	var format string
	var stale, wide bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the nodes with role, zone, lag and health", Args: cobra.NoArgs,
		Long: `List the nodes as the leader sees them, each with the address of its log. Without a
leader, or with --stale, the node that is asked tells what it knows; then there is no
health. The exit code is 5 when there should have been a leader.`,
		RunE: judged(a, &format, func(ctx context.Context, c *client.Client, _ []string) (knownTo[[]client.Member], error) {
			return learn(ctx, stale, c.MembersWithHealth, c.Members)
		}, func(w io.Writer, k knownTo[[]client.Member]) error { return a.showMembers(w, k.value, wide) }, knownTo[[]client.Member].verdict),
	}
	reportFlag(cmd, &format)
	cmd.Flags().BoolVar(&stale, "stale", false, "what the node that is asked knows, without the leader")
	cmd.Flags().BoolVar(&wide, "wide", false, "also clocks, the other addresses and server ids")
	return cmd
}

func (a *app) showMembers(w io.Writer, members []client.Member, wide bool) error {
	t := table{header: []string{"NODE", "ROLE", "ZONE", "ADDRESS", "HEALTHY", "LAG", "CONTACT", "DISK P99", "DISK FREE", "LEVEL", "VERSION"}}
	if wide {
		t.header = append(t.header, "CLOCK", "HTTP", "GRPC", "SERVER ID")
	}
	t.header = append(t.header, "NOTE")
	for _, m := range members {
		row := []string{nodeName(m.Name, m.ServerID), orDash(m.Role), orDash(m.Zone), orDash(m.RaftAddress)}
		note := ""
		if h := m.Health; h != nil {
			free := ""
			if h.DiskTotal > 0 {
				free = fmt.Sprintf("%.0f%%", 100*float64(h.DiskFree)/float64(h.DiskTotal))
			}
			row = append(row, strconv.FormatBool(h.Healthy), strconv.FormatUint(h.Lag, 10), spanText(h.LastContact), spanText(h.DiskWriteP99), orDash(free))
			if !h.Healthy || !m.Voter {
				note = strings.Join(h.Reasons, "; ")
			}
		} else {
			row = append(row, none, none, none, none, none)
		}
		row = append(row, strconv.FormatUint(uint64(m.FeatureLevel), 10), orDash(m.Version))
		if wide {
			clock := none
			if m.Health != nil {
				clock = spanText(m.Health.ClockOffset)
			}
			row = append(row, clock, orDash(m.HTTPAddress), orDash(m.GRPCAddress), m.ServerID)
		}
		t.add(append(row, note)...)
	}
	return t.write(w)
}

func (a *app) memberRemoveCommand() *cobra.Command {
	var format string
	var dryRun, force, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the cluster", Args: arguments("NODE"), ValidArgsFunction: a.completeNodes,
		Long: `Take a node out of the cluster. What would be left is worked out first: the removal
is refused when the rest had no quorum, or would no longer tolerate a failure. The
exit code is then 4, with --dry-run as well.

Stop the node and keep it stopped: its data directory stays that of a removed server,
which does not join again. With an empty data directory it joins as a new one.`,
		Example: `  pmctl member remove pm-3 --dry-run
  pmctl member remove pm-3 --wait`,
		RunE: judged(a, &format, func(ctx context.Context, c *client.Client, args []string) (*client.Removal, error) {
			r, err := c.RemoveMember(ctx, args[0], dryRun, force)
			if err != nil || !wait || dryRun {
				return r, err
			}
			return r, a.awaitMember(ctx, c, timeout, args[0]+" is no member", func(members []client.Member) bool {
				return findMember(members, r.ServerID) == nil
			})
		}, func(w io.Writer, r *client.Removal) error {
			verb := "removed"
			if r.DryRun {
				verb = "would be removed"
			}
			if len(r.Refused) > 0 && !r.Removed {
				verb = "would not be removed"
			}
			_, _ = fmt.Fprintf(w, "member/%s %s\n", nodeName(r.Name, r.ServerID), verb)
			t := table{header: []string{"", "BEFORE", "AFTER"}}
			t.add("voters", strconv.Itoa(r.VotersBefore), strconv.Itoa(r.VotersAfter))
			t.add("healthy voters", "", strconv.Itoa(r.HealthyAfter))
			t.add("quorum", "", strconv.Itoa(r.QuorumAfter))
			t.add("failures tolerated", strconv.Itoa(r.ToleranceBefore), strconv.Itoa(r.ToleranceAfter))
			if err := t.write(w); err != nil {
				return err
			}
			for _, text := range append(r.Refused, r.Warnings...) {
				_, _ = fmt.Fprintf(w, "- %s\n", text)
			}
			return nil
		}, removalVerdict),
	}
	reportFlag(cmd, &format)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would happen")
	cmd.Flags().BoolVar(&force, "force", false, "remove it although the rest tolerates fewer failures")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is out")
	timeoutFlag(cmd, &timeout)
	return cmd
}

// removalVerdict is the error that a dry run's removal would have been.
func removalVerdict(r *client.Removal) error {
	if len(r.Refused) == 0 || r.Removed {
		return nil
	}
	err := error(&refusedError{fmt.Sprintf("member/%s would not be removed", nodeName(r.Name, r.ServerID))})
	if r.Override != "" {
		err = &hinted{err, overrideHint(r.Override)}
	}
	return err
}

func (a *app) memberVoteCommand(vote bool) *cobra.Command {
	use, short, long := "demote NODE", "Pin a node to have no vote", "Pin a node to have no vote. Autopilot takes it away and gives the place to another node."
	role := "non-voter"
	if vote {
		use, short, long = "promote NODE", "Let a node have a vote again", "Let a node have a vote again. Autopilot gives it one as soon as it is stable and there is a place."
		role = "voter"
	}
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: arguments("NODE"), ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.SetVote(cmd.Context(), args[0], vote); err != nil {
				return err
			}
			if !wait {
				a.printf("member/%s may have %s vote; autopilot sees to it\n", args[0], map[bool]string{true: "a", false: "no"}[vote])
				return nil
			}
			err = a.awaitMember(cmd.Context(), c, timeout, args[0]+" is a "+role, func(members []client.Member) bool {
				m := findMember(members, args[0])
				return m != nil && m.Voter == vote
			})
			if err == nil {
				a.printf("member/%s is a %s\n", args[0], role)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until autopilot has done it")
	timeoutFlag(cmd, &timeout)
	return cmd
}

func (a *app) leaderCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "leader", Short: "Leadership: hand it over", Args: cobra.NoArgs, RunE: needSubcommand}
	var format string
	transfer := &cobra.Command{
		Use: "transfer [NODE]", Short: "Hand leadership to a node, or to the best one", Args: arguments("[NODE]"), ValidArgsFunction: a.completeNodes,
		Long: `Hand leadership to a node, or to the one with the longest log. It has to be a voter
that has caught up. The answer comes when the new leader is ready, with the time that
there was none.`,
		RunE: asked(a, &format, func(ctx context.Context, c *client.Client, args []string) (*client.Transfer, error) {
			to := ""
			if len(args) > 0 {
				to = args[0]
			}
			return c.TransferLeader(ctx, to)
		}, func(w io.Writer, t *client.Transfer) error {
			var err error
			if t.From == t.To {
				_, err = fmt.Fprintf(w, "%s leads already\n", nodeName(t.ToName, t.To))
			} else {
				_, err = fmt.Fprintf(w, "leadership handed from %s to %s in %d ms; %d ms until it was ready\n", nodeName(t.FromName, t.From), nodeName(t.ToName, t.To), t.Took, t.Gap)
			}
			return err
		}),
	}
	reportFlag(transfer, &format)
	cmd.AddCommand(transfer)
	return cmd
}
