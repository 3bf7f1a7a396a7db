package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// paramForce is the query parameter that overrides a refusal.
const paramForce = "force"

// maxOperatorBody bounds the small documents of operators, in bytes.
const maxOperatorBody = 64 << 10

// listMembers gives the servers of the cluster. The leader knows how they are;
// with ?consistency=stale any node tells who they are, also without a leader.
func (s *Server) listMembers(w http.ResponseWriter, r *http.Request) error {
	want, err := consistencyOf(parseQuery(r.URL.RawQuery))
	if err != nil {
		return err
	}
	if !want.Stale && want.AtIndex == 0 && s.opts.Membership != nil {
		if relayed, err := s.place(w, r, onTheLeader); relayed || err != nil {
			return err
		}
	}
	if _, err := s.read(w, r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.members())
}

// members tells what this node knows, with the health of each if it leads.
func (s *Server) members() []member {
	health := map[string]*MemberHealth{}
	if s.opts.Membership != nil {
		if state, err := s.opts.Membership.Autopilot(); err == nil {
			for i := range state.Servers {
				health[state.Servers[i].ServerID] = &state.Servers[i].MemberHealth
			}
		}
	}
	snap := s.opts.Registry.State().Snapshot()
	list := []member{}
	for _, m := range s.opts.Cluster.Servers() {
		row := snap.Member(m.ID)
		list = append(list, member{
			ServerID: m.ID, Name: row.GetName(), Zone: row.GetZone(), FeatureLevel: max(row.GetFeatureLevel(), 1),
			RaftAddress: m.RaftAddress, GRPCAddress: m.GRPCAddress, HTTPAddress: m.HTTPAddress,
			Version: m.Version, Role: roleOf(m), Leader: m.Leader, Voter: m.Voter, Health: health[m.ID],
		})
	}
	return list
}

func roleOf(m raftstore.Server) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	default:
		return "non-voter"
	}
}

// removeMember takes a server out of the cluster, unless that would cost the
// quorum or the tolerance of a failure. ?dry_run only says what would happen,
// ?force overrides a refusal.
func (s *Server) removeMember(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	dryRun, force := q.flag("dry_run"), q.flag(paramForce)
	if q.err != nil {
		return q.err
	}
	id, err := s.resolveNode(pathVar(r, "id"))
	if err != nil {
		return err
	}
	return s.operate(w, r, nil, false, func(ctx context.Context) (any, error) {
		return s.opts.Membership.RemoveServer(ctx, id, dryRun, force)
	})
}

// putVote pins a server to be a voter or not to be one.
func (s *Server) putVote(w http.ResponseWriter, r *http.Request) error {
	var wish struct {
		Allowed *bool `json:"allowed"`
	}
	body, err := readWish(w, r, &wish)
	if err != nil {
		return err
	}
	if wish.Allowed == nil {
		return fail(codeSchema, `The document must say {"allowed": true} or {"allowed": false}`)
	}
	id, err := s.resolveNode(pathVar(r, "id"))
	if err != nil {
		return err
	}
	return s.operate(w, r, body, true, func(ctx context.Context) (any, error) {
		if err := s.opts.Membership.SetVote(ctx, id, *wish.Allowed); err != nil {
			return nil, err
		}
		return map[string]any{"server_id": id, "allowed": *wish.Allowed}, nil
	})
}

// transferLeader hands leadership to a server and waits until it is ready.
func (s *Server) transferLeader(w http.ResponseWriter, r *http.Request) error {
	var wish struct {
		To string `json:"to"`
	}
	body, err := readWish(w, r, &wish)
	if err != nil {
		return err
	}
	to := ""
	if wish.To != "" {
		if to, err = s.resolveNode(wish.To); err != nil {
			return err
		}
	}
	return s.operate(w, r, body, false, func(ctx context.Context) (any, error) {
		if to == s.opts.Cluster.ServerID() {
			return &Transfer{From: to, FromName: s.nameOf(to), To: to, ToName: s.nameOf(to)}, nil
		}
		s.remark(r, "leader.transfer", to, s.nameOf(to))
		began := time.Now()
		done, err := s.opts.Membership.TransferTo(ctx, to)
		if err != nil {
			return nil, err
		}
		// A read proves that somebody leads and has caught up.
		if _, err := s.view(ctx, registry.Consistency{}); err != nil {
			return nil, &problem{code: registry.Unavailable, detail: "Leadership was handed over, but the new leader is not ready yet", cause: err}
		}
		done.Gap = time.Since(began).Milliseconds()
		if leader, known := s.opts.Cluster.Leader(); known {
			done.To = leader.ServerID
		}
		done.FromName, done.ToName = s.nameOf(done.From), s.nameOf(done.To)
		return done, nil
	})
}

// operate runs a change of the cluster on the leader and answers with what it
// says. repeatable says that doing it twice is the same as doing it once.
func (s *Server) operate(w http.ResponseWriter, r *http.Request, body []byte, repeatable bool, do func(ctx context.Context) (any, error)) error {
	if s.opts.Membership == nil {
		return fail(codeNotConfigured, "This node does not look after its cluster")
	}
	ans, err := s.onLeader(r, body, repeatable, func() (*answer, error) {
		out, err := do(r.Context())
		if err != nil {
			return nil, operatorProblem(err)
		}
		ans := &answer{header: http.Header{}}
		ans.status, ans.body = encoded(http.StatusOK, out)
		s.stamp(ans.header)
		return ans, nil
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}

// readWish decodes a small JSON document strictly. No body is an empty document.
func readWish(w http.ResponseWriter, r *http.Request, into any) ([]byte, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOperatorBody))
	if err != nil {
		return nil, bodyProblem(err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	if err := checkMediaType(r.Header.Get(headerContentType)); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fail(codeMalformed, "Malformed JSON: %v", err)
		}
		return nil, fail(codeSchema, "The document does not fit: %v", err)
	}
	if dec.More() {
		return nil, fail(codeMalformed, "Malformed JSON: more than one document")
	}
	return raw, nil
}
