package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// listDeployments filters by ?package_name, ?class_key and ?target_env, for
// which ?target_cluster is another name.
func (s *Server) listDeployments(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	pkg, class, p := q.text("package_name"), q.text("class_key"), q.page()
	envs := slices.DeleteFunc([]string{q.text("target_env"), q.text("target_cluster")}, func(env string) bool { return env == "" })
	if q.err != nil {
		return q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	found := []*fsm.Deployment{}
	for _, dep := range snap.Deployments() {
		if (pkg == "" || dep.Doc.PackageName == pkg) && (class == "" || dep.Doc.ClassKey == class) && hasAll(dep.Doc.TargetEnvs, envs) {
			found = append(found, dep)
		}
	}
	docs := []*model.OClassDeployment{}
	for _, dep := range cut(found, p) {
		docs = append(docs, merged(snap, dep))
	}
	return writeJSON(w, http.StatusOK, docs)
}

func (s *Server) getDeployment(w http.ResponseWriter, r *http.Request) error {
	snap, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", deploymentTag(dep))
	w.Header().Set("PM-Deployment-UID", dep.UID)
	w.Header().Set("PM-Deployment-Generation", formatIndex(dep.Generation))
	return writeJSON(w, http.StatusOK, merged(snap, dep))
}

// readDeployment gives the deployment that the path names.
func (s *Server) readDeployment(w http.ResponseWriter, r *http.Request) (*fsm.Snapshot, *fsm.Deployment, error) {
	key := pathVar(r, "key")
	callOf(r.Context()).deployment = key
	snap, err := s.read(w, r)
	if err != nil {
		return nil, nil, err
	}
	dep := snap.Deployment(key)
	if dep == nil {
		return nil, nil, fail(registry.NotFound, "Deployment not found: %s", key)
	}
	return snap, dep, nil
}

func deploymentTag(dep *fsm.Deployment) string { return etag(dep.UID, dep.ModifyIndex) }

// merged is the stored document with what the clusters said since. The stored
// document is shared and is not written to.
func merged(snap *fsm.Snapshot, dep *fsm.Deployment) *model.OClassDeployment {
	doc := *dep.Doc
	units := snap.PlannedUnits(dep)
	if len(units) > 0 {
		doc.Condition = fsm.DeploymentCondition(units)
	}
	text := troubles(snap, units)
	for _, more := range []string{rolloutTrouble(snap.Rollout(doc.Key)), moveTrouble(dep.Move)} {
		if more != "" {
			text = strings.TrimPrefix(text+"; "+more, "; ")
		}
	}
	if doc.Status != nil {
		status := *doc.Status
		if text != "" {
			status.LastError = &text
		}
		status.Availability, status.Degraded = achieved(snap.Plan(doc.Key)), degraded(snap, units)
		doc.Status = &status
	}
	return &doc
}

// reasonUnreachable is why a deployment is degraded where nobody knows how it is.
const reasonUnreachable = "ClusterUnreachable"

// degraded has the reason of each environment whose unit has a fault, or cannot be reached:
// what it was when it last could is no news of now.
func degraded(snap *fsm.Snapshot, units []*pmpb.Unit) map[string]string {
	out := map[string]string{}
	for _, u := range units {
		if f := fsm.UnitFault(u); f != nil {
			out[u.GetEnv()] = f.Reason
		}
		if !u.GetTombstone() && fsm.Unreachable(snap.Cluster(u.GetEnv()).GetHealth()) {
			out[u.GetEnv()] = reasonUnreachable
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// achieved is the availability that a plan comes to, nil when there is no plan. A plan is
// long and this is near its beginning, so it is not read to its end.
func achieved(plan *fsm.Plan) *float64 {
	if plan == nil {
		return nil
	}
	in := json.NewDecoder(bytes.NewReader(plan.Document))
	if _, err := in.Token(); err != nil {
		return nil
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return nil
		}
		if key == "achieved" {
			var share float64
			if err := json.Unmarshal(value, &share); err != nil {
				return nil
			}
			return &share
		}
	}
	return nil
}

// maxTroubles bounds how many units a deployment's last error speaks of.
const maxTroubles = 8

// troubles says which clusters do not run their share and why. It is empty while
// nothing is wrong.
func troubles(snap *fsm.Snapshot, units []*pmpb.Unit) string {
	var texts []string
	for _, u := range units {
		if text := trouble(snap, u); text != "" {
			texts = append(texts, u.GetEnv()+": "+text)
		}
	}
	if more := len(texts) - maxTroubles; more > 0 {
		texts = append(texts[:maxTroubles], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

func trouble(snap *fsm.Snapshot, u *pmpb.Unit) string {
	condition := fsm.UnitCondition(u)
	switch waiting := u.GetWaiting(); {
	case u.GetTombstone():
		return ""
	case waiting != nil && !fsm.Acknowledged(u):
		return fmt.Sprintf("%s (%s)", waiting.GetMessage(), waiting.GetCode())
	case fsm.Unreachable(snap.Cluster(u.GetEnv()).GetHealth()):
		since := ""
		if at := snap.Cluster(u.GetEnv()).GetDisconnectedSince(); at != nil {
			since = " since " + zulu(at.AsTime())
		}
		return fmt.Sprintf("the cluster cannot be reached%s; when it last could, the unit was %s", since, condition)
	case condition == model.ConditionDown:
		return u.GetRuntime().GetStatus().GetMessage()
	}
	if f := fsm.UnitFault(u); f != nil {
		return fmt.Sprintf("%s (%s)", f.Message, f.Reason)
	}
	if c := snap.Cluster(u.GetEnv()); fsm.Acknowledged(u) && c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED {
		return fmt.Sprintf("%s; when the cluster last told, the unit was %s", c.GetHealthMessage(), condition)
	}
	return ""
}

// deploy creates or changes a deployment. With ?wait it answers when the
// deployment is available, or with 202 when that takes longer.
func (s *Server) deploy(w http.ResponseWriter, r *http.Request) error {
	dep, body, err := readDocument(s, w, r, model.ReadDeployment)
	if err != nil {
		return err
	}
	callOf(r.Context()).deployment = dep.Key
	q := parseQuery(r.URL.RawQuery)
	if q.flag("dry_run") && q.err == nil {
		return s.previewDeployment(w, r, dep)
	}
	if wait := q.duration("wait"); q.err == nil && wait > s.opts.MaxWait {
		return fail(registry.InvalidArgument, "wait may be at most %s", s.opts.MaxWait)
	}
	if q.err != nil {
		return q.err
	}
	ans, err := s.write(r, operation{
		body: body,
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			return flat(s.opts.Registry.Deploy(ctx, ri, dep))
		},
		reply: func(outcome any) (int, []byte) {
			id := dep.Key
			if out, ok := outcome.(*registry.DeployOutcome); ok {
				id = out.UnitID
			}
			return encoded(http.StatusOK, newWritten(id, "created", "Deployment created successfully"))
		},
		tag: s.deploymentTagAt(dep.Key),
	})
	if err != nil {
		return err
	}
	// Whoever the client is connected to waits, not the leader: the wait then
	// survives a change of the leader.
	if wait := s.waitOf(r); wait > 0 && ans.status == http.StatusOK && callOf(r.Context()).hop == nil {
		ans = s.await(r.Context(), dep.Key, ans, wait)
	}
	ans.send(w)
	return nil
}

func (s *Server) deploymentTagAt(key string) func(index uint64) string {
	return func(index uint64) string {
		dep := s.opts.Registry.State().Snapshot().Deployment(key)
		if dep == nil || dep.ModifyIndex != index {
			return ""
		}
		return deploymentTag(dep)
	}
}

// deleted is the answer to the deletion of a deployment.
type deleted struct {
	Message     string   `json:"message"`
	ID          string   `json:"id"`
	DeletedEnvs []string `json:"deleted_envs"`
}

// deleteDeployment answers when the deletion is committed. With ?force and ?orphan it does
// not wait for environments that cannot be reached.
func (s *Server) deleteDeployment(w http.ResponseWriter, r *http.Request) error {
	if err := noDryRun(r); err != nil {
		return err
	}
	key := pathVar(r, "key")
	callOf(r.Context()).deployment = key
	force, envs, err := giveUp(parseQuery(r.URL.RawQuery))
	if err != nil {
		return err
	}
	if force {
		return s.abandon(w, r, func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			return flat(s.opts.Registry.ForceDelete(ctx, ri, key, envs))
		})
	}
	ans, err := s.write(r, operation{
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			return flat(s.opts.Registry.DeleteDeployment(ctx, ri, key))
		},
		reply: func(outcome any) (int, []byte) {
			body := deleted{Message: "Deployment deleted across environments", ID: key, DeletedEnvs: []string{}}
			if out, ok := outcome.(*registry.DeleteOutcome); ok {
				body.DeletedEnvs = append(body.DeletedEnvs, out.Envs...)
			}
			return encoded(http.StatusOK, body)
		},
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}

// mappings tells the unit id per environment, under the two names that clients
// of different ages read.
type mappings struct {
	DeploymentKey string            `json:"deployment_key"`
	ClusterIDs    map[string]string `json:"cluster_ids"`
	EnvIDs        map[string]string `json:"env_ids"`
}

// envMappings of an unknown deployment are empty.
func (s *Server) envMappings(w http.ResponseWriter, r *http.Request) error {
	key := pathVar(r, "key")
	callOf(r.Context()).deployment = key
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	ids := map[string]string{}
	if dep := snap.Deployment(key); dep != nil {
		for _, u := range snap.UnitsByDeployment(dep.UID) {
			if !u.GetTombstone() {
				ids[u.GetEnv()] = u.GetId()
			}
		}
	}
	return writeJSON(w, http.StatusOK, mappings{DeploymentKey: key, ClusterIDs: ids, EnvIDs: ids})
}

// getPlan gives the last plan with its explanation, as the scheduler wrote it.
func (s *Server) getPlan(w http.ResponseWriter, r *http.Request) error {
	snap, dep, err := s.readDeployment(w, r)
	if err != nil {
		return err
	}
	plan := snap.Plan(dep.Doc.Key)
	if plan == nil {
		return fail(registry.NotFound, "Plan not found: %s", dep.Doc.Key)
	}
	sendPlan(w, plan)
	return nil
}
