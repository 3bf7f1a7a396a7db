package api

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"oaas.io/control-plane/registry"
)

// fallback answers what is no route: files outside of the API's paths, if there
// is a directory for them.
func (s *Server) fallback() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opts.RequestTimeout + writeTimeout))
		if s.static == nil || strings.HasPrefix(r.URL.Path, "/api/") {
			s.writeProblem(w, r, fail(registry.NotFound, "There is nothing at %s", r.URL.Path))
			return
		}
		callOf(r.Context()).route, callOf(r.Context()).quiet = "static", true
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			s.writeProblem(w, r, fail(codeMethod, "Files can only be read"))
			return
		}
		if err := s.serveFile(w, r); err != nil {
			s.writeProblem(w, r, err)
		}
	})
}

// serveFile serves a file, the index.html of a directory, or, with status 404,
// the index.html at the top, from which a single-page application finds its way.
// The files are opened below an os.Root: no path leads out of it.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "."
	}
	info, err := s.static.Stat(name)
	switch {
	case err == nil && info.IsDir():
		if !strings.HasSuffix(r.URL.Path, "/") {
			target := path.Base(name) + "/"
			if r.URL.RawQuery != "" {
				target += "?" + r.URL.RawQuery
			}
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
			return nil
		}
		name = path.Join(name, "index.html")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail(registry.NotFound, "There is nothing at %s", r.URL.Path)
	}
	f, err := s.static.Open(name)
	if err != nil {
		return s.serveIndex(w, r)
	}
	defer func() { _ = f.Close() }() // only read
	info, err = f.Stat()
	if err != nil || info.IsDir() {
		return s.serveIndex(w, r)
	}
	http.ServeContent(w, r, name, info.ModTime(), f)
	return nil
}

// maxIndexBytes bounds the page for missing files, which is held in memory.
const maxIndexBytes = 4 << 20

func (s *Server) serveIndex(w http.ResponseWriter, r *http.Request) error {
	f, err := s.static.Open("index.html")
	if err != nil {
		return fail(registry.NotFound, "There is nothing at %s", r.URL.Path)
	}
	defer func() { _ = f.Close() }() // only read
	page, err := io.ReadAll(io.LimitReader(f, maxIndexBytes))
	if err != nil {
		return err
	}
	w.Header().Set(headerContentType, "text/html; charset=utf-8")
	writeBody(w, http.StatusNotFound, page)
	return nil
}
