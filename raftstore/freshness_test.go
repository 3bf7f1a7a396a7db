package raftstore

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestFreshnessIsThatOfTheNewestMarkThatIsApplied(t *testing.T) {
	began := time.Now()
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	var f freshness
	applied := uint64(0)
	asOf := func() time.Time { return f.asOf(func(index uint64) bool { return applied >= index }) }
	say := func(term, commit uint64, s int) {
		f.heard(&raft.AppendEntriesRequest{Term: term, LeaderCommitIndex: commit}, at(s))
	}
	expect := func(what string, want time.Time) {
		t.Helper()
		if got := asOf(); !got.Equal(want) {
			t.Errorf("%s: as of %v, want %v", what, got.Sub(began), want.Sub(began))
		}
	}
	expect("nothing was heard", time.Time{})
	say(2, 0, 1)
	expect("a heartbeat says nothing", time.Time{})
	say(2, 10, 2)
	say(2, 10, 3)
	say(2, 12, 4)
	expect("nothing is applied", time.Time{})
	applied = 11
	expect("10 was all there was at 3", at(3))
	say(1, 5, 5)
	expect("who was deposed does not count", at(3))
	say(3, 11, 6)
	expect("a new leader knows less than the one before", at(3))
	applied = 12
	expect("all is applied", at(6))
	say(3, 12, 7)
	expect("nothing is new", at(7))

	for i := range uint64(3 * maxMarks) {
		say(3, 100+i, 10+int(i)) //nolint:gosec // few
	}
	if len(f.marks) != maxMarks {
		t.Errorf("%d marks are kept", len(f.marks))
	}
	applied = 150
	expect("a node that lags", at(60))
	applied = 100 + 3*maxMarks - 2
	if got := asOf(); got.After(at(10 + 3*maxMarks - 2)) {
		t.Errorf("it is younger than it can be: %v", got.Sub(began))
	}
	f.led(at(2000))
	expect("it led", at(2000))
}

// A node that comes back hears from the leader at once, and says that its state is fresh
// only when it has what was committed while it was away.
func TestANodeThatComesBackIsNotFreshBeforeItHasCaughtUp(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	away := c.others(c.leader())[0]
	away.kill()
	var last uint64
	for i := range 300 {
		last = c.write("k", fmt.Sprint(i))
	}
	written := time.Now()
	away.start()
	deadline := time.Now().Add(patience)
	for {
		age := away.Staleness()
		// What is applied is looked at later: it may only be more.
		applied := away.AppliedIndex()
		if fresh := time.Since(written) > age; fresh && applied < last {
			t.Fatalf("the state claims to be %s old and is at %d, although %d was committed %s ago", age, applied, last, time.Since(written))
		} else if fresh {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not fresh, at %d of %d: %s", applied, last, age)
		}
	}
}

// Where nothing is written the state stays fresh, also after entries of the library's own:
// a new leader begins with one.
func TestAQuietClusterIsFresh(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	if err := c.leader().TransferLeadership(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	leader := c.leader()
	if age := leader.Staleness(); age != 0 {
		t.Errorf("the leader's state is %s old", age)
	}
	for _, n := range c.others(leader) {
		began := time.Now()
		eventually(t, n.name+" is fresh", func() error {
			// By a message that came since then.
			if age := n.Staleness(); age == math.MaxInt64 || age > time.Since(began) {
				return fmt.Errorf("%s old", age)
			}
			return nil
		})
	}
}

// All entries up to the last one may be in a snapshot, of which none was a command.
func TestARestoredStateIsFresh(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	for i := range 50 {
		c.write("k", fmt.Sprint(i))
	}
	c.expectEverywhere("k", "49")
	n := c.others(c.leader())[0]
	if err := n.raft.Barrier(0).Error(); err == nil {
		t.Fatal("a follower has no barrier")
	}
	if err := c.leader().raft.Barrier(patience).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a snapshot", func() error { return n.raft.Snapshot().Error() })
	n.kill()
	n.start()
	eventually(t, n.name+" is fresh", func() error {
		if age := n.Staleness(); age > patience {
			return fmt.Errorf("%s old", age)
		}
		return nil
	})
}
