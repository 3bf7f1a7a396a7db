package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// underWay is what to think of nodes that differ.
const underWay = "an upgrade is under way: finish it before the next one begins"

// freshBackup is how old the newest backup may be. It is the doctor's bound.
const freshBackup = 26 * time.Hour

func (a *app) upgradeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "upgrade", Short: "Upgrades of the nodes: what stands against one", Args: cobra.NoArgs, RunE: needSubcommand}
	var format string
	check := &cobra.Command{
		Use: "check", Short: "Say what stands against taking the nodes down one by one", Args: cobra.NoArgs,
		Long: `Say what stands against taking the nodes down one by one for a new program: an upgrade
that is not finished, alarms, nodes that are not healthy or lag, no failure tolerated,
histories that differ, no fresh backup. The exit code is 1 when a check fails; warnings
do not change it. Run it before the first node and after each: that nodes differ while
an upgrade goes on is a warning only.`,
		RunE: judged(a, &format, a.checkUpgrade, showUpgrade, func(checks []client.Check) error {
			return verdict([]client.Doctor{{Name: "upgrade", Checks: checks}})
		}),
	}
	reportFlag(check, &format)
	cmd.AddCommand(check)
	return cmd
}

// checkUpgrade asks the leader. Without one nothing can be said.
func (a *app) checkUpgrade(ctx context.Context, c *client.Client, _ []string) ([]client.Check, error) {
	state, err := c.Autopilot(ctx)
	if err != nil {
		return nil, err
	}
	settings, _, err := c.AutopilotConfig(ctx)
	if err != nil {
		return nil, err
	}
	members, err := c.MembersWithHealth(ctx)
	if err != nil {
		return nil, err
	}
	levels, err := c.FeatureLevel(ctx)
	if err != nil {
		return nil, err
	}
	alarms, err := c.Alarms(ctx)
	if err != nil {
		return nil, err
	}
	chain, err := c.Chain(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []client.Check{checkVersions(members), checkLevel(levels, members), checkHealth(members), checkLag(members, settings.MaxTrailingLogs)}
	out = append(out, checkTolerance(state)...)
	return append(out, checkAlarms(alarms), checkHistories(chain), a.checkBackup(ctx, c)), nil
}

func showUpgrade(w io.Writer, checks []client.Check) error {
	t := table{header: []string{"CHECK", "STATUS", "VALUE", "BOUND", "ADVICE"}}
	fine := true
	for _, c := range checks {
		t.add(c.Name, c.Status, clip(c.Value, 60), c.Bound, c.Advice)
		fine = fine && c.Status == client.CheckOK
	}
	if err := t.write(w); err != nil || !fine {
		return err
	}
	_, err := fmt.Fprintln(w, "Nothing stands against an upgrade.")
	return err
}

// ill gives a check a worse status, and says what to do.
func ill(c client.Check, status, advice string) client.Check {
	c.Status, c.Advice = status, advice
	return c
}

// checkVersions compares the programs. Two of them are what an upgrade looks like.
func checkVersions(members []client.Member) client.Check {
	nodes := map[string][]string{}
	for _, m := range members {
		nodes[m.Version] = append(nodes[m.Version], nodeName(m.Name, m.ServerID))
	}
	var texts []string
	for _, v := range slices.Sorted(maps.Keys(nodes)) {
		texts = append(texts, orText(v, "not known")+": "+strings.Join(nodes[v], ", "))
	}
	c := client.Check{Name: "versions", Status: client.CheckOK, Value: strings.Join(texts, "; "), Bound: "the same everywhere"}
	if len(nodes) > 1 {
		return ill(c, client.CheckWarn, underWay)
	}
	return c
}

// checkLevel finds an upgrade whose last step is missing: only neighbouring releases
// may run together.
func checkLevel(f *client.FeatureLevel, members []client.Member) client.Check {
	c := client.Check{Name: "feature level", Status: client.CheckOK, Value: strconv.FormatUint(uint64(f.Level), 10), Bound: "what all servers know"}
	switch {
	case len(f.Behind) > 0:
		var names []string
		for _, id := range f.Behind {
			name := id
			if m := findMember(members, id); m != nil {
				name = nodeName(m.Name, m.ServerID)
			}
			names = append(names, name)
		}
		c.Value += ", behind: " + strings.Join(names, ", ")
		return ill(c, client.CheckWarn, underWay)
	case f.Level < f.Possible:
		c.Value += fmt.Sprintf(", all servers know %d", f.Possible)
		return ill(c, client.CheckFail, "the leader raises it by itself within seconds, or 'pmctl feature raise'")
	default:
		return c
	}
}

func checkHealth(members []client.Member) client.Check {
	c := client.Check{Name: "nodes", Status: client.CheckOK, Value: counted(len(members), "node"), Bound: "all healthy"}
	var sick []string
	for _, m := range members {
		if m.Health == nil || !m.Health.Healthy {
			sick = append(sick, nodeName(m.Name, m.ServerID))
		}
	}
	if len(sick) > 0 {
		c.Value = "not healthy: " + strings.Join(sick, ", ")
		return ill(c, client.CheckFail, "'pmctl autopilot explain' says why")
	}
	return c
}

func checkLag(members []client.Member, bound uint64) client.Check {
	c := client.Check{Name: "lag", Status: client.CheckOK, Value: "0 entries", Bound: fmt.Sprintf("at most %d", bound)}
	var most uint64
	for _, m := range members {
		if m.Health != nil && m.Health.Lag > most {
			most = m.Health.Lag
			c.Value = fmt.Sprintf("%s (%s)", counted(int(min(most, math.MaxInt32)), "entry"), nodeName(m.Name, m.ServerID))
		}
	}
	if most > bound {
		return ill(c, client.CheckFail, "wait until it has caught up")
	}
	return c
}

// checkTolerance looks at what is left while one node is down.
func checkTolerance(s *client.Autopilot) []client.Check {
	voters := client.Check{Name: "voters", Status: client.CheckOK, Value: strconv.Itoa(s.Voters), Bound: strconv.Itoa(s.DesiredVoters)}
	if s.Voters != s.DesiredVoters {
		voters = ill(voters, client.CheckWarn, "'pmctl autopilot explain' says why")
	}
	c := client.Check{Name: "failure tolerance", Status: client.CheckOK, Value: strconv.Itoa(s.FailureTolerance), Bound: "above 0"}
	switch {
	case s.FailureTolerance > 0:
	case s.Voters <= 1 && s.DesiredVoters <= 1:
		c = ill(c, client.CheckWarn, "there is one node: nothing is answered while it restarts")
	default:
		c = ill(c, client.CheckFail, "writes stop as soon as a node is down; 'pmctl autopilot explain' says why")
	}
	return []client.Check{voters, c}
}

func checkAlarms(alarms []client.Alarm) client.Check {
	c := client.Check{Name: "alarms", Status: client.CheckOK, Value: "none", Bound: "none"}
	var texts []string
	for _, al := range alarms {
		texts = append(texts, al.Kind+" on "+nodeName(al.Name, al.ServerID))
	}
	if len(texts) > 0 {
		c.Value = strings.Join(texts, ", ")
		return ill(c, client.CheckFail, "see 'pmctl alarms'")
	}
	return c
}

func checkHistories(r *client.Chain) client.Check {
	c := client.Check{Name: "histories", Status: client.CheckOK, Value: fmt.Sprintf("%s at index %d", counted(len(r.Servers), "node"), r.Index), Bound: "agree"}
	if err := chainVerdict(r); err != nil {
		c.Value = err.Error()
		return ill(c, client.CheckFail, "see 'pmctl chain'")
	}
	return c
}

// checkBackup looks for what to go back to: a raised level has no way back. Backups
// that are made elsewhere are not known here, so it only warns.
func (a *app) checkBackup(ctx context.Context, c *client.Client) client.Check {
	out := client.Check{Name: "backup", Status: client.CheckOK, Bound: "younger than " + duration(freshBackup)}
	list, err := c.Backups(ctx)
	var newest client.Backup
	for _, b := range list {
		if b.Time != nil && (newest.Time == nil || b.Time.After(*newest.Time)) {
			newest = b
		}
	}
	const save = "keep one: 'pmctl snapshot save before.snapshot'"
	var answer *client.Error
	switch {
	case errors.As(err, &answer) && answer.Code == client.CodeNotConfigured:
		out.Value = "none is made"
		return ill(out, client.CheckWarn, save)
	case err != nil:
		out.Value = err.Error()
		return ill(out, client.CheckWarn, save)
	case newest.Time == nil:
		out.Value = "there is none"
		return ill(out, client.CheckWarn, "'pmctl snapshot backup' makes one")
	}
	out.Value = fmt.Sprintf("%s old, index %d", age(a.Now(), newest.Time), newest.Index)
	if a.Now().Sub(*newest.Time) > freshBackup {
		return ill(out, client.CheckWarn, "'pmctl snapshot backup' makes one")
	}
	return out
}
