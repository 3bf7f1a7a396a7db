package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
)

// Limits of a restore. They are part of the replicated semantics.
const (
	// MaxPieceBytes is how many bytes one staged piece may have.
	MaxPieceBytes = 256 << 10
	// MaxPieces is how many pieces a restore may have.
	MaxPieces = 2048
	// maxRestoredBytes bounds a restored snapshot when it is unpacked.
	maxRestoredBytes = 4 << 30
	// maxRestoreID bounds a restore's id, which is a part of its pieces' keys.
	maxRestoreID = 128
	// maxReason bounds the reason of a new epoch.
	maxReason = 1024
)

// Restored says what a CommitRestore has done.
type Restored struct {
	// Index is the command's, Epoch the new one.
	Index, Epoch uint64
	// These are in the state now. Units do not count tombstones.
	Packages, Deployments, Units int
	// Removed are units that lived before and are tombstones now.
	Removed int
}

// stageRestore keeps one piece of a snapshot file. It takes the next piece only,
// so that what is staged has no gap at any time.
func stageRestore(c *call, op *pmpb.StageRestore) error {
	id := op.GetRestoreId()
	if err := checkKey("restore id", id); err != nil {
		return err
	}
	switch n := len(op.GetData()); {
	case len(id) > maxRestoreID:
		return invalidf("restore id has %d bytes, at most %d are allowed", len(id), maxRestoreID)
	case n == 0 || n > MaxPieceBytes:
		return invalidf("a piece has %d bytes, 1 to %d are allowed", n, MaxPieceBytes)
	case op.GetSequence() >= MaxPieces:
		return invalidf("piece %d, a restore has at most %d", op.GetSequence(), MaxPieces)
	}
	have, pieces := c.view.StagedRestore()
	if op.GetSequence() == 0 {
		c.dropStaged()
	} else if have != id || uint32(pieces) != op.GetSequence() {
		return invalidf("piece %d of restore %q does not follow %d pieces of %q", op.GetSequence(), id, pieces, have)
	}
	c.put(atStaged, &pmpb.StagedPiece{RestoreId: id, Sequence: op.GetSequence(), Data: op.GetData(), Time: c.now()})
	return nil
}

// abortRestore has no effect when something else is staged: it may come late.
func abortRestore(c *call, op *pmpb.AbortRestore) error {
	if have, _ := c.view.StagedRestore(); op.GetRestoreId() == "" || op.GetRestoreId() == have {
		c.dropStaged()
	}
	return nil
}

func (c *call) dropStaged() {
	for p := range c.view.store.staged().each() {
		c.drop(atStaged, p)
	}
}

// StagedRestore gives the restore of which pieces are staged, and their number.
func (s *Snapshot) StagedRestore() (id string, pieces int) {
	last := s.store.staged().last()
	if last == nil {
		return "", 0
	}
	return last.GetRestoreId(), int(last.GetSequence()) + 1
}

// commitRestore replaces the contents by those of the staged snapshot. It must
// not carry an idempotency key: the replies are among what is replaced.
func commitRestore(c *call, cmd *pmpb.Command) error {
	if cmd.GetIdempotency() != nil {
		return invalidf("a restore is identified by its id, not by an idempotency key")
	}
	saved, err := c.stagedContents(cmd.GetCommitRestore())
	if err != nil {
		return err
	}
	r := &restoration{call: c, saved: saved, epoch: max(saved.meta.pb.GetEpoch(), c.meta.pb.GetEpoch()) + 1}
	r.run()
	c.unpacked = saved.bytes
	return nil
}

// stagedContents reads and checks what was staged.
func (c *call) stagedContents(op *pmpb.CommitRestore) (*contents, error) {
	id, pieces := c.view.StagedRestore()
	if pieces == 0 || id != op.GetRestoreId() || uint32(pieces) != op.GetPieces() {
		return nil, invalidf("restore %q has %d pieces, staged are %d of %q", op.GetRestoreId(), op.GetPieces(), pieces, id)
	}
	var data [][]byte
	digest := sha256.New()
	for p := range c.view.store.staged().each() {
		digest.Write(p.GetData())
		data = append(data, p.GetData())
	}
	if !bytes.Equal(digest.Sum(nil), op.GetSha256()) {
		return nil, invalidf("what is staged has the SHA-256 %x, not %x", digest.Sum(nil), op.GetSha256())
	}
	saved, err := readContents(&chunkReader{chunks: data}, maxRestoredBytes)
	if err != nil {
		return nil, &InvalidCommandError{Reason: err.Error(), cause: err}
	}
	return saved, checkRestorable(saved.meta.pb, c.meta.pb)
}

// checkRestorable refuses snapshots of other clusters and those whose contents
// servers of this one may not understand.
func checkRestorable(saved, have *pmpb.Meta) error {
	if want := have.GetClusterId(); want != "" && saved.GetClusterId() != want {
		return invalidf("the snapshot is that of cluster %q, this is %q", saved.GetClusterId(), want)
	}
	if level := max(saved.GetFeatureLevel(), 1); level > max(have.GetFeatureLevel(), 1) {
		return invalidf("the snapshot is of feature level %d, the cluster is at %d", level, max(have.GetFeatureLevel(), 1))
	}
	return nil
}

// CheckRestorable reads a snapshot from start to end and says whether a restore
// of it would be taken by the state that s shows.
func (s *Snapshot) CheckRestorable(r io.Reader) (*SnapshotInfo, error) {
	info, saved, err := verify(r, maxRestoredBytes)
	if err != nil {
		return nil, err
	}
	return info, checkRestorable(saved.meta.pb, s.Meta())
}

// chunkReader reads pieces one after the other.
type chunkReader struct{ chunks [][]byte }

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.chunks) > 0 && len(r.chunks[0]) == 0 {
		r.chunks = r.chunks[1:]
	}
	if len(r.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.chunks[0])
	r.chunks[0] = r.chunks[0][n:]
	return n, nil
}

// restoration makes the state after a restore from that before, in call.view,
// and the saved one. Rows of both belong to others and are not written to.
//
// The saved state is a wish, but the clusters are where they are: what they
// confirmed and reported since stays on record, and what they were told to run
// since then and is not in the saved state has to be withdrawn.
type restoration struct {
	*call
	saved *contents
	epoch uint64
	// generations of the saved deployments, by uid. They do not go back either.
	generations map[string]uint64
	units       map[string]*pmpb.Unit
	done        Restored
}

func (r *restoration) run() {
	r.done = Restored{Index: r.index, Epoch: r.epoch}
	r.settleGenerations()
	r.settleUnits()
	deletions := r.settleDeletions()
	clusters := r.settleClusters()
	// Past plans are about a log that is no longer the history of this state. The timeline
	// has happened and stays.
	r.clear(atPackages, atDeployments, atPlans, atUnits, atClusters, atDeletions, atReplies, atStaged, atPastPlans, atRevisions, atRollouts)
	r.meta.past, r.meta.revisions = 0, 0
	r.putDocuments()
	r.putRollouts()
	for _, id := range sortedKeys(r.units) {
		r.dateCondition(r.view.Unit(id), r.units[id])
		r.put(atUnits, r.units[id])
	}
	for _, row := range clusters {
		r.put(atClusters, row)
	}
	for _, row := range deletions {
		r.put(atDeletions, row)
	}
	r.putReplies()
	r.meta.pb.Epoch = r.epoch
	if r.meta.pb.GetClusterId() == "" {
		r.meta.pb.ClusterId = r.saved.meta.pb.GetClusterId()
	}
	r.restored = &r.done
}

// clear drops all rows before any is put: a secondary key may move from one row
// to another.
func (r *restoration) clear(tables ...int) {
	for _, t := range tables {
		for row := range r.view.store.tables[t].rows() {
			r.drop(t, row)
		}
	}
}

// born gives the create index of a restored row. A saved state of a lost log may
// be ahead of this one.
func (r *restoration) born(index uint64) uint64 { return min(index, r.index) }

// settleGenerations finds for each saved deployment a generation that is above
// all that were given out since, if there were any.
func (r *restoration) settleGenerations() {
	r.generations = map[string]uint64{}
	for d := range rowsOf[*Deployment](r.saved, atDeployments) {
		var since uint64
		if now := r.view.DeploymentByUID(d.UID); now != nil {
			since = now.Generation
		}
		for _, u := range r.view.UnitsByDeployment(d.UID) {
			since = max(since, u.GetGeneration())
		}
		r.generations[d.UID] = d.Generation
		if since > d.Generation {
			r.generations[d.UID] = since + 1
		}
	}
}

func (r *restoration) settleUnits() {
	r.units = map[string]*pmpb.Unit{}
	for u := range rowsOf[*pmpb.Unit](r.saved, atUnits) {
		r.units[u.GetId()] = r.wished(u)
		if !u.GetTombstone() {
			r.done.Units++
		}
	}
	for now := range r.view.store.units().each() {
		next, saved := r.units[now.GetId()]
		if !now.GetTombstone() && (!saved || next.GetTombstone()) {
			r.done.Removed++
		}
		if saved {
			continue
		}
		generation, stays := r.generations[now.GetDeploymentUid()]
		if !stays { // its deployment goes
			generation = now.GetGeneration() + 1
		}
		if now.GetTombstone() {
			generation = now.GetGeneration()
		}
		gone := r.bury(now, generation)
		gone.Epoch = r.epoch
		r.units[gone.GetId()] = gone
	}
}

// wished makes the row of a saved unit. Its fence is above all that the cluster
// has seen, so that it is sent again whatever the cluster has.
func (r *restoration) wished(saved *pmpb.Unit) *pmpb.Unit {
	u := shallow(saved)
	u.Epoch, u.Fence = r.epoch, r.index
	u.CreateIndex, u.ModifyIndex = r.born(saved.GetCreateIndex()), r.index
	if g, ok := r.generations[saved.GetDeploymentUid()]; ok && !saved.GetTombstone() {
		u.Generation = g
	}
	u.Ack, u.Runtime, u.Waiting = nil, nil, nil
	if now := r.view.Unit(saved.GetId()); now.GetDeploymentUid() == saved.GetDeploymentUid() && now.GetEnv() == saved.GetEnv() {
		u.Ack, u.Runtime = now.GetAck(), now.GetRuntime()
	}
	return u
}

// settleDeletions gives the rows that the tombstones of deployments need that
// are not in the saved state.
func (r *restoration) settleDeletions() []*pmpb.Deletion {
	pending := map[string][]string{}
	for _, id := range sortedKeys(r.units) {
		u := r.units[id]
		uid := u.GetDeploymentUid()
		if _, stays := r.generations[uid]; !stays {
			pending[uid] = append(pending[uid], u.GetEnv())
		}
	}
	known := map[string]*pmpb.Deletion{}
	for d := range rowsOf[*pmpb.Deletion](r.saved, atDeletions) {
		known[d.GetDeploymentUid()] = d
	}
	var out []*pmpb.Deletion
	for _, uid := range sortedKeys(pending) {
		out = append(out, r.deletion(uid, pending[uid], known[uid]))
	}
	return out
}

func (r *restoration) deletion(uid string, pending []string, saved *pmpb.Deletion) *pmpb.Deletion {
	now := r.view.Deletion(uid)
	row := &pmpb.Deletion{DeploymentUid: uid, DeletedAt: r.now(), CreateIndex: r.index}
	switch dep := r.view.DeploymentByUID(uid); {
	case now != nil:
		row = shallow(now)
	case saved != nil:
		row = shallow(saved)
	case dep != nil:
		row.DeploymentKey, row.PackageName, row.ClassKey = dep.Doc.Key, dep.Doc.PackageName, dep.Doc.ClassKey
	}
	row.CreateIndex, row.ModifyIndex = r.born(row.GetCreateIndex()), r.index
	row.Envs = slices.Concat(now.GetEnvs(), saved.GetEnvs(), pending)
	slices.Sort(row.Envs)
	row.Envs = slices.Compact(row.Envs)
	row.ConfirmedEnvs, row.OrphanedEnvs = nil, nil
	for _, env := range row.GetEnvs() {
		switch {
		case slices.Contains(pending, env):
		case slices.Contains(now.GetOrphanedEnvs(), env), slices.Contains(saved.GetOrphanedEnvs(), env):
			row.OrphanedEnvs = append(row.OrphanedEnvs, env)
		default:
			row.ConfirmedEnvs = append(row.ConfirmedEnvs, env)
		}
	}
	return row
}

// settleClusters gives the saved clusters and those of now that still have
// units: without its row a tombstone could not be delivered. What operators said is a
// wish and comes back; what was seen of a cluster's outages has happened and stays.
func (r *restoration) settleClusters() []*pmpb.Cluster {
	rows := map[string]*pmpb.Cluster{}
	for _, u := range r.units {
		if now := r.view.Cluster(u.GetEnv()); now != nil {
			rows[u.GetEnv()] = now
		}
	}
	for c := range rowsOf[*pmpb.Cluster](r.saved, atClusters) {
		rows[c.GetName()] = c
	}
	out := make([]*pmpb.Cluster, 0, len(rows))
	for _, name := range sortedKeys(rows) {
		row := shallow(rows[name])
		if now := r.view.Cluster(name); now != nil {
			row.Outages, row.Totals, row.ObservedSince = now.GetOutages(), now.GetTotals(), now.GetObservedSince()
			row.Strays = now.GetStrays()
		}
		row.CreateIndex, row.ModifyIndex = r.born(row.GetCreateIndex()), r.index
		out = append(out, row)
	}
	return out
}

func (r *restoration) putDocuments() {
	for p := range rowsOf[*Package](r.saved, atPackages) {
		r.put(atPackages, &Package{Doc: p.Doc, CreateIndex: r.born(p.CreateIndex), ModifyIndex: r.index})
		r.done.Packages++
	}
	for d := range rowsOf[*Deployment](r.saved, atDeployments) {
		r.put(atDeployments, &Deployment{
			Doc: d.Doc, UID: d.UID, Generation: r.generations[d.UID], Revision: d.Revision, Move: d.Move, CreateIndex: r.born(d.CreateIndex), ModifyIndex: r.index,
		})
		r.done.Deployments++
	}
	for p := range rowsOf[*Plan](r.saved, atPlans) {
		plan := *p
		plan.Generation, plan.ModifyIndex = r.generations[p.DeploymentUID], r.index
		r.put(atPlans, &plan)
	}
}

// putRollouts brings revisions and rollouts back. A rollout that was under way goes on, and
// its wave has the whole of its time again: all units are on their way anew.
func (r *restoration) putRollouts() {
	for saved := range rowsOf[*pmpb.Revision](r.saved, atRevisions) {
		row := shallow(saved)
		row.ModifyIndex = r.index
		r.meta.revisions += len(row.GetDocument())
		r.put(atRevisions, row)
	}
	for saved := range rowsOf[*pmpb.Rollout](r.saved, atRollouts) {
		row := shallow(saved)
		row.CreateIndex, row.ModifyIndex = r.born(row.GetCreateIndex()), r.index
		if now := r.now(); row.GetDeadline() != nil && now != nil {
			row.WaveStarted, row.Deadline = now, timestamppb.New(now.AsTime().Add(row.GetProgressDeadline().AsDuration()))
		}
		if row.GetPaused() != nil {
			row.Paused = r.now()
		}
		r.put(atRollouts, row)
	}
}

// putReplies brings the answers of the saved state's time back; those to requests
// since go with their effects. An answer keeps its index, which is its age; one
// from ahead of this log has none here.
func (r *restoration) putReplies() {
	r.meta.replies = replySums{}
	for reply := range rowsOf[*pmpb.Reply](r.saved, atReplies) {
		if reply.GetCreateIndex() < r.index {
			r.meta.replies.of(reply.GetEphemeral()).add(reply, 1)
			r.put(atReplies, reply)
		}
	}
}

// raiseEpoch sends every unit again under a new epoch, after a recovery that may
// have lost what clusters have seen.
func raiseEpoch(c *call, op *pmpb.RaiseEpoch) error {
	if err := checkKey("recovery id", op.GetRecoveryId()); err != nil {
		return err
	}
	if n := len(op.GetReason()); n > maxReason {
		return invalidf("reason has %d bytes, at most %d are allowed", n, maxReason)
	}
	if op.GetRecoveryId() == c.meta.pb.GetRecoveryId() {
		return nil
	}
	epoch := c.meta.pb.GetEpoch() + 1
	for old := range c.view.store.units().each() {
		u := shallow(old)
		u.Epoch, u.Fence, u.ModifyIndex, u.Waiting = epoch, c.index, c.index, nil
		c.dateCondition(old, u)
		c.put(atUnits, u)
	}
	c.meta.pb.Epoch, c.meta.pb.RecoveryId = epoch, op.GetRecoveryId()
	return nil
}

// checkStaged holds the staged pieces of a snapshot against what StageRestore
// lets in.
func (k *checker) staged() error {
	var last *pmpb.StagedPiece
	for p := range rowsOf[*pmpb.StagedPiece](k.contents, atStaged) {
		want := uint32(0)
		if last != nil {
			want = last.GetSequence() + 1
		}
		switch id := p.GetRestoreId(); {
		case id == "" || len(id) > maxRestoreID || (last != nil && id != last.GetRestoreId()):
			return k.fail(TableStaged, "piece of an unexpected restore %.140q", id)
		case p.GetSequence() != want || want >= MaxPieces:
			return k.fail(TableStaged, "piece %d where %d was expected", p.GetSequence(), want)
		case len(p.GetData()) == 0 || len(p.GetData()) > MaxPieceBytes:
			return k.fail(TableStaged, "piece %d has %d bytes", p.GetSequence(), len(p.GetData()))
		}
		last = p
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// String tells what was done, for logs.
func (r *Restored) String() string {
	return fmt.Sprintf("%d packages, %d deployments and %d units at index %d in epoch %d, %d units withdrawn",
		r.Packages, r.Deployments, r.Units, r.Index, r.Epoch, r.Removed)
}
