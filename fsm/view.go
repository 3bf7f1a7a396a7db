package fsm

import (
	"iter"
	"slices"
	"strings"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// Snapshot is a view of the state at one index. It never changes, may be kept
// and may be used by many goroutines. All rows that it gives are shared and must
// not be written to; absent rows are nil.
//
// Each Watch method gives a channel that is closed once what it is named after
// differs from this view. It may close without a difference, never the other way
// round, and it is closed already when the view is outdated.
type Snapshot struct {
	store     *store
	publisher *publisher
}

// Index is the index of the last command that the view has applied. It never
// goes back within a process.
func (s *Snapshot) Index() uint64 {
	m := s.meta()
	return max(m.pb.GetAppliedIndex(), m.floor)
}

// Meta is the state's row about itself.
func (s *Snapshot) Meta() *pmpb.Meta { return s.meta().pb }

func (s *Snapshot) meta() *metaRow { return s.store.meta().get(nil) }

func packageProbe(name string) *Package { return &Package{Doc: &model.OPackage{Name: name}} }

func deploymentProbe(key string) *Deployment {
	return &Deployment{Doc: &model.OClassDeployment{Key: key}}
}

// Package gives the package of that name.
func (s *Snapshot) Package(name string) *Package { return s.store.packages().get(packageProbe(name)) }

// Packages gives all packages by name.
func (s *Snapshot) Packages() []*Package { return slices.Collect(s.store.packages().each()) }

// Deployment gives the deployment with that key.
func (s *Snapshot) Deployment(key string) *Deployment {
	return s.store.deployments().get(deploymentProbe(key))
}

// DeploymentByUID gives the deployment whose present incarnation is uid.
func (s *Snapshot) DeploymentByUID(uid string) *Deployment {
	return s.store.deployments().find(deploymentsByUID, &Deployment{UID: uid})
}

// Deployments gives all deployments by key.
func (s *Snapshot) Deployments() []*Deployment { return slices.Collect(s.store.deployments().each()) }

// DeploymentsByPackage gives the deployments of a package by key.
func (s *Snapshot) DeploymentsByPackage(name string) []*Deployment {
	first := &Deployment{Doc: &model.OClassDeployment{PackageName: name}}
	return slices.Collect(while(s.store.deployments().from(deploymentsByPackage, first), func(d *Deployment) bool {
		return d.Doc.PackageName == name
	}))
}

// Plan gives the plan of the deployment with that key.
func (s *Snapshot) Plan(key string) *Plan { return s.store.plans().get(&Plan{DeploymentKey: key}) }

// Plans gives all plans by deployment key.
func (s *Snapshot) Plans() []*Plan { return slices.Collect(s.store.plans().each()) }

// Unit gives the unit with that id.
func (s *Snapshot) Unit(id string) *pmpb.Unit { return s.store.units().get(&pmpb.Unit{Id: id}) }

// Units gives all units by id, tombstones included.
func (s *Snapshot) Units() []*pmpb.Unit { return slices.Collect(s.store.units().each()) }

// UnitsByDeployment gives the units of one incarnation of a deployment by
// environment, tombstones included.
func (s *Snapshot) UnitsByDeployment(uid string) []*pmpb.Unit {
	return slices.Collect(unitsOf(s.store, uid))
}

func unitsOf(s *store, uid string) iter.Seq[*pmpb.Unit] {
	return while(s.units().from(unitsByDeployment, &pmpb.Unit{DeploymentUid: uid}), func(u *pmpb.Unit) bool {
		return u.GetDeploymentUid() == uid
	})
}

// UnitsByEnv gives the units of one environment by id, tombstones included.
func (s *Snapshot) UnitsByEnv(env string) []*pmpb.Unit {
	units := slices.Collect(s.UnitsChangedSince(env, 0))
	slices.SortFunc(units, func(a, b *pmpb.Unit) int { return strings.Compare(a.GetId(), b.GetId()) })
	return units
}

// UnitsChangedSince gives the units of one environment whose last change has an
// index above the given one, in the order of their changes. Units that are gone
// are not among them.
func (s *Snapshot) UnitsChangedSince(env string, index uint64) iter.Seq[*pmpb.Unit] {
	return while(s.store.units().from(unitsByChange, &pmpb.Unit{Env: env, ModifyIndex: index + 1}), func(u *pmpb.Unit) bool {
		return u.GetEnv() == env
	})
}

// Cluster gives the cluster of that name.
func (s *Snapshot) Cluster(name string) *pmpb.Cluster {
	return s.store.clusters().get(&pmpb.Cluster{Name: name})
}

// Clusters gives all clusters by name.
func (s *Snapshot) Clusters() []*pmpb.Cluster { return slices.Collect(s.store.clusters().each()) }

// Member gives the package manager node with that server id.
func (s *Snapshot) Member(id string) *pmpb.Member {
	return s.store.members().get(&pmpb.Member{ServerId: id})
}

// Members gives all package manager nodes by server id.
func (s *Snapshot) Members() []*pmpb.Member { return slices.Collect(s.store.members().each()) }

// Deletion gives the unfinished deletion of the deployment with that uid.
func (s *Snapshot) Deletion(uid string) *pmpb.Deletion {
	return s.store.deletions().get(&pmpb.Deletion{DeploymentUid: uid})
}

// Deletions gives all unfinished deletions by deployment uid.
func (s *Snapshot) Deletions() []*pmpb.Deletion { return slices.Collect(s.store.deletions().each()) }

// Rollout gives the last rollout of the deployment with that key.
func (s *Snapshot) Rollout(key string) *pmpb.Rollout {
	return s.store.rollouts().get(&pmpb.Rollout{DeploymentKey: key})
}

// Rollouts gives the last rollouts of all deployments by key.
func (s *Snapshot) Rollouts() []*pmpb.Rollout { return slices.Collect(s.store.rollouts().each()) }

// FeatureLevel is the highest level of commands that may be proposed, at least 1.
func (s *Snapshot) FeatureLevel() uint32 { return max(s.Meta().GetFeatureLevel(), 1) }

// Autopilot gives the operators' settings of autopilot, nil when there are none.
func (s *Snapshot) Autopilot() *pmpb.Autopilot { return s.store.autopilot().get(nil) }

// Alarms gives the raised alarms by kind and server.
func (s *Snapshot) Alarms() []*pmpb.Alarm { return slices.Collect(s.store.alarms().each()) }

// Reply gives the answer that is remembered for an idempotency key.
func (s *Snapshot) Reply(key string) *pmpb.Reply { return s.store.replies().get(&pmpb.Reply{Key: key}) }
