package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// remarks keeps what is noted beside the log as commands of the harness's store.
type remarks struct{ h *harness }

func (r remarks) Remark(ctx context.Context, action, object, detail string) error {
	note := raftstore.OperatorNote(ctx, action, object, detail)
	_, err := r.h.store.Apply(ctx, &pmpb.Command{Note: note, Op: &pmpb.Command_Remark{Remark: &pmpb.Remark{}}})
	return err
}

// noting has a cluster whose commands carry notes.
func noting(h *harness) {
	raise := &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: fsm.NotesFrom}}}
	if res, err := h.store.Apply(h.t.Context(), raise); err != nil || res.Err != nil {
		h.t.Fatal(err, res.Err)
	}
	h.opts.Audit = remarks{h}
}

func TestAudit(t *testing.T) {
	h := newHarness(t, noting, operated)
	h.cluster("oaas-1", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	agent := "User-Agent: pmctl/1.0"
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage, agent, headerForwardedFor+": 10.9.8.7")
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", `{"key":"shop.Cart","package_name":"shop","class_key":"Cart","target_envs":["oaas-1"]}`, agent)
	h.must(http.StatusOK, http.MethodPost, "/api/v1/operator/leader/transfer", `{"to":"pm-1"}`, agent)
	h.must(http.StatusOK, http.MethodPatch, "/api/v1/operator/raft/tuning", `{"trailing_logs": 7}`, agent)
	h.must(http.StatusOK, http.MethodGet, "/api/v1/operator/snapshot", "", agent)
	h.must(http.StatusOK, http.MethodDelete, "/api/v1/deployments/shop.Cart", "", agent)
	golden(t, "operator-audit", h.do(http.MethodGet, "/api/v1/operator/audit?limit=4", ""))

	actions := func(query string) []string {
		t.Helper()
		var list []auditEntry
		if err := json.Unmarshal(h.must(http.StatusOK, http.MethodGet, "/api/v1/operator/audit"+query, "").Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range list {
			out = append(out, e.Action)
		}
		return out
	}
	all := actions("")
	want := []string{"deployment.delete", "snapshot.save", "raft.tune", "leader.transfer", "deployment.create", "package.create"}
	if !slices.Equal(all, want) {
		t.Fatalf("audit log %q, want %q", all, want)
	}
	var third []auditEntry
	_ = json.Unmarshal(h.do(http.MethodGet, "/api/v1/operator/audit", "").Body.Bytes(), &third)
	for query, want := range map[string][]string{
		"?limit=2":             all[:2],
		"?operator":            all[1:4],
		"?action=deployment.*": {all[0], all[4]},
		"?object=shop":         {all[5]},
		"?action=raft.tune":    {all[2]},
		"?action=raft":         nil,
		fmt.Sprintf("?limit=2&before=%d", third[2].Index): all[3:5],
	} {
		if have := actions(query); !slices.Equal(have, want) {
			t.Errorf("%s: %q, want %q", query, have, want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?before=x", "?operator=perhaps"} {
		if p := h.problem(h.do(http.MethodGet, "/api/v1/operator/audit"+query, "")); p.Code != registry.InvalidArgument {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

// What a request does on the leader is noted with where it came from, not with the
// node that forwarded it.
func TestAuditKnowsTheClientOfAForwardedRequest(t *testing.T) {
	p := newPeers(t, nil, func(h *harness) {
		if h.node.id == "pm-0" && h.store.index < 20 {
			noting(h)
		}
	})
	w := p.follower.do(http.MethodPost, "/api/v1/packages", `{"name":"late"}`, "User-Agent: curl/8", headerForwardedFor+": 10.9.8.7")
	if w.Code != http.StatusCreated {
		t.Fatal(w.Code, w.Body)
	}
	for e := range p.leader.store.state.Snapshot().Audit(0) {
		n := e.GetNote()
		if n.GetAction() != "package.create" || n.GetAgent() != "curl/8" || n.GetAddress() != "10.9.8.7 via 192.0.2.1:1234" {
			t.Errorf("note %v", n)
		}
		return
	}
	t.Error("nothing was noted")
}

// However much a client claims, the address that it came from is told.
func TestAuditKeepsTheAddressBehindALongClaim(t *testing.T) {
	h := newHarness(t, noting)
	for i, claim := range []string{strings.Repeat("7.7.7.7,", 200), strings.Repeat("\u00e9", 600), strings.Repeat("\xff", 900)} {
		h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", fmt.Sprintf(`{"name":"p%d"}`, i), headerForwardedFor+": "+claim)
		for e := range h.store.state.Snapshot().Audit(0) {
			if a := e.GetNote().GetAddress(); !strings.HasSuffix(a, " via 192.0.2.1:1234") || !utf8.ValidString(a) || len(a) > fsm.MaxAuditText {
				t.Errorf("address %q", a)
			}
			break
		}
	}
}
