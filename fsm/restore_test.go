package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// stages gives the commands that stage data in pieces of a size, and the one
// that restores it.
func stages(id string, data []byte, size int) (stage []any, commit *pmpb.CommitRestore) {
	sum := sha256.Sum256(data)
	for piece := range slices.Chunk(data, size) {
		stage = append(stage, &pmpb.StageRestore{RestoreId: id, Sequence: uint32(len(stage)), Data: piece})
	}
	return stage, &pmpb.CommitRestore{RestoreId: id, Pieces: uint32(len(stage)), Sha256: sum[:]}
}

func (r *replica) restore(data []byte, edit ...func(*pmpb.Command)) *fsm.Restored {
	r.Helper()
	stage, commit := stages("restore", data, 100)
	for _, op := range stage {
		r.must(op)
	}
	res := r.try(commit, edit...)
	if res.Err != nil {
		r.Fatal(res.Err)
	}
	return res.Restored
}

func TestRestoreBringsTheSnapshotBackUnderANewEpoch(t *testing.T) {
	r := atLevel2(t)
	r.must(&pmpb.Found{ClusterId: "control-plane"})
	r.must(&pmpb.PutMember{Member: &pmpb.Member{ServerId: "old", RaftAddress: "a:1"}})
	for _, env := range envNames {
		r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: env}})
	}
	r.must(putPackage(t, "pkg"), remembering("k0", "h0", "kept"))
	r.must(commit(t, "a", "c1", "e1", "e2"))
	r.must(commit(t, "gone-later", "c1", "e1"))
	r.update(acked(r.about("a-e1"), "c1"))
	saved := dump(t, r.snap())

	r.must(putPackage(t, "later"), remembering("k1", "h1", "lost"))
	r.must(commit(t, "a", "c2", "e1"))   // other content, out of e2
	r.must(commit(t, "new", "c1", "e3")) // not in the snapshot
	r.must(&pmpb.DeleteDeployment{Key: "gone-later"})
	r.update(gone(r.about("gone-later-e1")))
	r.update(acked(r.about("a-e1"), "c2"))
	r.must(&pmpb.PutMember{Member: &pmpb.Member{ServerId: "young", RaftAddress: "a:2"}})
	r.must(&pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{DesiredVoters: 5}})
	before := r.snap()

	done := r.restore(saved)
	s := r.snap()
	equal(t, "done", *done, fsm.Restored{Index: s.Index(), Epoch: 2, Packages: 1, Deployments: 2, Units: 3, Removed: 1})
	equal(t, "epoch", s.Meta().GetEpoch(), uint64(2))
	if s.Package("later") != nil || s.Package("pkg") == nil || s.Deployment("new") != nil || s.Deployment("gone-later") == nil {
		t.Fatal("the documents are not those of the snapshot")
	}
	equal(t, "content", s.Unit("a-e1").GetContentHash(), hashOf("c1"))
	for _, u := range s.Units() {
		if u.GetEpoch() != 2 || u.GetFence() != s.Index() || u.GetModifyIndex() != s.Index() || fsm.Acknowledged(u) {
			t.Errorf("unit %v is not sent again", u)
		}
	}
	if u := s.Unit("new-e3"); !u.GetTombstone() || s.Deletion("u-new").GetDeploymentKey() != "new" {
		t.Errorf("what the snapshot does not know is not withdrawn: %v, %v", u, s.Deletion("u-new"))
	}
	if u := s.Unit("gone-later-e1"); u.GetTombstone() || u.GetAck() != nil {
		t.Errorf("what was deleted since is not wished again: %v", u)
	}
	equal(t, "what the cluster has", s.Unit("a-e1").GetAck().GetContentHash(), hashOf("c2"))
	if now, was := s.Deployment("a").Generation, before.Deployment("a").Generation; now <= was {
		t.Errorf("generation went from %d to %d", was, now)
	}
	if s.Reply("k0") == nil || s.Reply("k1") != nil {
		t.Error("the replies are not those of the snapshot")
	}
	equal(t, "members", len(s.Members()), 2)
	equal(t, "autopilot", s.Autopilot().GetDesiredVoters(), uint32(5))
	if id, n := s.StagedRestore(); n != 0 {
		t.Errorf("%d pieces of %q are left", n, id)
	}
	r.must(&pmpb.Found{ClusterId: "x"}, remembering("k2", "h2", "")) // the sums of replies are right
	r.reload()
}

// A cluster that only the state of now knows is kept while it has something to
// take down; otherwise nobody could tell it.
func TestRestoreKeepsClustersThatHaveTombstones(t *testing.T) {
	r := atLevel2(t)
	saved := dump(t, r.snap())
	for _, env := range []string{"e1", "empty"} {
		r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: env}})
	}
	r.must(commit(t, "a", "c1", "e1"))
	r.restore(saved)
	if r.snap().Cluster("e1") == nil || r.snap().Cluster("empty") != nil {
		t.Fatalf("clusters after the restore: %v", r.snap().Clusters())
	}
	r.update(gone(r.about("a-e1")))
	if len(r.snap().Deletions()) != 0 {
		t.Fatal("the deletion is not finished")
	}
}

// Operators' wishes come back, what was seen of outages stays.
func TestRestoreKeepsWhatWasSeenOfOutages(t *testing.T) {
	r := atLevel2(t)
	r.must(&pmpb.Found{ClusterId: "control-plane"})
	r.must(&pmpb.RaiseFeatureLevel{Level: fsm.PlannerFrom})
	row := func(reason string, outages int) *pmpb.PutCluster {
		at := timestamppb.New(timeOf(1))
		out := &pmpb.Cluster{Name: "e1", Policy: &pmpb.ClusterPolicy{Cordoned: true, CordonReason: reason}, ObservedSince: at}
		for range outages {
			out.Outages = append(out.Outages, &pmpb.Outage{Start: at, End: at})
		}
		return &pmpb.PutCluster{Cluster: out}
	}
	r.must(row("saved", 1))
	r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "gone", Outages: row("", 2).GetCluster().GetOutages()}})
	saved := dump(t, r.snap())
	r.must(row("later", 3))
	r.must(&pmpb.RemoveCluster{Name: "gone"})
	r.restore(saved)
	if c := r.snap().Cluster("e1"); c.GetPolicy().GetCordonReason() != "saved" || len(c.GetOutages()) != 3 || c.GetObservedSince() == nil {
		t.Errorf("%v", c)
	}
	if c := r.snap().Cluster("gone"); len(c.GetOutages()) != 2 {
		t.Errorf("nothing else is known of it: %v", c)
	}
}

func TestRestoreIsRefused(t *testing.T) {
	r := atLevel2(t)
	r.must(&pmpb.Found{ClusterId: "this"})
	own := dump(t, r.snap())
	other := atLevel2(t)
	other.must(&pmpb.Found{ClusterId: "other"})
	broken := bytes.Clone(own)
	broken[len(broken)-3] ^= 1
	for name, c := range map[string]struct {
		data []byte
		edit func(*pmpb.CommitRestore)
		want string
	}{
		"another cluster":  {data: dump(t, other.snap()), want: "cluster"},
		"no cluster":       {data: dump(t, newReplica(t).snap()), want: "cluster"},
		"a damaged file":   {data: broken, want: "corrupt"},
		"half a file":      {data: own[:len(own)/2], want: "corrupt"},
		"another digest":   {data: own, edit: func(c *pmpb.CommitRestore) { c.Sha256[0] ^= 1 }, want: "SHA-256"},
		"a missing piece":  {data: own, edit: func(c *pmpb.CommitRestore) { c.Pieces++ }, want: "pieces"},
		"another restore":  {data: own, edit: func(c *pmpb.CommitRestore) { c.RestoreId = "x" }, want: "pieces"},
		"nothing is there": {want: "pieces"},
	} {
		t.Run(name, func(t *testing.T) {
			stage, commit := stages("id", c.data, 64)
			r.must(&pmpb.AbortRestore{})
			for _, op := range stage {
				r.must(op)
			}
			if c.edit != nil {
				c.edit(commit)
			}
			if err := r.refused(commit); !strings.Contains(err.Error(), c.want) {
				t.Fatalf("refused with %v, want something about %q", err, c.want)
			}
			equal(t, "epoch", r.snap().Meta().GetEpoch(), uint64(1))
		})
	}
	stage, commit := stages("id", own, 64)
	for _, op := range stage {
		r.must(op)
	}
	_ = r.refused(commit, remembering("k0", "h", ""))
	level1 := newReplica(t)
	level1.must(&pmpb.RaiseFeatureLevel{Level: 1})
	if res := level1.try(commit); !errors.Is(res.Err, fsm.ErrFeatureLevel) {
		t.Fatalf("at level 1: %v", res.Err)
	}
}

func TestPiecesComeInOrder(t *testing.T) {
	r := atLevel2(t)
	piece := func(id string, n uint32) *pmpb.StageRestore {
		return &pmpb.StageRestore{RestoreId: id, Sequence: n, Data: []byte{1}}
	}
	_ = r.refused(piece("a", 1))
	r.must(piece("a", 0))
	_ = r.refused(piece("a", 2))
	_ = r.refused(piece("b", 1))
	_ = r.refused(&pmpb.StageRestore{RestoreId: "a", Sequence: 1})
	_ = r.refused(&pmpb.StageRestore{RestoreId: "a", Sequence: 1, Data: make([]byte, fsm.MaxPieceBytes+1)})
	_ = r.refused(&pmpb.StageRestore{RestoreId: strings.Repeat("x", 200), Data: []byte{1}})
	r.must(piece("a", 1))
	r.must(&pmpb.AbortRestore{RestoreId: "b"})
	if id, n := r.snap().StagedRestore(); id != "a" || n != 2 {
		t.Fatalf("staged are %d of %q", n, id)
	}
	r.reload()
	r.must(piece("b", 0))
	if id, n := r.snap().StagedRestore(); id != "b" || n != 1 {
		t.Fatalf("staged are %d of %q", n, id)
	}
	r.must(&pmpb.AbortRestore{RestoreId: "b"})
	if _, n := r.snap().StagedRestore(); n != 0 {
		t.Fatal("aborted, and still there")
	}
}

func TestRaiseEpochOnce(t *testing.T) {
	r := atLevel2(t)
	r.must(commit(t, "a", "c1", "e1", "e2"))
	r.update(acked(r.about("a-e1"), "c1"))
	_ = r.refused(&pmpb.RaiseEpoch{})
	at := r.must(&pmpb.RaiseEpoch{RecoveryId: "one", Reason: "lost"})
	r.must(&pmpb.RaiseEpoch{RecoveryId: "one"})
	for _, u := range r.snap().Units() {
		if u.GetEpoch() != 2 || u.GetFence() != at || fsm.Acknowledged(u) {
			t.Errorf("unit %v", u)
		}
	}
	r.must(&pmpb.RaiseEpoch{RecoveryId: "two"})
	equal(t, "epoch", r.snap().Meta().GetEpoch(), uint64(3))
	r.reload()
	equal(t, "recovery", r.snap().Meta().GetRecoveryId(), "two")
}

func TestInspectAndDiff(t *testing.T) {
	r := fullReplica(t)
	before := dump(t, r.snap())
	for _, read := range []func([]byte) (*fsm.SnapshotInfo, error){
		func(b []byte) (*fsm.SnapshotInfo, error) { return fsm.InspectSnapshot(bytes.NewReader(b)) },
		func(b []byte) (*fsm.SnapshotInfo, error) { return fsm.VerifySnapshot(bytes.NewReader(b)) },
	} {
		info, err := read(before)
		if err != nil {
			t.Fatal(err)
		}
		if info.ClusterID != "control-plane" || info.Index != r.snap().Index() || info.Size != int64(len(before)) ||
			info.Tables[fsm.TableUnits].Rows != uint64(len(r.snap().Units())) {
			t.Fatalf("%+v", info)
		}
		var saved bytes.Buffer
		written, err := r.snap().Save(&saved)
		if err != nil || written.SHA256 != info.SHA256 || written.Size != info.Size || written.ChainHash != info.ChainHash {
			t.Fatalf("saved %+v (%v), read %+v", written, err, info)
		}
		for i := range before { // every prefix and every flipped bit
			if _, err := read(before[:i]); !errors.Is(err, fsm.ErrCorruptSnapshot) {
				t.Fatalf("cut off after %d bytes gives %v", i, err)
			}
		}
		if _, err := read(append(bytes.Clone(before), 0)); !errors.Is(err, fsm.ErrCorruptSnapshot) {
			t.Fatalf("a byte too many gives %v", err)
		}
	}
	r.must(putPackage(t, "another"))
	r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1", Zone: "moved"}})
	diff, err := fsm.DiffSnapshots(bytes.NewReader(before), bytes.NewReader(dump(t, r.snap())))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "packages", diff.Tables[fsm.TablePackages], fsm.TableDiff{Added: 1})
	found := slices.ContainsFunc(diff.Changes, func(c fsm.RowChange) bool {
		return c.Table == fsm.TableClusters && c.Key == "e1" &&
			slices.ContainsFunc(c.Fields, func(f fsm.FieldChange) bool { return f.Path == "zone" && f.To == "moved" })
	})
	if !found {
		t.Fatalf("the cluster's change is not told: %+v", diff.Changes)
	}
	if _, err := json.Marshal(diff); err != nil {
		t.Fatal(err)
	}
	if _, err := fsm.DiffSnapshots(bytes.NewReader(before), bytes.NewReader(before[:len(before)-1])); !errors.Is(err, fsm.ErrCorruptSnapshot) {
		t.Fatalf("comparing with half a snapshot gives %v", err)
	}
}

func TestExportGivesLinesOfJSON(t *testing.T) {
	r := fullReplica(t)
	var out bytes.Buffer
	if _, err := fsm.ExportSnapshot(bytes.NewReader(dump(t, r.snap())), &out, fsm.ExportFilter{Tables: []string{fsm.TablePackages}, KeyPrefix: "ba"}); err != nil {
		t.Fatal(err)
	}
	var line struct {
		Table, Key string
		Row        struct{ Document struct{ Name string } }
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	if line.Table != fsm.TablePackages || line.Key != "base" || line.Row.Document.Name != "base" {
		t.Fatalf("exported %s", out.Bytes())
	}
	out.Reset()
	if _, err := fsm.ExportSnapshot(bytes.NewReader(dump(t, r.snap())), &out, fsm.ExportFilter{Tables: []string{fsm.TableUnits}}); err != nil {
		t.Fatal(err)
	}
	var unit struct {
		Row struct {
			Desired struct {
				PackageName string `json:"package_name"`
			}
		}
	}
	if err := json.NewDecoder(&out).Decode(&unit); err != nil || unit.Row.Desired.PackageName != "pkg" {
		t.Fatalf("the content of a unit is exported as %+v (%v)", unit, err)
	}
	if _, err := fsm.ExportSnapshot(bytes.NewReader(nil), &out, fsm.ExportFilter{Tables: []string{"x"}}); err == nil {
		t.Fatal("an unknown table is accepted")
	}
}

// restoreStep restores a snapshot of any earlier point of the history, or does
// some of what belongs to that, in any order.
func (d *driver) restoreStep() {
	if len(d.saved) == 0 || rapid.IntRange(0, 3).Draw(d.t, "orderly") == 0 {
		d.try(pick(d, "restore op", []any{
			&pmpb.StageRestore{RestoreId: pick(d, "restore", contents), Sequence: uint32(rapid.IntRange(0, 2).Draw(d.t, "piece")), Data: []byte("x")},
			&pmpb.AbortRestore{RestoreId: pick(d, "aborted", []string{"", "c1", "c2"})},
			&pmpb.CommitRestore{RestoreId: "c1", Pieces: 1},
			&pmpb.RaiseEpoch{RecoveryId: pick(d, "recovery", contents)},
		}), d.envelope)
		return
	}
	before, data := d.snap(), pick(d, "snapshot", d.saved)
	stage, commit := stages("r", data, rapid.IntRange(50, 2000).Draw(d.t, "piece size"))
	for _, op := range stage {
		d.try(op)
	}
	res := d.try(commit)
	if res.Err != nil {
		d.checkUnchanged(before)
		return
	}
	old, err := fsm.ReadSnapshot(bytes.NewReader(data))
	if err != nil {
		d.t.Fatal(err)
	}
	d.checkRestored(before, old.Snapshot(), res)
}

func (d *driver) checkUnchanged(before *fsm.Snapshot) {
	if a, b := rowsOf(d.replica, before), rowsOf(d.replica, d.snap()); !slices.Equal(a, b) {
		d.t.Fatalf("a refused restore changed the rows:\n%q\n%q", a, b)
	}
}

func (d *driver) checkRestored(before, saved *fsm.Snapshot, res fsm.Result) {
	s := d.snap()
	if s.Meta().GetEpoch() <= max(before.Meta().GetEpoch(), saved.Meta().GetEpoch()) || s.Index() != res.Index {
		d.t.Fatalf("epoch %d, index %d after the restore", s.Meta().GetEpoch(), s.Index())
	}
	for _, dep := range saved.Deployments() {
		now := s.Deployment(dep.Doc.Key)
		if now == nil || now.UID != dep.UID || jsonOf(d.replica, now.Doc) != jsonOf(d.replica, dep.Doc) || now.ModifyIndex != res.Index {
			d.t.Fatalf("deployment %+v came back as %+v", dep, now)
		}
	}
	for _, p := range saved.Packages() {
		if now := s.Package(p.Doc.Name); now == nil || jsonOf(d.replica, now.Doc) != jsonOf(d.replica, p.Doc) {
			d.t.Fatalf("package %s came back as %+v", p.Doc.Name, now)
		}
	}
	if len(s.Deployments()) != len(saved.Deployments()) || len(s.Packages()) != len(saved.Packages()) {
		d.t.Fatal("there is more than was saved")
	}
	for _, u := range saved.Units() {
		now := s.Unit(u.GetId())
		if now.GetContentHash() != u.GetContentHash() || now.GetTombstone() != u.GetTombstone() || !bytes.Equal(now.GetDesired(), u.GetDesired()) {
			d.t.Fatalf("unit %v came back as %v", u, now)
		}
	}
	for _, u := range before.Units() {
		if now := s.Unit(u.GetId()); now == nil || (saved.Unit(u.GetId()) == nil && !now.GetTombstone()) {
			d.t.Fatalf("unit %v, which was not saved, is now %v", u, now)
		}
		if s.Cluster(u.GetEnv()) == nil && before.Cluster(u.GetEnv()) != nil {
			d.t.Fatalf("unit %v has lost its cluster", u)
		}
	}
	for _, u := range s.Units() {
		if u.GetFence() != res.Index || u.GetEpoch() != s.Meta().GetEpoch() {
			d.t.Fatalf("unit %v kept its fence", u)
		}
	}
}

// FuzzRestore stages any bytes in any pieces and commits them.
func FuzzRestore(f *testing.F) {
	f.Add(dump(f, fullReplica(f).snap()), uint16(100), uint8(0))
	f.Add([]byte("x"), uint16(1), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, size uint16, wrong uint8) {
		r := fullReplica(t)
		if r.snap().FeatureLevel() < 2 {
			r.must(&pmpb.RaiseFeatureLevel{Level: 2})
		}
		if len(data) == 0 || len(data) > 1<<16 {
			return
		}
		stage, commit := stages("id", data, max(int(size), 64))
		for i, op := range stage {
			if wrong > 0 && i == int(wrong) {
				r.try(stage[0])
			}
			r.try(op)
		}
		r.try(commit)
		written := dump(t, r.snap())
		back, err := fsm.ReadSnapshot(bytes.NewReader(written))
		if err != nil {
			t.Fatalf("the state after the restore cannot be read back: %v", err)
		}
		if !bytes.Equal(dump(t, back.Snapshot()), written) {
			t.Fatal("the state after the restore is read back as another one")
		}
	})
}
