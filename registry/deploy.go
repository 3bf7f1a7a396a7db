package registry

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
)

// DeployOutcome is the effect of Deploy.
type DeployOutcome struct {
	Key string
	UID string
	// UnitID is the id of the first environment's unit.
	UnitID string
	// Envs are the selected environments, in the plan's order.
	Envs []string
	// Created is false when an existing deployment was changed.
	Created bool
}

// Deploy creates or changes a deployment: it validates the wish against the
// stored package, fills in what was left empty, plans it, and commits
// deployment, plan and units together. No cluster is contacted; the answer does
// not depend on any being reachable.
func (r *Registry) Deploy(ctx context.Context, ri RequestInfo, dep *model.OClassDeployment) (*DeployOutcome, uint64, error) {
	if err := dep.Validate(); err != nil {
		return nil, 0, invalid("deployment", err)
	}
	// Minted outside of the attempts: a retried decision keeps its uid.
	fresh := r.newUID()
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		have := snap.Deployment(dep.Key)
		if err := ri.Precondition.check("Deployment "+dep.Key, deploymentIndex(have)); err != nil {
			return nil, err
		}
		uid := fresh
		if have != nil {
			uid = have.UID
		}
		w, err := r.decideDeployment(snap, dep, uid, intent{})
		if err != nil {
			return nil, err
		}
		if err := r.stage(snap, have, w); err != nil {
			return nil, err
		}
		w.guards = append(w.guards, guard(pmpb.Guard_TABLE_DEPLOYMENT, dep.Key, deploymentIndex(have)))
		d, err := w.command()
		if err != nil {
			return nil, fromStore(err)
		}
		action := "deployment.create"
		if have != nil {
			action = "deployment.update"
		}
		d.note = fsm.NewNote(action, dep.Key, "envs: "+strings.Join(w.plan.Clusters, " "))
		d.outcome = &DeployOutcome{Key: dep.Key, UID: uid, UnitID: w.units[0].GetId(), Envs: w.plan.Clusters, Created: have == nil}
		return d, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*DeployOutcome), index, nil
}

// wish is what one attempt to decide a deployment came to.
type wish struct {
	uid string
	doc *model.OClassDeployment
	// cls is the class that the units are made of.
	cls    *model.OClass
	plan   *scheduler.Plan
	units  []*pmpb.PlannedUnit
	guards []*pmpb.Guard
	// revised and rollout are set by stage.
	revised *pmpb.Revised
	rollout *pmpb.Rollout
	// shardsGiven is how far the shards of a deployment were numbered before.
	shardsGiven uint64
	// move is what has to happen before environments that are not in the plan are left.
	move *pmpb.Move
}

// intent is what somebody wants of a decision beside what the deployment says.
type intent struct {
	// rebalance moves it to something better, whatever its placement says.
	rebalance bool
	// cls takes the place of the class that the package has now.
	cls *model.OClass
	// reason is why environments are left; zero: a user wishes so.
	reason pmpb.MoveReason
	// fleet takes the place of the present one, and current that of where it runs.
	fleet   *scheduler.Fleet
	current []string
}

// decideDeployment makes the effective deployment, its plan and its units from
// one snapshot. The guards name every row that the decision depends on.
func (r *Registry) decideDeployment(snap *fsm.Snapshot, dep *model.OClassDeployment, uid string, want intent) (*wish, error) {
	pkg := snap.Package(dep.PackageName)
	if pkg == nil {
		return nil, errorf(NotFound, "Package not found: %s", dep.PackageName)
	}
	cls, err := findClass(pkg.Doc, dep.ClassKey)
	if err != nil {
		return nil, err
	}
	if want.cls != nil {
		cls = want.cls
	}
	if err := checkEnvs(snap, dep); err != nil {
		return nil, err
	}
	doc, err := enrich(dep, pkg.Doc, cls)
	if err != nil {
		return nil, err
	}
	fleet, current := want.fleet, want.current
	if fleet == nil {
		if fleet, err = r.fleetOf(snap); err != nil {
			return nil, err
		}
		current = kept(snap, uid)
	}
	if err := checkPlacementLevel(snap, doc.Placement); err != nil {
		return nil, err
	}
	if err := checkPodsLevel(snap, doc.Pods); err != nil {
		return nil, err
	}
	if err := checkRolloutLevel(snap, doc.Rollout); err != nil {
		return nil, err
	}
	if err := checkFailoverLevel(snap, doc.Failover); err != nil {
		return nil, err
	}
	if err := checkShards(doc.ODGM, 1); err != nil {
		return nil, err
	}
	plan, err := planOn(snap, fleet, current, uid, doc, cls, want.rebalance, r.now())
	if err != nil {
		return nil, err
	}
	if !uidIsFree(snap, uid, doc.ClassKey, plan.Clusters) {
		return nil, errorf(Unavailable, "The deployment's identity collides with another one; try again")
	}
	settle(doc, plan)
	if err := checkShards(doc.ODGM, len(plan.Clusters)); err != nil {
		return nil, err
	}
	w := &wish{uid: uid, doc: doc, cls: cls, plan: plan}
	w.guards = append(w.guards, guard(pmpb.Guard_TABLE_PACKAGE, dep.PackageName, pkg.ModifyIndex))
	if p := doc.Placement; p != nil && p.AntiAffinity != nil {
		for _, key := range p.AntiAffinity.Deployments {
			w.guards = append(w.guards, guard(pmpb.Guard_TABLE_DEPLOYMENT, key, deploymentIndex(snap.Deployment(key))))
		}
	}
	w.move = r.leave(snap, fleet, w, want.reason)
	grid, err := layoutOf(snap, uid, doc, w.move)
	if err != nil {
		return nil, err
	}
	if grid != nil {
		w.shardsGiven = grid.given
	}
	for i, env := range plan.Clusters {
		w.guards = append(w.guards, guard(pmpb.Guard_TABLE_CLUSTER, env, snap.Cluster(env).GetModifyIndex()))
		planned, err := newPlanned(grid.apply(buildUnit(uid, &plan.Assignments[i], doc, cls)))
		if err != nil {
			return nil, err
		}
		w.units = append(w.units, planned)
	}
	return w, nil
}

func (w *wish) command() (*decision, error) {
	doc, err := json.Marshal(w.doc)
	if err != nil {
		return nil, err
	}
	planned, err := json.Marshal(storedPlan{w.plan, w.shardsGiven})
	if err != nil {
		return nil, err
	}
	return &decision{cmd: &pmpb.Command{
		Guards: w.guards,
		Op: &pmpb.Command_CommitDeployment{CommitDeployment: &pmpb.CommitDeployment{
			Uid: w.uid, Document: doc, Plan: planned, Units: w.units, Revised: w.revised, Rollout: w.rollout, Move: w.move,
		}},
	}}, nil
}

// planOn asks the scheduler where in the fleet the deployment is to run, now. current is where
// it runs.
func planOn(snap *fsm.Snapshot, fleet *scheduler.Fleet, current []string, uid string, doc *model.OClassDeployment, cls *model.OClass, rebalance bool, now time.Time) (*scheduler.Plan, error) {
	placement, err := placementOf(snap, doc, now)
	if err != nil {
		return nil, err
	}
	functions, err := functionsWithPods(snap, uid, doc)
	if err != nil {
		return nil, err
	}
	spec := scheduler.Spec{
		Key:                doc.Key,
		TargetEnvs:         dedupe(doc.TargetEnvs),
		AvailableEnvs:      doc.AvailableEnvs,
		AvailabilityTarget: doc.NFRRequirements.Availability,
		Strong:             strong(cls),
		Kind:               kindOf(doc, cls),
		Placement:          placement,
		Prefer:             preferenceOf(doc.Placement),
		Stability:          stabilityOf(doc.Placement),
		Package:            doc.PackageName,
		Near:               locationsOf(doc),
		Shards:             shardsOf(uid, doc.ODGM),
		Functions:          functions,
	}
	if rebalance {
		spec.Stability = scheduler.Rebalance
	}
	p, err := fleet.Decide(spec, current)
	var (
		unknown *scheduler.UnknownClustersError
		none    *scheduler.NoCandidatesError
		input   *scheduler.InvalidInputError
		never   *scheduler.UnsatisfiableError
	)
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &unknown):
		return nil, errorf(InvalidArgument, "Invalid target envs: %v", unknown)
	case errors.As(err, &none):
		return nil, errorf(InvalidArgument, "Invalid target envs: no environment can take the deployment: %v", none)
	case errors.As(err, &never):
		return nil, errorf(Unprocessable, "The deployment cannot be planned: %v", never)
	case errors.As(err, &input):
		return nil, misplaced(input.Field, input.Problem)
	default:
		return nil, fromStore(err)
	}
}

func strong(cls *model.OClass) bool {
	return cls.StateSpec != nil && cls.StateSpec.ConsistencyModel == model.ConsistencyStrong
}

// kindOf is what it takes for a deployment of the class to be available: a class
// without state needs nothing but a place to run, and state is behind a majority if
// its consistency or its shards ask for one.
func kindOf(doc *model.OClassDeployment, cls *model.OClass) scheduler.Kind {
	switch shards := doc.ODGM.ShardType; {
	case strong(cls), shards != nil && *shards == shardTypeRaft:
		return scheduler.Quorum
	case cls.StateSpec == nil:
		return scheduler.Stateless
	default:
		return scheduler.Eventual
	}
}

// shardTypeRaft are shards whose replicas agree by majority.
const shardTypeRaft = "raft"

// settle writes the plan into the deployment as the contract shows it to
// clients. What the user set himself stays: replica_count and node ids.
func settle(doc *model.OClassDeployment, p *scheduler.Plan) {
	doc.TargetEnvs = slices.Clone(p.Clusters)
	if doc.ODGM.ReplicaCount == nil {
		n := uint32(len(p.Clusters))
		doc.ODGM.ReplicaCount = &n
	}
	if len(doc.ODGM.EnvNodeIDs) == 0 {
		doc.ODGM.EnvNodeIDs = map[string][]uint64{}
		for i := range p.Assignments {
			doc.ODGM.EnvNodeIDs[p.Assignments[i].Cluster] = p.Assignments[i].NodeIDs
		}
	}
	achieved := p.IfIndependent
	doc.Status = &model.DeploymentStatusSummary{
		ReplicationFactor:          uint32(len(p.Clusters)),
		SelectedEnvs:               slices.Clone(p.Clusters),
		AchievedQuorumAvailability: &achieved,
	}
}

// unsettle takes out of a stored deployment what settle put in, so that it can be planned
// anew: the environments unless the user insists on them, and the data nodes and the
// number of replicas that follow from them. A number that the user gave and that is the
// same is no different from ours.
func unsettle(doc *model.OClassDeployment, uid string, insists bool) {
	envs := doc.TargetEnvs
	if o := doc.ODGM; o != nil {
		if o.ReplicaCount != nil && int(*o.ReplicaCount) == len(envs) {
			o.ReplicaCount = nil
		}
		made := map[string][]uint64{}
		for env, id := range scheduler.NodeIDs(uid, envs) {
			made[env] = []uint64{id}
		}
		if maps.EqualFunc(made, o.EnvNodeIDs, slices.Equal) {
			o.EnvNodeIDs = nil
		}
	}
	if !insists {
		doc.TargetEnvs = nil
	}
}

// DeleteOutcome is the effect of DeleteDeployment.
type DeleteOutcome struct {
	Key string
	UID string
	// Envs are the environments that have to confirm.
	Envs []string
}

// DeleteDeployment removes a deployment and leaves a tombstone per unit. The
// key is free at once; each tombstone goes when its cluster has confirmed.
func (r *Registry) DeleteDeployment(ctx context.Context, ri RequestInfo, key string) (*DeleteOutcome, uint64, error) {
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		have := snap.Deployment(key)
		if have == nil {
			return nil, errorf(NotFound, "Deployment not found: %s", key)
		}
		if err := ri.Precondition.check("Deployment "+key, have.ModifyIndex); err != nil {
			return nil, err
		}
		outcome := &DeleteOutcome{Key: key, UID: have.UID, Envs: []string{}}
		for _, u := range snap.UnitsByDeployment(have.UID) {
			outcome.Envs = append(outcome.Envs, u.GetEnv())
		}
		return &decision{outcome: outcome, note: fsm.NewNote("deployment.delete", key, ""), cmd: &pmpb.Command{
			Guards: []*pmpb.Guard{guard(pmpb.Guard_TABLE_DEPLOYMENT, key, have.ModifyIndex)},
			Op:     &pmpb.Command_DeleteDeployment{DeleteDeployment: &pmpb.DeleteDeployment{Key: key, Uid: have.UID}},
		}}, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*DeleteOutcome), index, nil
}

func deploymentIndex(d *fsm.Deployment) uint64 {
	if d == nil {
		return 0
	}
	return d.ModifyIndex
}

// dedupe keeps the first of equal names, and trims none: names are exact.
func dedupe(names []string) []string {
	var out []string
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, strings.Clone(n))
		}
	}
	return out
}
