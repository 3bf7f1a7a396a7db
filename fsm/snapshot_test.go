package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	headerBytes  = 12
	tableCount   = 9
	trailerBytes = 1 + 8*tableCount + sha256.Size
)

// frameOf gives the inside of a snapshot's frame.
func frameOf(t testing.TB, snapshot []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(snapshot[headerBytes:]), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	frame, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// recordsOf takes the inside of a frame apart.
func recordsOf(t testing.TB, frame []byte) []*pmpb.SnapshotRecord {
	t.Helper()
	var out []*pmpb.SnapshotRecord
	for {
		size, n := binary.Uvarint(frame)
		frame = frame[n:]
		if size == 0 {
			return out
		}
		rec := &pmpb.SnapshotRecord{}
		if err := proto.Unmarshal(frame[:size], rec); err != nil {
			t.Fatal(err)
		}
		frame = frame[size:]
		out = append(out, rec)
	}
}

// header is that of format version 1.
func header() []byte { return binary.BigEndian.AppendUint32([]byte("OAASPMFS"), 1) }

// frame makes the inside of a frame, with a trailer that fits the records.
func frame(t testing.TB, records [][]byte) []byte {
	t.Helper()
	var out []byte
	counts := make([]uint64, tableCount)
	for _, data := range records {
		rec := &pmpb.SnapshotRecord{}
		if proto.Unmarshal(data, rec) == nil {
			m := rec.ProtoReflect()
			// Version 1 has no room for the counts of later tables.
			if fd := m.WhichOneof(m.Descriptor().Oneofs().Get(0)); fd != nil && int(fd.Number()) <= len(counts) {
				counts[fd.Number()-1]++
			}
		}
		out = append(binary.AppendUvarint(out, uint64(len(data))), data...)
	}
	out = append(out, 0)
	for _, n := range counts {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	sum := sha256.Sum256(append(header(), out...))
	return append(out, sum[:]...)
}

// pack makes a snapshot of the inside of a frame.
func pack(t testing.TB, inside []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(inside, header())
}

func repack(t testing.TB, records []*pmpb.SnapshotRecord) []byte {
	t.Helper()
	var data [][]byte
	for _, rec := range records {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b)
	}
	return pack(t, frame(t, data))
}

// fullReplica has at least one row of every kind and unit state.
func fullReplica(t testing.TB) *replica {
	r := newReplica(t)
	r.must(&pmpb.Found{ClusterId: "control-plane"})
	r.must(putPackage(t, "base"), remembering("k0", "h0", "created"))
	r.must(putPackage(t, "pkg", "base"), remembering("k1", "h1", "created"))
	for _, name := range []string{"e1", "e2", "e3"} {
		r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{
			Name: name, Address: name + ":8088", Source: pmpb.ClusterSource_CLUSTER_SOURCE_GOSSIP, Zone: "z-" + name,
			Labels: map[string]string{"b": "2", "a": "1"}, Capabilities: []string{"odgm"}, Availability: ptr(0.95),
			Health: pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY,
		}})
	}
	r.must(&pmpb.PutMember{Member: &pmpb.Member{ServerId: "s1", RaftAddress: "pm-0:7401"}})
	r.must(commit(r, "a", "c1", "e1", "e2", "e3"))
	r.update(
		acked(r.about("a-e1"), "c1"), runs(r.about("a-e1"), "c1", oaaspb.DeploymentCondition_RUNNING),
		waiting(r.about("a-e2"), "CLUSTER_UNREACHABLE", false),
	)
	r.must(commit(r, "a", "c2", "e1", "e2")) // e3 becomes a tombstone
	r.must(commit(r, "b", "c", "e1", "e3"))
	r.must(&pmpb.DeleteDeployment{Key: "b"})
	r.update(gone(r.about("b-e1")))
	r.try(&pmpb.DeletePackage{Name: "none"})
	return r
}

func TestSnapshotAndRestore(t *testing.T) {
	r := fullReplica(t)
	data := dump(t, r.snap())
	back, err := fsm.ReadSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", rowsOf(t, back.Snapshot()), rowsOf(t, r.snap()))
	equal(t, "meta", back.Snapshot().Meta(), r.snap().Meta())
	equal(t, "bytes", dump(t, back.Snapshot()), data)
	var all bytes.Buffer
	if err := r.state.WriteSnapshot(&all); err != nil {
		t.Fatal(err)
	}
	equal(t, "bytes of WriteSnapshot", all.Bytes(), data)
}

func TestSnapshotDoesNotChange(t *testing.T) {
	r := fullReplica(t)
	view := r.snap()
	want := dump(t, view)
	r.must(&pmpb.DeleteDeployment{Key: "a"})
	equal(t, "view after a later command", dump(t, view), want)
}

// The log under testdata is what a released build wrote. This build has to make
// the same state of it as that build did, byte for byte, and to read that build's
// snapshot. A format that was released is never rewritten: a new one gets new files.
func TestGoldenFiles(t *testing.T) {
	// The newest format may be written anew until it is released.
	for version, writable := range map[string]func(testing.TB) *replica{"v1": nil, "v2": nil, "v3": nil, "v5": fullReplica5} {
		t.Run(version, func(t *testing.T) {
			logFile, snapshotFile := filepath.Join("testdata", "log-"+version+".golden"), filepath.Join("testdata", "snapshot-"+version+".golden")
			if *update && writable != nil {
				r := writable(t)
				var log []byte
				for _, e := range r.log {
					log = binary.BigEndian.AppendUint64(log, e.Index)
					log = binary.BigEndian.AppendUint64(log, e.Term)
					log = append(binary.AppendUvarint(log, uint64(len(e.Data))), e.Data...)
				}
				write(t, logFile, log)
				write(t, snapshotFile, dump(t, r.snap()))
			}
			golden := read(t, snapshotFile)
			replayed, err := fsm.NewState()
			if err != nil {
				t.Fatal(err)
			}
			replayed.ApplyBatch(entriesOf(read(t, logFile)))
			equal(t, "state of the golden log", frameOf(t, dump(t, replayed.Snapshot())), frameOf(t, golden))

			restored, err := fsm.ReadSnapshot(bytes.NewReader(golden))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "state of the golden snapshot", frameOf(t, dump(t, restored.Snapshot())), frameOf(t, golden))
		})
	}
}

// fullReplica2 has something in every table of format 2, and went through a
// restore and a new epoch.
func fullReplica2(t testing.TB) *replica {
	r := fullReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: 2})
	r.must(&pmpb.PutMember{Member: &pmpb.Member{ServerId: "s2", RaftAddress: "pm-1:7401", Zone: "b", Name: "pm-1", FeatureLevel: 2}})
	r.must(&pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{CleanupDeadServers: true, DesiredVoters: 3, NonVoters: []string{"s2"}}})
	r.must(putPackage(t, "late", "base"), ephemeral("retry 1")...)
	saved := dump(t, r.snap())
	r.must(commit(r, "c", "c", "e1"))
	sum := sha256.Sum256(saved)
	r.must(&pmpb.StageRestore{RestoreId: "r1", Data: saved})
	r.must(&pmpb.CommitRestore{RestoreId: "r1", Pieces: 1, Sha256: sum[:]})
	r.must(&pmpb.RaiseEpoch{RecoveryId: "lost-quorum", Reason: "two of three disks are gone"})
	r.must(&pmpb.StageRestore{RestoreId: "r2", Data: saved[:100]})
	r.must(noSpace("s1", "100 MiB are left"))
	return r
}

// fullReplica3 has something in every table of format 3.
func fullReplica3(t testing.TB) *replica {
	r := fullReplica2(t)
	r.must(&pmpb.UpdateAlarms{Clear: []*pmpb.AlarmKey{noSpaceKey("s1")}})
	r.must(&pmpb.RaiseFeatureLevel{Level: 3})
	r.must(putPackage(t, "noted"), noted("package.create", "noted"))
	r.must(&pmpb.Remark{}, noted("leader.transfer", "pm-1"), func(c *pmpb.Command) { c.Note.Operator, c.Principal = true, "ann" })
	r.must(noSpace("s1", "100 MiB are left"))
	return r
}

// fullReplica5 has something in every table of format 5. Those of format 4 are in it.
func fullReplica5(t testing.TB) *replica {
	r := fullReplica3(t)
	r.must(&pmpb.UpdateAlarms{Clear: []*pmpb.AlarmKey{noSpaceKey("s1")}})
	r.must(&pmpb.RaiseFeatureLevel{Level: 6})
	r.must(revision(t, "d", "c1", "created", "e1", "e2"))
	r.must(revision(t, "d", "c2", "image: 1 → 2", "e1", "e2"))
	r.must(staged(t, "d", "c2", 3, "e1", "e2"), noted("deployment.update", "d"))
	r.must(r.onwards("d", func(n *pmpb.Rollout) {
		n.WaveStarted, n.Deadline = timestamppb.New(epoch), timestamppb.New(epoch.Add(time.Hour))
		n.Envs[0].Revision, n.Envs[0].Updated = 3, timestamppb.New(epoch)
	}, planned1("d", "e1", "c3")))
	r.update(acked(r.about("d-e1"), "c3"), runs(r.about("d-e1"), "c3", oaaspb.DeploymentCondition_RUNNING), waiting(r.about("d-e2"), "TIMEOUT", false))
	return r
}

// repack5 is repack in format 5.
func repack5(t testing.TB, records []*pmpb.SnapshotRecord) []byte {
	t.Helper()
	header := binary.BigEndian.AppendUint32([]byte("OAASPMFS"), 5)
	counts := make([]uint64, 17)
	var inside []byte
	for _, rec := range records {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		m := rec.ProtoReflect()
		counts[m.WhichOneof(m.Descriptor().Oneofs().Get(0)).Number()-1]++
		inside = append(binary.AppendUvarint(inside, uint64(len(b))), b...)
	}
	inside = append(inside, 0)
	for _, n := range counts {
		inside = binary.BigEndian.AppendUint64(inside, n)
	}
	sum := sha256.Sum256(append(bytes.Clone(header), inside...))
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(append(inside, sum[:]...), header)
}

func entriesOf(log []byte) []fsm.Entry {
	var out []fsm.Entry
	for len(log) > 0 {
		e := fsm.Entry{Index: binary.BigEndian.Uint64(log), Term: binary.BigEndian.Uint64(log[8:])}
		size, n := binary.Uvarint(log[16:])
		log = log[16+n:]
		e.Data, log = log[:size], log[size:]
		out = append(out, e)
	}
	return out
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	good := dump(t, fullReplica(t).snap())
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x55
		if _, err := fsm.ReadSnapshot(bytes.NewReader(bad)); !errors.Is(err, fsm.ErrCorruptSnapshot) {
			// Bits of the zstd frame header carry no meaning for the contents; then the
			// contents must be the very same.
			if err != nil || !bytes.Equal(frameOf(t, bad), frameOf(t, good)) {
				t.Fatalf("byte %d of %d was flipped and the error is %v", i, len(good), err)
			}
		}
	}
}

func TestCorruptSnapshots(t *testing.T) {
	r := fullReplica(t)
	records := recordsOf(t, frameOf(t, dump(t, r.snap())))
	find := func(of func(*pmpb.SnapshotRecord) bool) int { return slices.IndexFunc(records, of) }
	var (
		pkg        = find(func(r *pmpb.SnapshotRecord) bool { return r.GetPackage() != nil })
		deployment = find(func(r *pmpb.SnapshotRecord) bool { return r.GetDeployment() != nil })
		plan       = find(func(r *pmpb.SnapshotRecord) bool { return r.GetPlan() != nil })
		live       = find(func(r *pmpb.SnapshotRecord) bool { return r.GetUnit() != nil && !r.GetUnit().GetTombstone() })
		orphan     = find(func(r *pmpb.SnapshotRecord) bool { return r.GetUnit().GetDeploymentUid() == "u-b" })
		cluster    = find(func(r *pmpb.SnapshotRecord) bool { return r.GetCluster() != nil })
		member     = find(func(r *pmpb.SnapshotRecord) bool { return r.GetMember() != nil })
		deletion   = find(func(r *pmpb.SnapshotRecord) bool { return r.GetDeletion() != nil })
		reply      = find(func(r *pmpb.SnapshotRecord) bool { return r.GetReply() != nil })
	)
	edited := func(i int, edit func(*pmpb.SnapshotRecord)) []byte {
		out := slices.Clone(records)
		out[i] = proto.CloneOf(out[i])
		edit(out[i])
		return repack(t, out)
	}
	without := func(i int) []byte { return repack(t, slices.Delete(slices.Clone(records), i, i+1)) }
	twice := func(i int) []byte { return repack(t, slices.Insert(slices.Clone(records), i, records[i])) }
	good := frameOf(t, repack(t, records))
	flipped := func(at int) []byte {
		inside := slices.Clone(good)
		inside[at] ^= 1
		return pack(t, inside)
	}
	future := uint64(1) << 40
	tests := []struct {
		name, where, about string
		data               []byte
	}{
		{"nothing", "header", "cannot be read", nil},
		{"something else", "header", "no snapshot", []byte("PK\x03\x04 and so on, and so on")},
		{"newer format", "header", "version 6", append(binary.BigEndian.AppendUint32([]byte("OAASPMFS"), 6), pack(t, good)[headerBytes:]...)},
		{"header alone", "meta", "no length", header()},
		{"no zstd", "meta", "no length", append(header(), "plain bytes"...)},
		{"no records", "trailer", "no record", repack(t, nil)},
		{"no end", "replies", "no length", pack(t, good[:len(good)-trailerBytes])},
		{"no trailer", "trailer", "cut off", pack(t, good[:len(good)-trailerBytes+1])},
		{"half a digest", "trailer", "cut off", pack(t, good[:len(good)-9])},
		{"wrong digest", "trailer", "SHA-256", flipped(len(good) - 1)},
		{"wrong count", "trailer", "should have", flipped(len(good) - sha256.Size - 1)},
		{"bytes after the trailer", "trailer", "more bytes", pack(t, append(slices.Clone(good), 1))},
		{"bytes after the frame", "trailer", "does not end well", append(pack(t, good), 1, 2, 3)},
		{"second frame", "trailer", "more bytes", append(pack(t, good), pack(t, good)[headerBytes:]...)},
		{"giant record", "meta", "at most", pack(t, binary.AppendUvarint(nil, 1<<40))},
		{"record that is cut off", "meta", "cut off", pack(t, append(binary.AppendUvarint(nil, 1<<20), 1, 2, 3))},
		{"record that is no protobuf", "meta", "cannot be decoded", pack(t, frame(t, [][]byte{{0xff}}))},
		{"record of an unknown kind", "meta", "unknown kind", pack(t, frame(t, [][]byte{{0xa2, 0x06, 0x00}}))},
		{"no meta", "packages", "not the first", without(0)},
		{"meta twice", "meta", "come after", twice(0)},
		{"row twice", "packages", "come after", twice(pkg)},
		{"rows out of order", "packages", "come after", func() []byte {
			out := slices.Clone(records)
			out[pkg], out[pkg+1] = out[pkg+1], out[pkg]
			return repack(t, out)
		}()},
		{"tables out of order", "deployments", "come after", func() []byte {
			out := slices.Clone(records)
			out[plan], out[plan-1] = out[plan-1], out[plan]
			return repack(t, out)
		}()},
		{"package that is no JSON", "packages", "invalid", edited(pkg, func(r *pmpb.SnapshotRecord) { r.GetPackage().Document = []byte("{") })},
		{"package with another name", "packages", "about", edited(pkg, func(r *pmpb.SnapshotRecord) { r.GetPackage().Name = "az" })},
		{"package without a name", "packages", "key", edited(pkg, func(r *pmpb.SnapshotRecord) { r.GetPackage().Name = "" })},
		{"package from the future", "packages", "the state is at", edited(pkg, func(r *pmpb.SnapshotRecord) { r.GetPackage().ModifyIndex = future })},
		{"deployment that is no JSON", "deployments", "invalid", edited(deployment, func(r *pmpb.SnapshotRecord) { r.GetDeployment().Document = nil })},
		{"deployment with another key", "deployments", "about", edited(deployment, func(r *pmpb.SnapshotRecord) { r.GetDeployment().Key = "zz" })},
		{"deployment without uid", "deployments", "uid", edited(deployment, func(r *pmpb.SnapshotRecord) { r.GetDeployment().Uid = "" })},
		{"deployment of a deletion", "deletions", "which exists", edited(deletion, func(r *pmpb.SnapshotRecord) { r.GetDeletion().DeploymentUid = "u-a" })},
		{"no deployment", "plans", "no deployment", without(deployment)},
		{"deployment from the future", "deployments", "the state is at", edited(deployment, func(r *pmpb.SnapshotRecord) { r.GetDeployment().ModifyIndex = future })},
		{"deployment modified before it was created", "deployments", "created at", edited(deployment, func(r *pmpb.SnapshotRecord) { r.GetDeployment().ModifyIndex = 1 })},
		{"plan from the future", "plans", "the state is at", edited(plan, func(r *pmpb.SnapshotRecord) { r.GetPlan().ModifyIndex = future })},
		{"unit without deployment", "units", "no deployment", edited(live, func(r *pmpb.SnapshotRecord) { r.GetUnit().DeploymentUid = "zz" })},
		{"unit without environment", "units", "environment", edited(live, func(r *pmpb.SnapshotRecord) { r.GetUnit().Env = "" })},
		{"content of a unit", "units", "content", edited(live, func(r *pmpb.SnapshotRecord) { r.GetUnit().Desired = []byte{0xff} })},
		{"unit from the future", "units", "the state is at", edited(live, func(r *pmpb.SnapshotRecord) { r.GetUnit().ModifyIndex = future })},
		{"fence from the future", "units", "fence", edited(live, func(r *pmpb.SnapshotRecord) { r.GetUnit().Fence = future })},
		{"epoch from the future", "units", "epoch", edited(live, func(r *pmpb.SnapshotRecord) { r.GetUnit().Epoch = future })},
		{"live unit of a deleted deployment", "units", "no deployment", edited(orphan, func(r *pmpb.SnapshotRecord) { r.GetUnit().Tombstone = false })},
		{"tombstone without deletion", "units", "neither", without(deletion)},
		{"deletion without tombstone", "deletions", "no tombstone", without(orphan)},
		{"deletion from the future", "deletions", "the state is at", edited(deletion, func(r *pmpb.SnapshotRecord) { r.GetDeletion().ModifyIndex = future })},
		{"cluster from the future", "clusters", "the state is at", edited(cluster, func(r *pmpb.SnapshotRecord) { r.GetCluster().ModifyIndex = future })},
		{"member from the future", "members", "the state is at", edited(member, func(r *pmpb.SnapshotRecord) { r.GetMember().ModifyIndex = future })},
		{"reply from the future", "replies", "the state is at", edited(reply, func(r *pmpb.SnapshotRecord) { r.GetReply().CreateIndex = future })},
		{"two replies of one command", "replies", "second reply", edited(reply, func(r *pmpb.SnapshotRecord) { r.GetReply().CreateIndex++ })},
		{"two deployments with one uid", "deployments", "same uid", func() []byte {
			out := slices.Clone(records)
			second := proto.CloneOf(out[deployment])
			second.GetDeployment().Key = "a2"
			second.GetDeployment().Document = bytes.Replace(second.GetDeployment().Document, []byte(`"key":"a"`), []byte(`"key":"a2"`), 1)
			return repack(t, slices.Insert(out, deployment+1, second))
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := fsm.ReadSnapshot(bytes.NewReader(tt.data))
			var corrupt *fsm.CorruptSnapshotError
			if !errors.As(err, &corrupt) || !errors.Is(err, fsm.ErrCorruptSnapshot) {
				t.Fatalf("error is %v, want a CorruptSnapshotError", err)
			}
			if corrupt.Where != tt.where || !strings.Contains(err.Error(), tt.about) {
				t.Fatalf("error %q is about %s, want %q about %s", err, corrupt.Where, tt.about, tt.where)
			}
		})
	}
	if _, err := fsm.ReadSnapshot(bytes.NewReader(pack(t, good))); err != nil {
		t.Fatalf("the snapshot that the others are made of is refused: %v", err)
	}
}

func TestErrorsOfReaderAndWriterAreKept(t *testing.T) {
	r := fullReplica(t)
	cause := errors.New("disk full")
	data := dump(t, r.snap())
	for _, n := range []int{0, 5, headerBytes, len(data) / 2} {
		if err := r.snap().Write(&shortWriter{left: n, err: cause}); !errors.Is(err, cause) {
			t.Errorf("write that fails after %d bytes gives %v", n, err)
		}
		if _, err := fsm.ReadSnapshot(io.MultiReader(bytes.NewReader(data[:n]), &failingReader{cause})); !errors.Is(err, cause) {
			t.Errorf("read that fails after %d bytes gives %v", n, err)
		}
	}
}

type shortWriter struct {
	left int
	err  error
}

func (w *shortWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return w.left, w.err
	}
	w.left -= len(p)
	return len(p), nil
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }
