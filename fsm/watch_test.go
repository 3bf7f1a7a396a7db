package fsm_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// watches are all watches that the rows of filledReplica allow, by name.
func watches(s *fsm.Snapshot) map[string]<-chan struct{} {
	return map[string]<-chan struct{}{
		"all":                  s.WatchAll(),
		"package p":            s.WatchPackage("p"),
		"package q":            s.WatchPackage("q"),
		"packages":             s.WatchPackages(),
		"deployment d":         s.WatchDeployment("d"),
		"deployment x":         s.WatchDeployment("x"),
		"deployments":          s.WatchDeployments(),
		"unit d-e1":            s.WatchUnit("d-e1"),
		"unit x-e2":            s.WatchUnit("x-e2"),
		"units":                s.WatchUnits(),
		"units in e1":          s.WatchUnitsByEnv("e1"),
		"units in e2":          s.WatchUnitsByEnv("e2"),
		"units of d":           s.WatchUnitsByDeployment("u-d"),
		"units of x":           s.WatchUnitsByDeployment("u-x"),
		"cluster e1":           s.WatchCluster("e1"),
		"cluster e2":           s.WatchCluster("e2"),
		"clusters":             s.WatchClusters(),
		"members":              s.WatchMembers(),
		"deletions":            s.WatchDeletions(),
		"deployment to come":   s.WatchDeployment("new"),
		"units in a new place": s.WatchUnitsByEnv("new"),
	}
}

func filledReplica(t *testing.T) *replica {
	r := newReplica(t)
	r.must(&pmpb.Found{ClusterId: "c"})
	r.must(putPackage(t, "p"))
	r.must(putPackage(t, "q"))
	r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1"}})
	r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e2"}})
	r.must(&pmpb.PutMember{Member: &pmpb.Member{ServerId: "s"}})
	r.must(commit(t, "d", "c", "e1"))
	r.must(commit(t, "x", "c", "e2"))
	r.must(commit(t, "old", "c", "e1"))
	r.must(&pmpb.DeleteDeployment{Key: "old"})
	return r
}

func TestWatches(t *testing.T) {
	tests := []struct {
		name string
		op   func(*replica) any
		// wakes are the watches that must close, beside "all". The others must not,
		// apart from those of what is absent, which are watches of its whole table.
		wakes []string
	}{
		{"package", func(*replica) any { return putPackage(t, "p") }, []string{"package p", "packages"}},
		{"cluster", func(*replica) any { return &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e2", Zone: "z"}} }, []string{"cluster e2", "clusters"}},
		{"equal cluster", func(*replica) any { return &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e2"}} }, nil},
		{"member", func(*replica) any { return &pmpb.RemoveMember{ServerId: "s"} }, []string{"members"}},
		{"deployment", func(*replica) any { return commit(t, "d", "c", "e1") }, []string{"deployment d", "deployments"}},
		{"new content", func(*replica) any { return commit(t, "d", "c2", "e1") }, []string{"deployment d", "deployments", "unit d-e1", "units", "units in e1", "units of d"}},
		{"moved", func(*replica) any { return commit(t, "d", "c", "new") }, []string{"deployment d", "deployments", "unit d-e1", "units", "units in e1", "units of d", "units in a new place"}},
		{"created", func(*replica) any { return commit(t, "new", "c") }, []string{"deployments", "deployment to come"}},
		{"update", func(r *replica) any {
			return &pmpb.UpdateUnits{Updates: []*pmpb.UnitUpdate{acked(r.about("x-e2"), "c")}}
		}, []string{"unit x-e2", "units", "units in e2", "units of x"}},
		{"deletion", func(*replica) any { return &pmpb.DeleteDeployment{Key: "x"} }, []string{"deployment x", "deployments", "unit x-e2", "units", "units in e2", "units of x", "deletions"}},
		{"gone", func(r *replica) any {
			return &pmpb.UpdateUnits{Updates: []*pmpb.UnitUpdate{gone(r.about("old-e1"))}}
		}, []string{"units", "units in e1", "deletions"}},
		{"refused", func(*replica) any { return &pmpb.RemoveCluster{Name: "none"} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := filledReplica(t)
			old := r.snap()
			before := watches(old)
			r.try(tt.op(r))
			for name, ch := range before {
				want := name == "all" || slices.Contains(tt.wakes, name)
				mayWake := want || strings.Contains(name, "new") || strings.Contains(name, "to come")
				if got := closed(ch); got != want && (!mayWake || want) {
					t.Errorf("watch of %s is closed: %v, want %v", name, got, want)
				}
				if got := closed(watches(old)[name]); want && !got {
					t.Errorf("watch of %s, made from an outdated view, is open", name)
				}
				if closed(watches(r.snap())[name]) {
					t.Errorf("watch of %s, made from the newest view, is closed", name)
				}
			}
		})
	}
}

func TestRestoreWakesWatchersAndKeepsTheIndex(t *testing.T) {
	r := filledReplica(t)
	old := dump(t, r.snap())
	oldMeta := r.snap().Meta()
	r.must(commit(t, "d", "c2", "e1"))
	r.must(commit(t, "new", "c", "new"))
	newest := r.snap()
	index := newest.Index()
	before := watches(newest)

	if err := r.state.Restore(bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	for name, ch := range before {
		if !closed(ch) {
			t.Errorf("watch of %s is open after a restore", name)
		}
	}
	equal(t, "meta", r.snap().Meta(), oldMeta)
	equal(t, "contents", dump(t, r.snap()), old)
	equal(t, "index", r.snap().Index(), index)
	// Views from before the restore are what they were.
	if newest.Deployment("new") == nil || r.snap().Deployment("new") != nil {
		t.Error("the restore changed a view, or did not change the state")
	}
	// The log goes on behind the restore, and so does the index.
	next := index + 5
	if res := r.state.Apply(next, 9, encode(t, command(t, putPackage(t, "later")))); res.Err != nil {
		t.Fatal(res.Err)
	}
	equal(t, "index", r.snap().Index(), next)
}

func TestRestoreThatFailsChangesNothing(t *testing.T) {
	r := filledReplica(t)
	want := dump(t, r.snap())
	before := watches(r.snap())
	for n := range len(want) {
		if err := r.state.Restore(bytes.NewReader(want[:n])); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a snapshot", n, len(want))
		}
	}
	for name, ch := range before {
		if closed(ch) {
			t.Errorf("watch of %s is closed though nothing changed", name)
		}
	}
	equal(t, "state", dump(t, r.snap()), want)
}
