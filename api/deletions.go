package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// deletion is a deleted deployment of which something is left in a cluster.
type deletion struct {
	DeploymentUID string       `json:"deployment_uid"`
	Key           string       `json:"key"`
	PackageName   string       `json:"package_name"`
	ClassKey      string       `json:"class_key"`
	Envs          []string     `json:"envs"`
	ConfirmedEnvs []string     `json:"confirmed_envs"`
	PendingEnvs   []pendingEnv `json:"pending_envs"`
	// OrphanedEnvs are no longer waited for; absent when there are none.
	OrphanedEnvs []string `json:"orphaned_envs,omitempty"`
	DeletedAt    *string  `json:"deleted_at"`
	// Progress says all that in one line. Events do not have it.
	Progress string `json:"progress,omitempty"`
}

// pendingEnv is an environment that has not confirmed, with the reason.
type pendingEnv struct {
	Env    string  `json:"env"`
	Reason string  `json:"reason"`
	Since  *string `json:"since"`
	// Code is that of the unit's waiting; absent while nothing is in the way.
	Code string `json:"code,omitempty"`
	// UnreachableSince is absent while the environment can be reached.
	UnreachableSince *string `json:"unreachable_since,omitempty"`
}

// listDeletions filters by ?key.
func (s *Server) listDeletions(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	key := q.text("key")
	if q.err != nil {
		return q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	list := []deletion{}
	for _, d := range snap.Deletions() {
		if key == "" || d.GetDeploymentKey() == key {
			list = append(list, tellDeletion(snap, d))
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

// getDeletion tells how far the deletion of the deployment with a uid is. One that is
// complete is not found.
func (s *Server) getDeletion(w http.ResponseWriter, r *http.Request) error {
	uid := pathVar(r, "uid")
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	d := snap.Deletion(uid)
	if d == nil {
		return fail(registry.NotFound, "Deletion not found: %s", uid)
	}
	return writeJSON(w, http.StatusOK, tellDeletion(snap, d))
}

// newDeletion tells what the row of a deletion knows; the units know more about
// what is pending.
func newDeletion(d *pmpb.Deletion) deletion {
	out := deletion{
		DeploymentUID: d.GetDeploymentUid(), Key: d.GetDeploymentKey(), PackageName: d.GetPackageName(), ClassKey: d.GetClassKey(),
		Envs: append([]string{}, d.GetEnvs()...), ConfirmedEnvs: append([]string{}, d.GetConfirmedEnvs()...),
		PendingEnvs: []pendingEnv{}, OrphanedEnvs: d.GetOrphanedEnvs(), DeletedAt: stampText(d.GetDeletedAt()),
	}
	for _, env := range d.GetEnvs() {
		if !slices.Contains(d.GetConfirmedEnvs(), env) && !slices.Contains(d.GetOrphanedEnvs(), env) {
			out.PendingEnvs = append(out.PendingEnvs, pendingEnv{Env: env, Reason: "The cluster has not confirmed yet", Since: out.DeletedAt})
		}
	}
	return out
}

// tellDeletion tells what there is to know of a deletion.
func tellDeletion(snap *fsm.Snapshot, d *pmpb.Deletion) deletion {
	out := newDeletion(d)
	for _, u := range snap.UnitsByDeployment(d.GetDeploymentUid()) {
		why := u.GetWaiting()
		if i := slices.IndexFunc(out.PendingEnvs, func(p pendingEnv) bool { return p.Env == u.GetEnv() }); i >= 0 && why != nil {
			p := &out.PendingEnvs[i]
			p.Code, p.Reason, p.Since = why.GetCode(), why.GetMessage(), stampText(why.GetSince())
		}
	}
	unreachable, since := 0, time.Time{}
	for i := range out.PendingEnvs {
		p := &out.PendingEnvs[i]
		if !registry.ClusterLost(snap, p.Env) {
			continue
		}
		unreachable++
		p.UnreachableSince = p.Since // of one that is not registered nothing else is known
		if at := snap.Cluster(p.Env).GetHealthSince(); at != nil {
			p.UnreachableSince = stampText(at)
			if since.IsZero() || at.AsTime().Before(since) {
				since = at.AsTime()
			}
		}
	}
	out.Progress = progressOf(&out, unreachable, since)
	return out
}

// progressOf is a deletion in one line: 2 of 3 confirmed, 1 unreachable since a time.
func progressOf(d *deletion, unreachable int, since time.Time) string {
	parts := []string{fmt.Sprintf("%d of %d confirmed", len(d.ConfirmedEnvs), len(d.Envs))}
	if n := len(d.OrphanedEnvs); n > 0 {
		parts = append(parts, fmt.Sprintf("%d orphaned", n))
	}
	if n := len(d.PendingEnvs) - unreachable; n > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", n))
	}
	if unreachable > 0 {
		text := fmt.Sprintf("%d unreachable", unreachable)
		if !since.IsZero() {
			text += " since " + since.UTC().Format(time.RFC3339)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// abandoned is the answer to a deletion that was given up for some environments.
type abandoned struct {
	deleted
	DeploymentUID string `json:"deployment_uid"`
	// Orphaned are what is left behind, and PendingEnvs those that are still waited for.
	Orphaned    []orphaned `json:"orphaned"`
	PendingEnvs []string   `json:"pending_envs"`
}

type orphaned struct {
	Env    string `json:"env"`
	UnitID string `json:"unit_id"`
}

// giveUp reads what a request says about not waiting for environments. That takes two
// words, since one of them is given too easily.
func giveUp(q *query) (force bool, envs []string, err error) {
	force, orphan := q.flag("force"), q.flag("orphan")
	envs = q.list("env")
	switch {
	case q.err != nil:
		return false, nil, q.err
	case force != orphan:
		return false, nil, fail(registry.InvalidArgument, "To give up waiting for environments, and leave behind what they have, takes both force=true and orphan=true")
	case !force && len(envs) > 0:
		return false, nil, fail(registry.InvalidArgument, "env names what is given up, which takes force=true and orphan=true")
	}
	return force, envs, nil
}

// abandonDeletion gives up waiting for environments to confirm a deletion.
func (s *Server) abandonDeletion(w http.ResponseWriter, r *http.Request) error {
	if err := noDryRun(r); err != nil {
		return err
	}
	force, envs, err := giveUp(parseQuery(r.URL.RawQuery))
	if err != nil {
		return err
	}
	if !force {
		return fail(registry.InvalidArgument, "A deletion ends when all environments have confirmed. To give up waiting for those that cannot be reached takes force=true and orphan=true")
	}
	uid := pathVar(r, "uid")
	return s.abandon(w, r, func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
		return flat(s.opts.Registry.Orphan(ctx, ri, uid, envs))
	})
}

func (s *Server) abandon(w http.ResponseWriter, r *http.Request, run func(context.Context, registry.RequestInfo) (any, uint64, error)) error {
	ans, err := s.write(r, operation{run: run, reply: func(outcome any) (int, []byte) {
		body := abandoned{Orphaned: []orphaned{}, PendingEnvs: []string{}, deleted: deleted{DeletedEnvs: []string{}}}
		out, ok := outcome.(*registry.OrphanOutcome)
		if !ok {
			return encoded(http.StatusOK, body)
		}
		body.Message = "1 unit is left behind; it is removed when its environment comes back"
		if n := len(out.Orphans); n != 1 {
			body.Message = fmt.Sprintf("%d units are left behind; they are removed when their environments come back", n)
		}
		body.ID, body.DeploymentUID = out.Key, out.UID
		for _, o := range out.Orphans {
			body.Orphaned = append(body.Orphaned, orphaned{Env: o.Env, UnitID: o.UnitID})
			body.DeletedEnvs = append(body.DeletedEnvs, o.Env)
		}
		body.PendingEnvs = append(body.PendingEnvs, out.Pending...)
		body.DeletedEnvs = append(body.DeletedEnvs, out.Pending...)
		slices.Sort(body.DeletedEnvs)
		body.DeletedEnvs = slices.Compact(body.DeletedEnvs)
		return encoded(http.StatusOK, body)
	}})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}
