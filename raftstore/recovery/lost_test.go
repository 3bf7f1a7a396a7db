package recovery

import (
	"bytes"
	"testing"
	"time"

	"oaas.io/control-plane/raftstore"
)

// What is lost in a recovery has been seen: clients hold its indexes as ETags and
// as tokens of reads, clusters hold its epochs and fences. None of them may stand
// for something else afterwards.
func TestNumbersOfLostWritesAreNotGivenOutAgain(t *testing.T) {
	cluster := startCluster(t, 3)
	first := deploy(t, "a", cluster...)
	var saved bytes.Buffer
	if _, err := leaderOf(t, cluster...).SaveSnapshot(t.Context(), &saved); err != nil {
		t.Fatal(err)
	}
	behind := cluster[0]
	if behind == leaderOf(t, cluster...) {
		behind = cluster[1]
	}
	eventually(t, "the first write on the node that will be left", func() error { return behind.WaitApplied(t.Context(), first) })
	behind.stop()

	// A restore in what will be lost: its epoch is known to the clusters and to
	// nobody else.
	leader := leaderOf(t, cluster...)
	for range 20 {
		deploy(t, "a", cluster...)
	}
	restored, err := leader.RestoreSnapshot(t.Context(), &saved, int64(saved.Len()), raftstore.RestoreOptions{ConfirmClusterID: leader.ClusterID()})
	if err != nil {
		t.Fatal(err)
	}
	seen := leader.State().Snapshot().Unit("a-e")
	if seen.GetEpoch() != 2 || seen.GetFence() != restored.Index {
		t.Fatalf("the unit that a cluster was sent: %v", seen)
	}
	lost := deploy(t, "a", cluster...)
	id := leader.ClusterID()
	stopAll(cluster)

	res, err := Recover(t.Context(), Options{DataDir: behind.dir, ConfirmClusterID: id})
	if err != nil {
		t.Fatal(err)
	}
	behind.start()
	leaderOf(t, behind)
	unit := behind.State().Snapshot().Unit("a-e")
	if unit.GetEpoch() < seen.GetEpoch() || unit.GetEpoch() == seen.GetEpoch() && unit.GetFence() <= seen.GetFence() {
		t.Errorf("the cluster has the unit at %d of epoch %d and is sent %d of epoch %d, which it refuses",
			seen.GetFence(), seen.GetEpoch(), unit.GetFence(), unit.GetEpoch())
	}
	if next := deploy(t, "a", behind); next <= lost {
		t.Errorf("a write has the index %d, which may be that of a lost one: those came to %d", next, lost)
	}
	if res.Before.EndIndex >= lost || raftstore.IndexGeneration(lost) == raftstore.IndexGeneration(behind.State().Snapshot().Index()) {
		t.Errorf("the index %d is not known to be from before the recovery", lost)
	}

	// The log that begins beyond the gap is one that a node starts with, and one
	// that can be recovered again.
	behind.stop()
	later := func() time.Time { return time.Now().Add(time.Hour) } // the record is named after it
	again, err := Recover(t.Context(), Options{DataDir: behind.dir, ConfirmClusterID: id, Now: later})
	if err != nil {
		t.Fatal(err)
	}
	if again.Next <= again.Index || raftstore.IndexGeneration(again.Next) != 2 {
		t.Errorf("the second recovery ends at %d and goes on after %d", again.Index, again.Next)
	}
	behind.start()
	leaderOf(t, behind)
	if snap := behind.State().Snapshot(); snap.Deployment("a") == nil || snap.Index() <= again.Next || snap.Meta().GetEpoch() != unit.GetEpoch()+1 {
		t.Errorf("after the second recovery: %v", snap.Meta())
	}
}
