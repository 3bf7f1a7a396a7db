package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// asked are clusters that answer by their address, and remember what for.
type asked struct {
	answers map[string]func() (*oaaspb.UnitPreview, error)
	units   chan *oaaspb.DeploymentUnit
}

func (a *asked) Preview(_ context.Context, _, address string, unit *oaaspb.DeploymentUnit) (*oaaspb.UnitPreview, error) {
	a.units <- unit
	return a.answers[address]()
}

type failure struct {
	code, message string
	refused       bool
}

func (f failure) Error() string   { return f.message }
func (f failure) Code() string    { return f.code }
func (f failure) Message() string { return f.message }
func (f failure) Refused() bool   { return f.refused }

// Every cluster that would be sent something is asked, and its verdict told; who says
// nothing new to a cluster does not bother it.
func TestDryRunAsksTheClusters(t *testing.T) {
	created := &oaaspb.ObjectPreview{Kind: "ClassRuntime", Name: "cart-1", Change: "create"}
	a := &asked{units: make(chan *oaaspb.DeploymentUnit, 16), answers: map[string]func() (*oaaspb.UnitPreview, error){
		"c-1:8088": func() (*oaaspb.UnitPreview, error) {
			return &oaaspb.UnitPreview{Template: "dev", Objects: []*oaaspb.ObjectPreview{created}, Warnings: []string{"w"}}, nil
		},
		"c-2:8088": func() (*oaaspb.UnitPreview, error) {
			return &oaaspb.UnitPreview{Template: "dev", Objects: []*oaaspb.ObjectPreview{created, {
				Kind: "Deployment", Name: "cart-1", Change: "create", Reason: "QuotaExceeded", Message: "no more",
			}}}, nil
		},
		"c-3:8088": func() (*oaaspb.UnitPreview, error) { return nil, errors.New("out of luck") },
		"c-4:8088": func() (*oaaspb.UnitPreview, error) {
			return nil, failure{code: "CLUSTER_UNREACHABLE", message: "connection refused"}
		},
		"c-5:8088": func() (*oaaspb.UnitPreview, error) {
			return nil, failure{code: "NAME_TAKEN", message: "belongs to pm-2", refused: true}
		},
	}}
	h := newHarness(t, func(h *harness) { h.opts.Clusters = a })
	for _, name := range []string{"c-1", "c-2", "c-3", "c-4", "c-5"} {
		h.cluster(name, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	}
	h.must(http.StatusCreated, http.MethodPost, "/api/v1/packages", shopPackage)
	preview := func(query, doc string) (out map[string]*clusterPreview) {
		t.Helper()
		var body struct {
			Environments []struct {
				Env     string
				Cluster *clusterPreview
			}
		}
		w := h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments?dry_run"+query, doc)
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		out = map[string]*clusterPreview{}
		for _, e := range body.Environments {
			out[e.Env] = e.Cluster
		}
		return out
	}
	const all = `{"key":"a","package_name":"shop","class_key":"Cart","target_envs":["c-1","c-2","c-3","c-4","c-5"]}`
	want := map[string]*clusterPreview{
		"c-1": {Verdict: verdictAccepted, Template: "dev", Warnings: []string{"w"}, Objects: []objectPreview{
			{Kind: "ClassRuntime", Name: "cart-1", Change: "create"},
		}},
		"c-2": {Verdict: verdictRefused, Template: "dev", Code: "QuotaExceeded", Message: "Deployment/cart-1: no more", Objects: []objectPreview{
			{Kind: "ClassRuntime", Name: "cart-1", Change: "create"},
			{Kind: "Deployment", Name: "cart-1", Change: "create", Reason: "QuotaExceeded", Message: "no more"},
		}},
		"c-3": {Verdict: verdictUnknown, Code: "FAILED", Message: "out of luck"},
		"c-4": {Verdict: verdictUnknown, Code: "CLUSTER_UNREACHABLE", Message: "connection refused"},
		"c-5": {Verdict: verdictRefused, Code: "NAME_TAKEN", Message: "belongs to pm-2"},
	}
	if diff := cmp.Diff(want, preview("", all)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	index := h.store.State().Snapshot().Index()
	for range 5 {
		unit := <-a.units
		if d := unit.GetDelivery(); d.GetFence() != index+1 || d.GetDeploymentUid() == "" || d.GetContentHash() == "" {
			t.Errorf("a unit was shown with the delivery %v", d)
		}
	}

	for env, c := range preview("&clusters=false", all) {
		if c != nil {
			t.Errorf("%s was asked", env)
		}
	}
	h.must(http.StatusOK, http.MethodPost, "/api/v1/deployments", all)
	for env, c := range preview("", all) {
		if c != nil {
			t.Errorf("%s, where nothing would change, was asked", env)
		}
	}
	if n := len(a.units); n != 0 {
		t.Errorf("%d more questions", n)
	}
	if w := h.do(http.MethodPost, "/api/v1/deployments?dry_run&clusters=perhaps", all); w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
