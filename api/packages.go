package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/registry"
)

// written is the answer to a write: id of the object, what happened, a text.
type written struct {
	ID      string  `json:"id"`
	Status  string  `json:"status"`
	Message *string `json:"message"`
}

func newWritten(id, status, message string) written {
	return written{ID: id, Status: status, Message: &message}
}

// listPackages filters by ?name_pattern (substring) and ?tags (all of them).
// ?disabled is accepted and has no effect: packages cannot be disabled.
func (s *Server) listPackages(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	pattern, tags, p := q.text("name_pattern"), q.list("tags"), q.page()
	q.flag("disabled")
	if q.err != nil {
		return q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	found := []*model.OPackage{}
	for _, pkg := range snap.Packages() {
		if strings.Contains(pkg.Doc.Name, pattern) && hasAll(pkg.Doc.Metadata.Tags, tags) {
			found = append(found, pkg.Doc)
		}
	}
	return writeJSON(w, http.StatusOK, cut(found, p))
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(tag string) bool { return !slices.Contains(have, tag) })
}

func (s *Server) getPackage(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	pkg := snap.Package(pathVar(r, "name"))
	if pkg == nil {
		return fail(registry.NotFound, "Package not found: %s", pathVar(r, "name"))
	}
	w.Header().Set("ETag", packageTag(pkg))
	return writeJSON(w, http.StatusOK, pkg.Doc)
}

func packageTag(pkg *fsm.Package) string {
	return etag(formatIndex(pkg.CreateIndex), pkg.ModifyIndex)
}

func (s *Server) createPackage(w http.ResponseWriter, r *http.Request) error {
	pkg, body, err := readDocument(s, w, r, model.ReadPackage)
	if err != nil {
		return err
	}
	if err := noDryRun(r); err != nil {
		return err
	}
	ans, err := s.write(r, operation{
		body: body,
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			out, index, err := s.opts.Registry.CreatePackage(ctx, ri, pkg)
			return out, index, asPrecondition(err, ri.Precondition)
		},
		reply: func(any) (int, []byte) {
			return encoded(http.StatusCreated, newWritten(pkg.Name, "created", "Package created successfully"))
		},
		tag: s.packageTagAt(pkg.Name),
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}

// asPrecondition gives a taken name the status that If-None-Match: * asks for.
func asPrecondition(err error, p registry.Precondition) error {
	var op *registry.Error
	if p.MustNotExist && errors.As(err, &op) && op.Code == registry.AlreadyExists {
		return &problem{code: registry.PreconditionFailed, detail: op.Message, cause: err}
	}
	return err
}

// updatePackage replaces a package. POST is the contract's method, PUT the
// conventional one.
func (s *Server) updatePackage(w http.ResponseWriter, r *http.Request) error {
	pkg, body, err := readDocument(s, w, r, model.ReadPackage)
	if err != nil {
		return err
	}
	if err := noDryRun(r); err != nil {
		return err
	}
	if name := pathVar(r, "name"); name != pkg.Name {
		return fail(registry.InvalidArgument, "The path names package %q, the body %q; they must be the same", name, pkg.Name)
	}
	ans, err := s.write(r, operation{
		body: body,
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			return flat(s.opts.Registry.UpdatePackage(ctx, ri, pkg))
		},
		reply: func(any) (int, []byte) {
			return encoded(http.StatusOK, newWritten(pkg.Name, "updated", "Package updated successfully"))
		},
		tag: s.packageTagAt(pkg.Name),
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}

// packageTagAt gives the ETag of the version that was written at index, unless
// another write has replaced it already.
func (s *Server) packageTagAt(name string) func(index uint64) string {
	return func(index uint64) string {
		pkg := s.opts.Registry.State().Snapshot().Package(name)
		if pkg == nil || pkg.ModifyIndex != index {
			return ""
		}
		return packageTag(pkg)
	}
}

func (s *Server) deletePackage(w http.ResponseWriter, r *http.Request) error {
	return s.removeNamed(w, r, s.opts.Registry.DeletePackage)
}

// flat drops the static type of an outcome. A typed nil must not become a non-nil any.
func flat[T any](outcome *T, index uint64, err error) (any, uint64, error) {
	if outcome == nil {
		return nil, index, err
	}
	return outcome, index, err
}

// noDryRun refuses ?dry_run instead of ignoring it like other unknown
// parameters: who sends it relies on nothing being changed.
func noDryRun(r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	if q.err == nil && q.flag("dry_run") {
		return fail(registry.InvalidArgument, "dry_run is not supported here; nothing was done")
	}
	return q.err
}
