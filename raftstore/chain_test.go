package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func TestJudgeChains(t *testing.T) {
	at := func(points ...string) map[uint64][]byte {
		m := map[uint64][]byte{}
		for _, p := range points {
			var index uint64
			var hash string
			if _, err := fmt.Sscanf(p, "%d=%s", &index, &hash); err != nil {
				t.Fatal(err)
			}
			m[index] = []byte(hash)
		}
		return m
	}
	voter := func(id string, points ...string) chainAnswer {
		return chainAnswer{id: id, voter: true, points: at(points...)}
	}
	silent := func(id string) chainAnswer { return chainAnswer{id: id, voter: true, err: errors.New("no answer")} }
	own := []chainPoint{{9, []byte("x9")}, {8, []byte("x8")}, {6, []byte("x6")}}
	type verdict struct {
		Diverged  uint64
		Disputed  string
		Agreed    uint64
		Unanimous bool
	}
	for name, tc := range map[string]struct {
		nonvoter bool
		answers  []chainAnswer
		want     verdict
	}{
		"alone":                     {answers: nil, want: verdict{Agreed: 9, Unanimous: true}},
		"all the same":              {answers: []chainAnswer{voter("b", "9=x9", "8=x8"), voter("c", "9=x9")}, want: verdict{Agreed: 9, Unanimous: true}},
		"one lags":                  {answers: []chainAnswer{voter("b", "9=x9"), voter("c", "6=x6")}, want: verdict{Agreed: 9, Unanimous: true}},
		"one is silent":             {answers: []chainAnswer{voter("b", "9=x9"), silent("c")}, want: verdict{Agreed: 9}},
		"one is elsewhere":          {answers: []chainAnswer{voter("b", "9=x9"), voter("c")}, want: verdict{Agreed: 9}},
		"another is the minority":   {answers: []chainAnswer{voter("b", "9=y9"), voter("c", "9=x9")}, want: verdict{Agreed: 9}},
		"this is the minority":      {answers: []chainAnswer{voter("b", "9=y9"), voter("c", "9=y9")}, want: verdict{Diverged: 9}},
		"minority, found earlier":   {answers: []chainAnswer{voter("b", "9=y9", "6=y6"), voter("c", "6=y6")}, want: verdict{Diverged: 6}},
		"two voters differ":         {answers: []chainAnswer{voter("b", "9=y9", "6=y6")}, want: verdict{Disputed: "b"}},
		"three ways":                {answers: []chainAnswer{voter("b", "9=y9"), voter("c", "9=z9")}, want: verdict{Disputed: "b,c"}},
		"differ, third is silent":   {answers: []chainAnswer{voter("b", "9=y9", "8=y8"), silent("c")}, want: verdict{Disputed: "b"}},
		"differ after the majority": {answers: []chainAnswer{voter("b", "9=y9", "8=x8"), voter("c", "8=x8")}, want: verdict{Disputed: "b", Agreed: 8}},
		"differ, third decides":     {answers: []chainAnswer{voter("b", "9=y9", "8=y8"), voter("c", "8=x8")}, want: verdict{Agreed: 8}},
		"nonvoters do not decide": {answers: []chainAnswer{{id: "b", points: at("9=y9")}, {id: "c", points: at("9=y9")}, voter("d", "9=x9")},
			want: verdict{Agreed: 9}},
		"a nonvoter is corrected": {nonvoter: true, answers: []chainAnswer{voter("b", "9=y9"), voter("c", "9=y9"), silent("d")}, want: verdict{Diverged: 9}},
		"nobody answers":          {answers: []chainAnswer{silent("b"), silent("c")}, want: verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			v := judgeChains(own, !tc.nonvoter, tc.answers)
			got := verdict{Disputed: strings.Join(v.disputed, ","), Agreed: v.agreed, Unanimous: v.unanimous}
			if v.diverged != nil {
				got = verdict{Diverged: v.diverged.Index}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// However many servers there are and whatever they answer: one that has the
// majority's history is never quarantined, and of two that differ at an index
// that all have passed, no two majorities can be found.
func TestJudgeChainsNeverAgainstTheMajority(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 7).Draw(rt, "servers")
		histories := make([]int, n) // where each one's history departs from the true one
		for i := range histories {
			histories[i] = rapid.IntRange(1, 12).Draw(rt, "departs")
		}
		hash := func(server int, index uint64) []byte {
			if int(index) < histories[server] {
				return []byte(fmt.Sprint("true", index))
			}
			return []byte(fmt.Sprint(server%2, histories[server], index))
		}
		indexes := []uint64{10, 9, 7, 3}
		diverged := 0
		for self := range n {
			var own []chainPoint
			for _, i := range indexes {
				own = append(own, chainPoint{i, hash(self, i)})
			}
			var answers []chainAnswer
			for o := range n {
				if o == self {
					continue
				}
				a := chainAnswer{id: fmt.Sprint(o), voter: true, points: map[uint64][]byte{}}
				for _, i := range indexes {
					a.points[i] = hash(o, i)
				}
				answers = append(answers, a)
			}
			same := 1
			for o := range n {
				if o != self && string(hash(o, 10)) == string(hash(self, 10)) {
					same++
				}
			}
			v := judgeChains(own, true, answers)
			if v.diverged != nil {
				diverged++
				if same > n/2 {
					rt.Fatalf("server %d of the majority is quarantined: %v", self, histories)
				}
			}
		}
		if diverged >= n-n/2 {
			rt.Fatalf("%d of %d are quarantined: %v", diverged, n, histories)
		}
	})
}

func TestChainRing(t *testing.T) {
	var r chainRing
	if got := r.sample(); len(got) != 0 {
		t.Errorf("an empty ring has %v", got)
	}
	const last = 5*chainMemory + 7
	for i := uint64(1); i <= last; i++ {
		r.add(chainPoint{2 * i, []byte{byte(i)}})
	}
	found, oldest, newest := r.find([]uint64{2 * last, 2*last - 1, 2 * (last - chainMemory + 1), 2})
	if len(found) != 2 || found[1].index != 2*(last-chainMemory+1) || newest != 2*last || oldest == 2 {
		t.Errorf("found %v of %d to %d", found, oldest, newest)
	}
	if len(r.points) > 2*chainMemory {
		t.Errorf("%d points are kept", len(r.points))
	}
	s := r.sample()
	if s[0].index != 2*last || s[1].index != 2*(last-1) || s[2].index != 2*(last-3) || len(s) > maxChainIndexes {
		t.Errorf("sample is %v", s)
	}
	r.reset(chainPoint{7, []byte("h")})
	if _, oldest, newest := r.find(nil); oldest != 7 || newest != 7 {
		t.Errorf("after a snapshot: %d to %d", oldest, newest)
	}
}

// tamper changes the last command in a stopped node's log that writes key: what
// a disk does that returns other bytes than were written.
func tamper(t *testing.T, n *testNode, key, value string) {
	t.Helper()
	store, err := openBolt(filepath.Join(n.dir, raftDir, logFile))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	last, err := store.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := last; i > 0; i-- {
		var l raft.Log
		if err := store.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		cmd, err := fsm.DecodeCommand(l.Data)
		if err != nil {
			t.Fatal(err)
		}
		if c := cmd.GetPutCluster().GetCluster(); c.GetName() == key {
			c.Address = value
			if l.Data, err = fsm.EncodeCommand(cmd); err != nil {
				t.Fatal(err)
			}
			if err := store.StoreLog(&l); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no command writes %s", key)
}

func checkOften(o *Options) { o.Timing.Checkup = 50 * time.Millisecond }

func expectDiverged(t *testing.T, n *testNode) *DivergedError {
	t.Helper()
	select {
	case err := <-n.Fatal():
		var d *DivergedError
		if !errors.As(err, &d) {
			t.Fatalf("fatal error = %v, want a *DivergedError", err)
		}
		return d
	case <-time.After(patience):
		t.Fatal("no fatal error")
		return nil
	}
}

// raised waits until the given servers, and no others, have that alarm.
func (c *testCluster) raised(kind pmpb.AlarmKey_Kind, want ...string) {
	c.t.Helper()
	slices.Sort(want)
	for _, n := range c.nodes {
		if !n.running() {
			continue
		}
		eventually(c.t, fmt.Sprintf("alarms %v on %s", want, n.name), func() error {
			var got []string
			for _, a := range n.State().Snapshot().Alarms() {
				if a.GetKey().GetKind() == kind {
					got = append(got, a.GetKey().GetServerId())
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				return fmt.Errorf("have %v", got)
			}
			return nil
		})
	}
}

func (c *testCluster) atLevel(level uint32) {
	c.t.Helper()
	eventually(c.t, "the feature level", func() error {
		if have := c.leader().State().Snapshot().FeatureLevel(); have < level {
			return fmt.Errorf("is %d", have)
		}
		return nil
	})
}

// A follower, and a leader, whose state differs from that of the majority takes
// itself out, stays out until its disk is wiped, and comes back as a new server.
func TestMinorityIsQuarantined(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"follower", "leader"} {
		t.Run(who, func(t *testing.T) {
			c := newCluster(t, 3)
			for _, n := range c.nodes {
				n.configure = checkOften
			}
			c.start()
			c.write("k", "right")
			c.expectEverywhere("k", "right")
			bad := c.leader()
			if who == "follower" {
				bad = c.others(bad)[0]
			}
			good := c.others(bad)
			bad.kill()
			for _, n := range good {
				if who == "leader" {
					n.kill()
				}
			}
			tamper(t, bad, "k", "wrong")
			if who == "leader" {
				// Nobody looks before the node with the wrong history leads.
				for _, n := range c.nodes {
					n.configure = func(o *Options) { o.Timing.Checkup = time.Hour }
				}
				bad.configure = func(o *Options) { o.Timing.Checkup, o.Timing.Probe = time.Hour, time.Hour }
				for _, n := range good {
					n.start()
				}
			}
			bad.start()
			if who == "leader" {
				c.lead(bad)
				eventually(t, "the comparison", func() error {
					if bad.checkOthers(&checkupState{}) {
						return errors.New("it found nothing")
					}
					return nil
				})
			}
			d := expectDiverged(t, bad)
			if d.ServerID != bad.ServerID() || len(d.Servers) != 2 || d.Own == d.Majority || !strings.Contains(d.Error(), bad.dir) {
				t.Errorf("error is %+v: %v", d, d)
			}
			if got := testutil.ToFloat64(bad.m.quarantined); got != 1 {
				t.Errorf("metric = %v", got)
			}
			mustApply(t, c.newLeader(bad), put("k", "still"))
			bad.kill()

			o := bad.options()
			var again *DivergedError
			if _, err := Open(t.Context(), o); !errors.As(err, &again) || again.Index != d.Index || !strings.Contains(err.Error(), quarantineFile) {
				t.Fatalf("a quarantined directory is opened: %v", err)
			}
			if err := os.WriteFile(filepath.Join(bad.dir, quarantineFile), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			o = bad.options()
			if _, err := Open(t.Context(), o); !errors.As(err, &again) {
				t.Fatalf("a directory with a damaged mark is opened: %v", err)
			}
			bad.dir = t.TempDir()
			bad.start()
			c.expectVoters(c.nodes...)
			c.expectEverywhere("k", "still")
		})
	}
}

// lead makes n the leader.
func (c *testCluster) lead(n *testNode) {
	c.t.Helper()
	eventually(c.t, n.name+" leads", func() error {
		if l := c.leader(); l != n {
			_ = l.raft.LeadershipTransferToServer(raft.ServerID(n.ServerID()), raft.ServerAddress(n.raftAddr)).Error()
			return errors.New("not yet")
		}
		return nil
	})
}

// When no majority tells who is right, the state takes nothing new, and goes on
// by itself once all agree.
func TestDisputeMakesTheStateReadOnly(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for _, n := range c.nodes {
		n.configure = checkOften
	}
	c.start()
	c.atLevel(2)
	c.write("k", "one")
	c.expectEverywhere("k", "one")
	report, err := c.nodes[0].ChainReport(t.Context())
	if err != nil || !report.Agree || report.Index == 0 || len(report.Servers) != 2 {
		t.Fatalf("report %+v, %v", report, err)
	}
	bad := c.others(c.leader())[0]
	id := bad.ServerID()
	bad.kill()
	tamper(t, bad, "k", "other")
	bad.start()
	leader := c.leader()
	disputed := id
	if leader == bad {
		disputed = c.others(bad)[0].ServerID()
	}
	c.raised(pmpb.AlarmKey_KIND_DIVERGED, disputed)
	if report, err = leader.ChainReport(t.Context()); err != nil || report.Agree {
		t.Errorf("report %+v, %v", report, err)
	}
	select {
	case err := <-bad.Fatal():
		t.Errorf("a server gave up although nobody knows who is right: %v", err)
	default:
	}
	res, err := leader.Apply(within(t, patience), &pmpb.Command{Op: &pmpb.Command_PutPackage{PutPackage: &pmpb.PutPackage{}}})
	if err != nil || !errors.Is(res.Err, fsm.ErrReadOnly) {
		t.Errorf("a package is taken: %v, %v", res.Err, err)
	}
	if leader == bad {
		// The log is the leader's; what was changed is the other one's now.
		return
	}
	// The operator removes the wrong one.
	if err := removeFromConfiguration(leader, id); err != nil {
		t.Fatal(err)
	}
	bad.kill()
	c.raised(pmpb.AlarmKey_KIND_DIVERGED)
	c.write("k", "on")
}

func TestChainRefuses(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	conn, err := n.peers.conn(n.grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	client := pmpb.NewPeerServiceClient(conn)
	c.write("k", "v")
	resp, err := client.Chain(t.Context(), &pmpb.ChainRequest{})
	if err != nil || len(resp.GetPoints()) != 1 || resp.GetPoints()[0].GetIndex() != resp.GetNewestIndex() || len(resp.GetPoints()[0].GetHash()) != 32 {
		t.Errorf("newest = %v, %v", resp, err)
	}
	if _, err := client.Chain(t.Context(), &pmpb.ChainRequest{Indexes: make([]uint64, maxChainIndexes+1)}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("too many indexes = %v", err)
	}
	if _, err := client.Chain(t.Context(), &pmpb.ChainRequest{ClusterId: newUUID()}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("another cluster = %v", err)
	}
}

func removeFromConfiguration(leader *testNode, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return leader.changeConfig(ctx, func() raft.Future { return leader.raft.RemoveServer(raft.ServerID(id), 0, patience) })
}

// serverAt gives the server of the configuration that has the address.
func (c *testCluster) serverAt(raftAddr string) string {
	for _, s := range c.leader().Servers() {
		if s.RaftAddress == raftAddr {
			return s.ID
		}
	}
	c.t.Fatalf("no server at %s", raftAddr)
	return ""
}

// An alarm over a server's history ends with what it was raised for, whether or not
// every other server answers at the time.
func TestHistoryAlarmsEnd(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.atLevel(2)
	n := c.leader()
	key := &pmpb.AlarmKey{Kind: pmpb.AlarmKey_KIND_DIVERGED, ServerId: newUUID()}
	mustApply(t, n, &pmpb.Command{Op: &pmpb.Command_UpdateAlarms{UpdateAlarms: &pmpb.UpdateAlarms{Raise: []*pmpb.Alarm{{Key: key, Message: "differs"}}}}})
	snap := n.State().Snapshot()
	raised := snap.Alarms()[0].GetModifyIndex()
	member := []raft.Server{{ID: raft.ServerID(n.ServerID())}, {ID: raft.ServerID(key.GetServerId())}}
	for name, tt := range map[string]struct {
		servers []raft.Server
		verdict chainVerdict
		ends    bool
	}{
		"nobody answers":                     {member, chainVerdict{}, false},
		"a majority agrees on what was then": {member, chainVerdict{agreed: raised - 1}, false},
		"a majority agrees since":            {member, chainVerdict{agreed: raised}, true},
		"a majority agrees, another differs": {member, chainVerdict{agreed: raised, disputed: []string{"other"}}, false},
		"all agree":                          {member, chainVerdict{unanimous: true}, true},
		"it was removed":                     {member[:1], chainVerdict{}, true},
		"it was removed, another differs":    {member[:1], chainVerdict{disputed: []string{"other"}}, true},
	} {
		op := &pmpb.UpdateAlarms{}
		n.historyAlarms(op, snap, &checkupState{}, tt.servers, &tt.verdict)
		if ends := len(op.GetClear()) == 1; ends != tt.ends {
			t.Errorf("%s: the alarm ends: %v", name, ends)
		}
	}
}
