package api

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/registry"
	"oaas.io/control-plane/scheduler"
)

// Clusters tells what a unit would do in a cluster. Errors may have the methods of
// previewFailure.
type Clusters interface {
	Preview(ctx context.Context, cluster, address string, unit *oaaspb.DeploymentUnit) (*oaaspb.UnitPreview, error)
}

// previewFailure is an error that says whether the cluster would not take the unit, or
// could not be asked, and why.
type previewFailure interface {
	error
	Refused() bool
	Code() string
	Message() string
}

// askedAtOnce bounds the clusters that one dry run asks at the same time.
const askedAtOnce = 16

// preview is the answer to ?dry_run on a deployment.
type preview struct {
	DryRun       bool            `json:"dry_run"`
	Key          string          `json:"key"`
	Change       registry.Change `json:"change"`
	Environments []envPreview    `json:"environments"`
	Plan         *scheduler.Plan `json:"plan"`
}

type envPreview struct {
	registry.EnvChange
	// Cluster is what the cluster says of it; absent when it would be sent nothing new.
	Cluster *clusterPreview `json:"cluster,omitempty"`
}

// verdict is whether a cluster would take a unit.
type verdict string

const (
	verdictAccepted verdict = "accepted"
	// verdictRefused: it would not, or not all of its objects.
	verdictRefused verdict = "refused"
	// verdictUnknown: it could not be asked, or cannot tell.
	verdictUnknown verdict = "unknown"
)

type clusterPreview struct {
	Verdict verdict `json:"verdict"`
	// Code and Message are why, unless it is accepted.
	Code     string          `json:"code,omitempty"`
	Message  string          `json:"message,omitempty"`
	Template string          `json:"template,omitempty"`
	Objects  []objectPreview `json:"objects,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
}

type objectPreview struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Change string `json:"change"`
	// Reason and Message are why the cluster would not have it.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// previewDeployment tells what posting the deployment would do. Every node can: it
// takes a read, not a write. With ?clusters=false only the plan is told.
func (s *Server) previewDeployment(w http.ResponseWriter, r *http.Request, dep *model.OClassDeployment) error {
	return s.tellPreview(w, r, func(snap *fsm.Snapshot, pre registry.Precondition) (*registry.Preview, error) {
		return s.opts.Registry.Preview(snap, dep, pre)
	})
}

// tellPreview answers a dry run.
func (s *Server) tellPreview(w http.ResponseWriter, r *http.Request, decide func(*fsm.Snapshot, registry.Precondition) (*registry.Preview, error)) error {
	q := parseQuery(r.URL.RawQuery)
	ask := !q.values.Has("clusters") || q.flag("clusters")
	if q.err != nil {
		return q.err
	}
	pre, err := precondition(r.Header)
	if err != nil {
		return err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	p, err := decide(snap, pre)
	if err != nil {
		return err
	}
	out := preview{DryRun: true, Key: p.Key, Change: p.Change, Plan: p.Plan}
	for _, change := range p.Envs {
		out.Environments = append(out.Environments, envPreview{EnvChange: change})
	}
	if ask && s.opts.Clusters != nil {
		address := func(env string) string { return snap.Cluster(env).GetAddress() }
		s.askClusters(r.Context(), address, p.Units, out.Environments)
	}
	return writeJSON(w, http.StatusOK, out)
}

// askClusters fills in what the clusters say of their units.
func (s *Server) askClusters(ctx context.Context, address func(env string) string, units map[string]*oaaspb.DeploymentUnit, envs []envPreview) {
	var asking sync.WaitGroup
	defer asking.Wait()
	turns := make(chan struct{}, askedAtOnce)
	for i := range envs {
		unit := units[envs[i].Env]
		if unit == nil {
			continue
		}
		asking.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			envs[i].Cluster = newClusterPreview(s.opts.Clusters.Preview(ctx, envs[i].Env, address(envs[i].Env), unit))
		})
	}
}

func newClusterPreview(p *oaaspb.UnitPreview, err error) *clusterPreview {
	if err != nil {
		out := &clusterPreview{Verdict: verdictUnknown, Code: "FAILED", Message: clipText(err.Error())}
		var failure previewFailure
		if errors.As(err, &failure) {
			out.Code, out.Message = failure.Code(), clipText(failure.Message())
			if failure.Refused() {
				out.Verdict = verdictRefused
			}
		}
		return out
	}
	out := &clusterPreview{Verdict: verdictAccepted, Template: clipText(p.GetTemplate())}
	for _, o := range p.GetObjects()[:min(len(p.GetObjects()), maxPreviewed)] {
		one := objectPreview{
			Kind: clipText(o.GetKind()), Name: clipText(o.GetName()), Change: clipText(o.GetChange()),
			Reason: clipText(o.GetReason()), Message: clipText(o.GetMessage()),
		}
		if one.Reason != "" && out.Verdict == verdictAccepted {
			out.Verdict, out.Code, out.Message = verdictRefused, one.Reason, one.Kind+"/"+one.Name+": "+one.Message
		}
		out.Objects = append(out.Objects, one)
	}
	for _, text := range p.GetWarnings()[:min(len(p.GetWarnings()), maxPreviewed)] {
		out.Warnings = append(out.Warnings, clipText(text))
	}
	return out
}

// maxPreviewed bounds what is told of one cluster, which may say anything.
const maxPreviewed = 256
