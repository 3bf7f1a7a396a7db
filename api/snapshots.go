package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"oaas.io/control-plane/raftstore/backup"
	"oaas.io/control-plane/registry"
)

const (
	contentTypeSnapshot = "application/vnd.oaas.snapshot"
	// trailerDigest and trailerIndex follow the bytes of a snapshot: the SHA-256 of
	// all of them, in hex, and the index of the state in them.
	trailerDigest = "Pm-Snapshot-Sha256"
	trailerIndex  = "Pm-Snapshot-Index"
)

// getSnapshot streams a linearizable snapshot of the state. An answer without the
// trailers is not whole.
func (s *Server) getSnapshot(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Snapshots == nil {
		return fail(codeNotConfigured, "This node gives no snapshots")
	}
	s.remark(r, "snapshot.save", s.opts.Cluster.ServerID(), "")
	err := s.sendSnapshot(w, r, "pm.snapshot", func(out io.Writer) (uint64, error) {
		saved, err := s.opts.Snapshots.SaveSnapshot(r.Context(), out)
		if err != nil {
			return 0, err
		}
		return saved.Index, nil
	})
	if err != nil {
		return operatorProblem(err)
	}
	return nil
}

// sendSnapshot answers with the snapshot that write gives, and with the index that
// it returns. It fails only as long as nothing was sent; later the answer is cut off.
func (s *Server) sendSnapshot(w http.ResponseWriter, r *http.Request, filename string, write func(io.Writer) (uint64, error)) error {
	w.Header().Set(headerContentType, contentTypeSnapshot)
	// Announced, because net/http has none after a short body else.
	w.Header().Set("Trailer", trailerDigest+", "+trailerIndex)
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", filename))
	sum := sha256.New()
	out := &counted{w: io.MultiWriter(w, sum)}
	index, err := write(out)
	if err != nil && out.n == 0 {
		w.Header().Del("Content-Disposition")
		w.Header().Del("Trailer")
		return err
	}
	if err != nil {
		s.log.Warn("a snapshot could not be sent to its end", "request_id", callOf(r.Context()).id, "bytes", out.n, "error", err)
		callOf(r.Context()).cut = true
		return nil
	}
	w.Header()[http.TrailerPrefix+trailerDigest] = []string{hex.EncodeToString(sum.Sum(nil))}
	w.Header()[http.TrailerPrefix+trailerIndex] = []string{formatIndex(index)}
	return nil
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// restoreSnapshot replaces the state by an uploaded snapshot. It has to be
// confirmed with the id of this cluster.
func (s *Server) restoreSnapshot(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Snapshots == nil {
		return fail(codeNotConfigured, "This node takes no snapshots")
	}
	confirm := parseQuery(r.URL.RawQuery).text("confirm")
	own := s.opts.Registry.State().Snapshot().Meta().GetClusterId()
	switch {
	case confirm == "":
		return fail(registry.InvalidArgument, "A restore replaces all packages and deployments of this cluster. Confirm with ?confirm=<id of this cluster>; GET /api/v1/operator/node tells it")
	case confirm != own:
		return fail(registry.FailedPrecondition, "The confirmation names cluster %s, this is another one", confirm)
	case r.ContentLength == 0:
		return fail(registry.InvalidArgument, "The snapshot is missing: send it as the body")
	}
	done, err := s.opts.Snapshots.RestoreSnapshot(r.Context(), r.Body, r.ContentLength, RestoreOptions{
		ConfirmClusterID: confirm, RequestID: callOf(r.Context()).id,
	})
	if err != nil {
		return operatorProblem(err)
	}
	w.Header().Set("PM-Index", formatIndex(done.Index))
	return writeJSON(w, http.StatusOK, done)
}

// listBackups gives the stored backups, newest first.
func (s *Server) listBackups(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Backups == nil {
		return errNoBackups()
	}
	list, err := s.opts.Backups.List(r.Context())
	if err != nil {
		return backupProblem("The backups cannot be listed: ", err)
	}
	w.Header().Set("PM-Backups", strconv.Itoa(len(list)))
	return writeJSON(w, http.StatusOK, append([]BackupView{}, list...))
}

// runBackup makes a backup now.
func (s *Server) runBackup(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Backups == nil {
		return errNoBackups()
	}
	s.remark(r, "backup.run", "", "")
	made, err := s.opts.Backups.Run(r.Context())
	if err != nil {
		if p := operatorProblem(err); codeOf(p) != registry.Internal {
			return p
		}
		return backupProblem("The backup failed: ", err)
	}
	return writeJSON(w, http.StatusCreated, made)
}

// getBackup streams a stored backup, as getSnapshot does the present state.
func (s *Server) getBackup(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Backups == nil {
		return errNoBackups()
	}
	name := pathVar(r, "name")
	s.remark(r, "backup.get", name, "")
	err := s.sendSnapshot(w, r, name, func(out io.Writer) (uint64, error) {
		got, err := s.opts.Backups.Fetch(r.Context(), name, out)
		if err != nil {
			return 0, err
		}
		return got.Index, nil
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, backup.ErrNotFound):
		return fail(registry.NotFound, "Backup not found: %s", clipText(name))
	default:
		return backupProblem("The backup cannot be read: ", err)
	}
}

// backupProblem tells what may pass from what a setting has to cure.
func backupProblem(what string, err error) error {
	code := registry.Unavailable
	if errors.Is(err, backup.ErrRefused) {
		code = registry.FailedPrecondition
	}
	return &problem{code: code, detail: what + err.Error(), cause: err}
}

func errNoBackups() error {
	return fail(codeNotConfigured, "No backups are configured: see the settings that begin with backup")
}
