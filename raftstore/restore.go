package raftstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

var (
	// ErrNotConfirmed says that a restore did not name the cluster that it would
	// overwrite.
	ErrNotConfirmed = errors.New("raftstore: the restore is not confirmed with the id of this cluster")
	// ErrRestoreRunning says that another restore is under way.
	ErrRestoreRunning = errors.New("raftstore: another restore is under way")
)

// MaxRestoreSize is the largest snapshot file that can be restored, in bytes.
const MaxRestoreSize = fsm.MaxPieceBytes * fsm.MaxPieces

const (
	// safetyDir keeps the states that restores have replaced.
	safetyDir = "before-restore"
	// keptSafetyCopies of them are kept.
	keptSafetyCopies = 3
	// piecesPerReport is how often the progress of a restore is logged.
	piecesPerReport = 64
)

// SaveSnapshot writes a snapshot that holds every write that was acknowledged,
// by any node, before the call. It works on every node. What is in w after an
// error is not a snapshot.
func (n *Node) SaveSnapshot(ctx context.Context, w io.Writer) (*fsm.SnapshotInfo, error) {
	if _, err := n.ReadBarrier(ctx); err != nil {
		return nil, err
	}
	info, err := n.state.Snapshot().Save(contextWriter{ctx, w})
	if err != nil {
		return nil, fmt.Errorf("raftstore: saving a snapshot: %w", err)
	}
	return info, nil
}

// contextWriter ends a long write when its context does.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// RestoreOptions guard a restore.
type RestoreOptions struct {
	// ConfirmClusterID must be the id of the cluster whose state is replaced.
	ConfirmClusterID string
	// SafetyCopy keeps the state before and says where. Default: a file in the
	// data directory; a node that keeps nothing on disk makes no copy.
	SafetyCopy func(ctx context.Context) (where string, err error)
	// RequestID is noted in the log's entries.
	RequestID string
}

// Restored is what a restore has done.
type Restored struct {
	Epoch, Index                 uint64
	Packages, Deployments, Units int
	// Removed are units that lived before and that their clusters now remove.
	Removed int
	// SafetyCopy is where the state before is, empty when there is no copy.
	SafetyCopy string
}

// RestoreSnapshot replaces the contents of the state by those of a snapshot of
// this cluster; see pmpb.CommitRestore for what that means. It works on the
// leader only and one at a time. size is the number of bytes in r, or -1.
//
// The file goes through the log in pieces and takes effect with one last
// command, on all nodes alike or on none. Writes go on all the while; those
// after the safety copy and before that last command are replaced too, and are
// in no copy. After ErrOutcomeUnknown the restore may still take effect; the
// state's epoch tells.
func (n *Node) RestoreSnapshot(ctx context.Context, r io.Reader, size int64, opts RestoreOptions) (*Restored, error) {
	t := n.readyTerm()
	if t == nil {
		return nil, ErrNotLeader
	}
	if own := n.ClusterID(); opts.ConfirmClusterID != own || own == "" {
		return nil, fmt.Errorf("%w: it names %q, this is %q", ErrNotConfirmed, opts.ConfirmClusterID, own)
	}
	if !n.lead.restoring.TryLock() {
		return nil, ErrRestoreRunning
	}
	defer n.lead.restoring.Unlock()
	file, err := readAtMost(r, size)
	if err != nil {
		return nil, err
	}
	info, err := n.state.Snapshot().CheckRestorable(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("raftstore: the snapshot cannot be restored: %w", err)
	}
	if err := n.checkLevel(&pmpb.Command{Op: &pmpb.Command_CommitRestore{CommitRestore: &pmpb.CommitRestore{}}}); err != nil {
		return nil, err
	}
	j := &restore{node: n, term: t.number, id: newUUID(), requestID: opts.RequestID, file: file, info: info}
	where, err := n.safetyCopy(ctx, opts.SafetyCopy)
	if err != nil {
		return nil, fmt.Errorf("raftstore: nothing was restored, because the state before could not be kept: %w", err)
	}
	n.log.Info("a restore begins", "restore_id", j.id, "snapshot_index", info.Index, "bytes", len(file), "sha256", info.SHA256, "safety_copy", where)
	done, err := j.run(ctx)
	if err != nil {
		n.log.Warn("the restore failed", "restore_id", j.id, "error", err)
		return nil, err
	}
	n.log.Info("the state was restored", "restore_id", j.id, "result", done)
	return &Restored{
		Epoch: done.Epoch, Index: done.Index, Packages: done.Packages, Deployments: done.Deployments, Units: done.Units,
		Removed: done.Removed, SafetyCopy: where,
	}, nil
}

// readAtMost reads the file. It is held in memory: what is staged is, too.
func readAtMost(r io.Reader, size int64) ([]byte, error) {
	if size > MaxRestoreSize {
		return nil, fmt.Errorf("%w: the snapshot has %d bytes, at most %d can be restored", ErrTooLarge, size, MaxRestoreSize)
	}
	var file bytes.Buffer
	if size > 0 {
		file.Grow(int(size))
	}
	if _, err := io.Copy(&file, io.LimitReader(r, MaxRestoreSize+1)); err != nil {
		return nil, fmt.Errorf("raftstore: the snapshot could not be read to its end: %w", err)
	}
	if file.Len() > MaxRestoreSize {
		return nil, fmt.Errorf("%w: the snapshot has more than %d bytes", ErrTooLarge, MaxRestoreSize)
	}
	if size >= 0 && int64(file.Len()) != size {
		return nil, fmt.Errorf("raftstore: the snapshot ended after %d of %d bytes: %w", file.Len(), size, io.ErrUnexpectedEOF)
	}
	return file.Bytes(), nil
}

// restore is one restore under way.
type restore struct {
	node      *Node
	term      uint64
	id        string
	requestID string
	file      []byte
	info      *fsm.SnapshotInfo
}

func (j *restore) run(ctx context.Context) (*fsm.Restored, error) {
	sum := sha256.Sum256(j.file)
	pieces, err := j.stage(ctx)
	if err != nil {
		j.abort(ctx)
		return nil, err
	}
	res, err := j.submit(ctx, &pmpb.Command{
		Note: operatorNote(ctx, "", "snapshot.restore", j.id, fmt.Sprintf("state at index %d of epoch %d, sha256 %s", j.info.Index, j.info.Epoch, j.info.SHA256)),
		Op: &pmpb.Command_CommitRestore{CommitRestore: &pmpb.CommitRestore{
			RestoreId: j.id, Pieces: pieces, Sha256: sum[:],
		}},
	})
	if err != nil {
		j.abort(ctx)
		return nil, err
	}
	return res.Restored, nil
}

func (j *restore) stage(ctx context.Context) (pieces uint32, err error) {
	total := (len(j.file) + fsm.MaxPieceBytes - 1) / fsm.MaxPieceBytes
	for piece := range slices.Chunk(j.file, fsm.MaxPieceBytes) {
		if _, err := j.submit(ctx, &pmpb.Command{Op: &pmpb.Command_StageRestore{StageRestore: &pmpb.StageRestore{
			RestoreId: j.id, Sequence: pieces, Data: piece,
		}}}); err != nil {
			return pieces, fmt.Errorf("piece %d of %d: %w", pieces+1, total, err)
		}
		pieces++
		if pieces%piecesPerReport == 0 {
			j.node.log.Info("a restore goes on", "restore_id", j.id, "pieces", pieces, "of", total)
		}
	}
	return pieces, nil
}

// submit proposes a command for this leadership only, so that a deposed leader
// cannot mix into the restore of its successor.
func (j *restore) submit(ctx context.Context, cmd *pmpb.Command) (fsm.Result, error) {
	cmd.ExpectedTerm, cmd.RequestId = j.term, j.requestID
	res, err := j.node.submit(ctx, cmd)
	if err == nil {
		err = res.Err
	}
	return res, err
}

// abort drops what was staged; if it cannot, the next leader does.
func (j *restore) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.node.timing.RPC)
	defer cancel()
	_, err := j.submit(ctx, &pmpb.Command{Op: &pmpb.Command_AbortRestore{AbortRestore: &pmpb.AbortRestore{RestoreId: j.id}}})
	if err != nil {
		j.node.log.Info("what a restore had staged is left to the next leader", "restore_id", j.id, "error", err)
	}
}

// dropStaged takes back what a former leader staged and never committed.
func (n *Node) dropStaged(ctx context.Context, number uint64) {
	id, pieces := n.state.Snapshot().StagedRestore()
	if pieces == 0 {
		return
	}
	n.log.Info("dropping the restore that a former leader began", "restore_id", id, "pieces", pieces)
	n.submitLogged(ctx, "staged restore not dropped", &pmpb.Command{
		ExpectedTerm: number,
		Op:           &pmpb.Command_AbortRestore{AbortRestore: &pmpb.AbortRestore{RestoreId: id}},
	})
}

// safetyCopy keeps the present state where the caller wants it, or in the data
// directory.
func (n *Node) safetyCopy(ctx context.Context, elsewhere func(context.Context) (string, error)) (string, error) {
	if elsewhere != nil {
		return elsewhere(ctx)
	}
	if n.dir == nil {
		return "", nil
	}
	dir := filepath.Join(n.dir.path, safetyDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var data bytes.Buffer
	info, err := n.SaveSnapshot(ctx, &data)
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%d.snapshot", n.opts.Now().UTC().Format("20060102T150405.000Z"), info.Index))
	if err := writeDurably(name, data.Bytes()); err != nil {
		return "", err
	}
	return name, forgetOldCopies(dir)
}

// forgetOldCopies keeps the newest; their names sort by time.
func forgetOldCopies(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".snapshot") {
			names = append(names, e.Name())
		}
	}
	for len(names) > keptSafetyCopies {
		if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}
