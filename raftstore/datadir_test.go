package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// openID opens a data directory as Open does and gives the id that it has.
func openID(t *testing.T, path string, use func(logStore)) (string, error) {
	t.Helper()
	d, err := openDataDir(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = d.close() }()
	store, err := openBolt(d.logPath())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	id, err := d.identify(store, hclog.NewNullLogger())
	if err == nil && use != nil {
		use(store)
	}
	return id, err
}

func appendOne(s logStore) { _ = s.StoreLog(&raft.Log{Index: 1, Term: 1}) }

func TestServerIDLivesWithTheLog(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string // same, new or refused
	}{
		"restart":         {func(*testing.T, string) {}, "same"},
		"id file is lost": {remove(serverIDFile), "same"},
		"log is lost":     {remove(filepath.Join(raftDir, logFile)), "new"},
		"all is lost":     {remove("."), "new"},
		"id of another":   {write(serverIDFile, newUUID()+"\n"), "refused"},
		"id is garbage":   {write(serverIDFile, "x"), "refused"},
		"cluster garbage": {write(clusterIDFile, "x"), "refused"},
		"snapshots without log": {func(t *testing.T, dir string) {
			remove(filepath.Join(raftDir, logFile))(t, dir)
			if err := os.MkdirAll(filepath.Join(dir, raftDir, "snapshots", "1-1-1"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "refused"},
		"log of another program": {func(t *testing.T, dir string) {
			remove(filepath.Join(raftDir, logFile))(t, dir)
			s, err := openBolt(filepath.Join(dir, raftDir, logFile))
			if err != nil {
				t.Fatal(err)
			}
			appendOne(s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			first, err := openID(t, dir, appendOne)
			if err != nil {
				t.Fatal(err)
			}
			tc.damage(t, dir)
			second, err := openID(t, dir, nil)
			got := "new"
			switch {
			case err != nil:
				got = "refused"
			case first == second:
				got = "same"
			}
			if got != tc.want {
				t.Errorf("the server is %s (%v), want %s", got, err, tc.want)
			}
			if err == nil {
				if third, err := openID(t, dir, nil); err != nil || third != second {
					t.Errorf("then %s, %v; want %s", third, err, second)
				}
			}
		})
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil && name != "." {
			t.Fatal(err)
		}
		if name == "." {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func write(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	valid := func() Options {
		return Options{
			DataDir: t.TempDir(), RaftListen: "127.0.0.1:0", GRPCAddress: "127.0.0.1:7402", Timing: testTiming,
			Registerer: prometheus.NewRegistry(),
		}
	}
	for name, change := range map[string]func(*Options){
		"no directory":         func(o *Options) { o.DataDir = "" },
		"directory is a file":  func(o *Options) { o.DataDir = file },
		"below a file":         func(o *Options) { o.DataDir = filepath.Join(file, "data") },
		"no address":           func(o *Options) { o.RaftListen = "" },
		"nowhere to listen":    func(o *Options) { o.RaftListen = "192.0.2.1:7401" },
		"wildcard, untold":     func(o *Options) { o.RaftListen = "0.0.0.0:0" },
		"advertised wildcard":  func(o *Options) { o.RaftAddress = "0.0.0.0:7401" },
		"advertised nonsense":  func(o *Options) { o.RaftAddress = "pm-0" },
		"peer without port":    func(o *Options) { o.Peers = []string{"pm-0"} },
		"peer twice":           func(o *Options) { o.Peers = []string{"a:1", "b:1", "a:1"} },
		"no own address":       func(o *Options) { o.Peers, o.GRPCAddress = []string{"a:1"}, "" },
		"profile":              func(o *Options) { o.Profile = "hasty" },
		"heartbeat":            func(o *Options) { o.Timing.Heartbeat = 1 },
		"election < heartbeat": func(o *Options) { o.Timing.Election = o.Timing.Heartbeat / 2 },
		"memory with peers":    func(o *Options) { o.InMemory, o.Peers = true, []string{"a:1", "b:1"} },
		"one registry, twice": func(o *Options) {
			if _, err := newMetrics(o.Registerer); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid()
			change(&o)
			if n, err := Open(t.Context(), o); err == nil {
				_ = n.Shutdown(t.Context())
				t.Error("opened")
			} else if len(err.Error()) < 20 {
				t.Errorf("error %q does not help", err)
			}
		})
	}
}

func TestDataDirIsExclusive(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	o := c.nodes[0].options()
	o.RaftListen = "127.0.0.1:0"
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrLocked) {
		t.Errorf("second process = %v, want ErrLocked", err)
	}
	c.write("k", "v")
}

// A directory whose log turns out to be that of another cluster ends the node.
func TestClusterOfTheDirectory(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.nodes[0]
	file := filepath.Join(n.dir, clusterIDFile)
	eventually(t, "the cluster is noted", func() error {
		raw, err := os.ReadFile(file)
		if err == nil && string(raw) != n.ClusterID()+"\n" {
			t.Fatalf("noted %q, is %q", raw, n.ClusterID())
		}
		return err
	})
	n.kill()
	write(clusterIDFile, newUUID())(t, n.dir)
	n.start()
	select {
	case err := <-n.Fatal():
		if !errors.Is(err, ErrClusterMismatch) {
			t.Errorf("fatal = %v", err)
		}
	case <-within(t, patience).Done():
		t.Error("the node goes on in another cluster")
	}
}
