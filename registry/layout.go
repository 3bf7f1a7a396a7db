package registry

import (
	"encoding/json"
	"maps"
	"slices"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/shard"
)

// layout is who has a part of the data grid of a deployment, and who holds which shards of
// it. It is the same for all of its units. nil is of a deployment without a grid.
type layout struct {
	grid  *model.ODGMDataSpec
	table []*oaaspb.ShardAssignmentSpec
	// given is the highest number that a shard had before.
	given uint64
}

// storedPlan is a plan as it is kept: with what has to be known of shards that are gone when
// there are others. Whatever makes one go was planned while it was there.
type storedPlan struct {
	*scheduler.Plan
	ShardsGiven uint64 `json:"shards_given,omitempty"`
}

// layoutOf gives the layout of a deployment that follows the one that its units have. While
// one with a quorum moves, whoever joins is a member from the beginning, and holds shards
// once it has a vote.
func layoutOf(snap *fsm.Snapshot, uid string, doc *model.OClassDeployment, m *pmpb.Move) (*layout, error) {
	if doc.ODGM == nil {
		return nil, nil
	}
	out, holders := &layout{grid: doc.ODGM}, []string(nil)
	if len(m.GetVoters()) > 0 {
		holders = m.GetVoters()
		out.grid = movingGrid(uid, doc, m)
	}
	last, given, err := lastTable(snap, uid)
	if err != nil {
		return nil, err
	}
	out.given = given
	partitions, replicas := shardCounts(out.grid)
	out.table = tableSpec(shard.Next(last, int(partitions), int(replicas), membersOf(out.grid, holders), given))
	return out, nil
}

// movingGrid is the data grid of a deployment that moves: those that it leaves are part of it
// until they are gone, and there is a replica for each vote where there is one for each
// environment otherwise.
func movingGrid(uid string, doc *model.OClassDeployment, m *pmpb.Move) *model.ODGMDataSpec {
	grid := *doc.ODGM
	grid.EnvNodeIDs = maps.Clone(doc.ODGM.EnvNodeIDs)
	if grid.EnvNodeIDs == nil {
		grid.EnvNodeIDs = map[string][]uint64{}
	}
	for _, l := range m.GetLeaving() {
		if grid.EnvNodeIDs[l.GetEnv()] == nil {
			grid.EnvNodeIDs[l.GetEnv()] = []uint64{scheduler.NodeID(uid, l.GetEnv())}
		}
	}
	if n := doc.ODGM.ReplicaCount; n != nil && int(*n) == len(doc.TargetEnvs) {
		voters := uint32(len(m.GetVoters()))
		grid.ReplicaCount = &voters
	}
	return &grid
}

// lastTable reads from the units of a deployment who holds its shards now, and the highest
// number that was given: what is left, or was, may still have it.
func lastTable(snap *fsm.Snapshot, uid string) (table []shard.Assignment, given uint64, err error) {
	dep := snap.DeploymentByUID(uid)
	if dep != nil {
		given = shardsGiven(snap.Plan(dep.Doc.Key))
	}
	var fence uint64
	for _, u := range snap.UnitsByDeployment(uid) {
		stays := !u.GetTombstone() && (dep == nil || !dep.Leaves(u.GetEnv()))
		if stays && table != nil && u.GetFence() <= fence || len(u.GetDesired()) == 0 {
			continue // all that stay were told the same; a stray was told nothing
		}
		unit, err := fsm.Desired(u)
		if err != nil {
			return nil, 0, fromStore(err)
		}
		told := tableOf(unit.GetOdgmConfig())
		for _, a := range told {
			given = max(given, slices.Max(append([]uint64{0}, a.ShardIDs...)))
		}
		if stays {
			table, fence = told, u.GetFence()
		}
	}
	return table, given, nil
}

// shardsGiven reads from a stored plan how far shards were numbered.
func shardsGiven(p *fsm.Plan) uint64 {
	var stored struct {
		ShardsGiven uint64 `json:"shards_given"`
	}
	if p == nil || json.Unmarshal(p.Document, &stored) != nil {
		return 0 // it is of another release, which counted on the units alone
	}
	return stored.ShardsGiven
}

// tableOf reads the table that all collections of a unit share.
func tableOf(grid *oaaspb.OdgmConfig) []shard.Assignment {
	assignments := grid.GetCollectionAssignments()
	if len(assignments) == 0 {
		return nil
	}
	var out []shard.Assignment
	for _, a := range assignments[sortedKeys(assignments)[0]].GetAssignments() {
		out = append(out, shard.Assignment{Primary: a.GetPrimary(), Replica: a.GetReplica(), ShardIDs: a.GetShardIds()})
	}
	return out
}

func tableSpec(table []shard.Assignment) []*oaaspb.ShardAssignmentSpec {
	var out []*oaaspb.ShardAssignmentSpec
	for _, a := range table {
		primary := a.Primary
		out = append(out, &oaaspb.ShardAssignmentSpec{Primary: &primary, Replica: a.Replica, ShardIds: a.ShardIDs})
	}
	return out
}

// membersOf are the data nodes of all environments, or only of some.
func membersOf(spec *model.ODGMDataSpec, holders []string) []uint64 {
	var members []uint64
	for name, ids := range spec.EnvNodeIDs {
		if len(holders) == 0 || slices.Contains(holders, name) {
			members = append(members, ids...)
		}
	}
	return members
}

// apply writes the layout into the content of a unit, which is the caller's own, and gives it.
func (l *layout) apply(unit *oaaspb.DeploymentUnit) *oaaspb.DeploymentUnit {
	if l != nil && unit.GetOdgmConfig() != nil {
		layGrid(unit.OdgmConfig, unit.GetTargetEnv(), l.grid, l.table)
	}
	return unit
}

// layGrid writes the members of the data grid, and who of them holds which shards.
func layGrid(out *oaaspb.OdgmConfig, env string, spec *model.ODGMDataSpec, table []*oaaspb.ShardAssignmentSpec) {
	out.ReplicaCount, out.OdgmNodeId = spec.ReplicaCount, nil
	out.EnvNodeIds = map[string]*oaaspb.OdgmNodeIds{}
	out.CollectionAssignments = map[string]*oaaspb.CollectionShardAssignments{}
	for name, ids := range spec.EnvNodeIDs {
		out.EnvNodeIds[name] = &oaaspb.OdgmNodeIds{Ids: ids}
	}
	if ids := spec.EnvNodeIDs[env]; len(ids) > 0 {
		out.OdgmNodeId = &ids[0]
	}
	if len(table) > 0 {
		for _, collection := range spec.Collections {
			out.CollectionAssignments[collection] = &oaaspb.CollectionShardAssignments{Assignments: table}
		}
	}
}
