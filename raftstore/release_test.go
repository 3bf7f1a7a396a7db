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
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"oaas.io/control-plane/fsm"
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

// A node that starts with the data of an earlier release has all of it, takes the
// cluster to the level of this one when nobody is left who does not know it, and
// brings the others up.
func TestDataOfReleases(t *testing.T) {
	t.Parallel()
	for _, release := range []struct {
		file, serverID, env string
		// state and rows are what the directory holds.
		state string
		late  string
		// also are what only this release had.
		also func(*fsm.Snapshot) error
	}{
		{
			// A snapshot at 49 and entries up to 52: thirty deployments in three clusters, two
			// of which were deleted again, one that came last, and what a cluster said about
			// ten units.
			file: "release-1.tar.gz", serverID: "cab97608-1135-4ef2-9eb5-5d542259b56e", env: "oaas-1", late: "shop.Late",
			state: "cluster 19d59517-e67b-4bf0-967d-6ac7a2548310, 1 packages, 29 deployments, 62 units, 2 deletions, 10 acknowledged, epoch 1",
			also: func(s *fsm.Snapshot) error {
				if s.Deployment("shop.Cart-03") != nil || s.Reply("idem-shop.Cart-29").GetStatus() != 200 {
					return errors.New("a deployment or an answer")
				}
				return nil
			},
		},
		{
			// A snapshot at 59 and entries up to 61, at feature level 2: twenty deployments that
			// two clusters run, one that is being deleted, one that came when no cluster could be
			// reached, and a setting of autopilot.
			file: "release-2.tar.gz", serverID: "680abd73-0c82-45a7-99a9-4a2ed25ecf19", env: "oaas-2", late: "shop.Cart-late",
			state: "cluster 407b91fb-155c-424e-934f-7b07bc4f3ac7, 1 packages, 20 deployments, 42 units, 1 deletions, 20 acknowledged, epoch 1",
			also: func(s *fsm.Snapshot) error {
				if s.Autopilot().GetDeadServerGrace().AsDuration() != 90*time.Second || s.Deployment("shop.Cart-3") != nil {
					return errors.New("the settings of autopilot or a deletion")
				}
				return nil
			},
		},
	} {
		t.Run(release.file, func(t *testing.T) {
			c := newCluster(t, 3)
			first := c.nodes[0]
			first.dir = unpackRelease(t, release.file)
			first.start()
			if id := first.ServerID(); id != release.serverID {
				t.Errorf("server id %s", id)
			}
			c.write("after", "the upgrade")
			check := func(n *testNode) {
				t.Helper()
				snap := n.State().Snapshot()
				acked := 0
				for _, u := range snap.UnitsByEnv(release.env) {
					if u.GetAck() != nil && u.GetRuntime() != nil {
						acked++
					}
				}
				got := fmt.Sprintf("cluster %s, %d packages, %d deployments, %d units, %d deletions, %d acknowledged, epoch %d",
					snap.Meta().GetClusterId(), len(snap.Packages()), len(snap.Deployments()), len(snap.Units()), len(snap.Deletions()), acked, snap.Meta().GetEpoch())
				if got != release.state || snap.Deployment(release.late) == nil {
					t.Errorf("%s has\n%s, want\n%s and %s", n.name, got, release.state, release.late)
				}
				if err := release.also(snap); err != nil {
					t.Errorf("%s has not kept %v", n.name, err)
				}
			}
			check(first)
			first.expectLevel(fsm.Level)

			// A release's own settings may make new servers wait for long.
			if settings := proto.CloneOf(first.State().Snapshot().Autopilot()); settings != nil {
				settings.ServerStabilization = durationpb.New(testTiming.Stabilization)
				c.configureAutopilot(settings)
			}
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
		})
	}
}
