package raftstore

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// unpackRelease gives the data directory that a released program wrote. One is
// added with each release and none is ever written anew.
func unpackRelease(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive := tar.NewReader(z)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			err = writeAll(path, archive)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func writeAll(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

// The directory of release 1 holds a snapshot at 49 and entries up to 52: thirty
// deployments in three clusters, two of which were deleted again, one that came
// last, and what a cluster said about ten units.
func TestDataOfRelease1(t *testing.T) {
	c := newCluster(t, 3)
	first := c.nodes[0]
	first.dir = unpackRelease(t, "release-1.tar.gz")
	first.start()
	if id := first.ServerID(); id != "cab97608-1135-4ef2-9eb5-5d542259b56e" {
		t.Errorf("server id %s", id)
	}
	c.write("after", "the upgrade")
	check := func(n *testNode) {
		t.Helper()
		snap := n.State().Snapshot()
		acked := 0
		for _, u := range snap.UnitsByEnv("oaas-1") {
			if u.GetAck() != nil && u.GetRuntime() != nil {
				acked++
			}
		}
		got := fmt.Sprintf("cluster %s, %d packages, %d deployments, %d units, %d deletions, %d acknowledged, epoch %d, late %v, gone %v, reply %d",
			snap.Meta().GetClusterId(), len(snap.Packages()), len(snap.Deployments()), len(snap.Units()), len(snap.Deletions()), acked, snap.Meta().GetEpoch(),
			snap.Deployment("shop.Late") != nil, snap.Deployment("shop.Cart-03") == nil, snap.Reply("idem-shop.Cart-29").GetStatus())
		want := "cluster 19d59517-e67b-4bf0-967d-6ac7a2548310, 1 packages, 29 deployments, 62 units, 2 deletions, 10 acknowledged, epoch 1, late true, gone true, reply 200"
		if got != want {
			t.Errorf("%s has\n%s, want\n%s", n.name, got, want)
		}
	}
	check(first)
	first.expectLevel(2)

	// It grows to a cluster and survives the loss of the server that it came from.
	c.nodes[1].start()
	c.nodes[2].start()
	c.expectVoters(c.nodes...)
	c.expectEverywhere("after", "the upgrade")
	first.kill()
	c.write("without", "the first")
	for _, n := range c.nodes[1:] {
		check(n)
	}
}
