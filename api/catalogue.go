package api

import (
	"net/http"
	"strings"

	"oaas.io/control-plane/model"
)

// listClasses gives the classes of all packages with keys <package>.<class>.
// ?filter is a substring of that key.
func (s *Server) listClasses(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	filter, p := q.text("filter"), q.page()
	if q.err != nil {
		return q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	found := []*model.OClass{}
	for _, pkg := range snap.Packages() {
		for _, class := range pkg.Doc.Classes {
			class.Key = pkg.Doc.Name + "." + class.Key
			if strings.Contains(class.Key, filter) {
				found = append(found, &class)
			}
		}
	}
	return writeJSON(w, http.StatusOK, cut(found, p))
}

// listFunctions gives the functions of all packages. ?filter is a substring of
// the key.
func (s *Server) listFunctions(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	filter, p := q.text("filter"), q.page()
	if q.err != nil {
		return q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	found := []*model.OFunction{}
	for _, pkg := range snap.Packages() {
		for i := range pkg.Doc.Functions {
			if fn := &pkg.Doc.Functions[i]; strings.Contains(fn.Key, filter) {
				found = append(found, fn)
			}
		}
	}
	return writeJSON(w, http.StatusOK, cut(found, p))
}
