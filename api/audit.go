package api

import (
	"context"
	"net/http"
	"strings"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// Audit takes note of what operators do beside the replicated log. What goes
// through the log is noted with it.
type Audit interface {
	// Remark keeps a note for the request that ctx belongs to. It logs its failure.
	Remark(ctx context.Context, action, object, detail string) error
}

const (
	// defaultAuditEntries and maxAuditEntries bound one page of the audit log.
	defaultAuditEntries = 100
	maxAuditEntries     = 1000
)

// auditEntry is a change that somebody asked for.
type auditEntry struct {
	Index     uint64  `json:"index"`
	Time      *string `json:"time"`
	Action    string  `json:"action"`
	Object    string  `json:"object"`
	Detail    string  `json:"detail"`
	RequestID string  `json:"request_id"`
	Principal string  `json:"principal"`
	Address   string  `json:"address"`
	Agent     string  `json:"agent"`
	// Operator is set for what was done to the control plane itself.
	Operator bool `json:"operator"`
}

func newAuditEntry(e *pmpb.AuditEntry) auditEntry {
	n := e.GetNote()
	return auditEntry{
		Index: e.GetIndex(), Time: stampText(e.GetTime()), Action: n.GetAction(), Object: n.GetObject(), Detail: n.GetDetail(),
		RequestID: e.GetRequestId(), Principal: e.GetPrincipal(), Address: n.GetAddress(), Agent: n.GetAgent(), Operator: n.GetOperator(),
	}
}

// listAudit gives the newest entries of the audit log, the newest first: ?limit of
// them, ?before an index, about an ?object, with an ?action (or those that begin
// with it, when it ends with a star), and with ?operator only what was done to the
// control plane itself.
func (s *Server) listAudit(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	before, limit, operator := q.index("before"), q.number("limit"), q.flag("operator")
	action, object := q.text("action"), q.text("object")
	if limit < 0 {
		limit = defaultAuditEntries
	}
	if limit > maxAuditEntries || limit == 0 {
		q.wrong("limit", "a number from 1 to 1000")
	}
	if q.err != nil {
		return q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	list := []auditEntry{}
	for e := range snap.Audit(before) {
		n := e.GetNote()
		if operator && !n.GetOperator() || object != "" && n.GetObject() != object || !fits(action, n.GetAction()) {
			continue
		}
		if list = append(list, newAuditEntry(e)); len(list) == limit {
			break
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

func fits(pattern, text string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(text, prefix)
	}
	return pattern == "" || pattern == text
}

// remark notes what an operator does beside the log.
func (s *Server) remark(r *http.Request, action, object, detail string) {
	if s.opts.Audit != nil {
		_ = s.opts.Audit.Remark(r.Context(), action, object, detail) // it has logged why it is not there
	}
}

// withOrigin lets everything that the request causes know where it came from.
func withOrigin(r *http.Request) *http.Request {
	return r.WithContext(raftstore.WithOrigin(r.Context(), raftstore.Origin{
		RequestID: callOf(r.Context()).id, Address: clientAddress(r), Agent: r.UserAgent(),
	}))
}

// clientAddress gives the address that the request came from. What proxies say
// about the client is a claim, so theirs is told with it, and a long claim does not
// push it out of the note.
func clientAddress(r *http.Request) string {
	claimed := r.Header.Get(headerForwardedFor)
	if claimed == "" {
		return r.RemoteAddr
	}
	via := " via " + r.RemoteAddr
	claimed = fsm.NoteText(claimed)
	if room := fsm.MaxAuditText - len(via); len(claimed) > room {
		claimed = strings.ToValidUTF8(claimed[:max(room, 0)], "")
	}
	return claimed + via
}

// requestInfo is what the registry needs to know of a request.
func requestInfo(r *http.Request, pre registry.Precondition, idem *registry.Idempotency) registry.RequestInfo {
	return registry.RequestInfo{
		RequestID: callOf(r.Context()).id, Address: clientAddress(r), Agent: r.UserAgent(), Precondition: pre, Idempotency: idem,
	}
}
