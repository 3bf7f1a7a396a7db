package fsm

import (
	"slices"
	"strings"

	"github.com/hashicorp/go-memdb"

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
	txn *memdb.Txn
}

// Index is the index of the last command that the view has applied. It never
// goes back within a process.
func (s *Snapshot) Index() uint64 {
	m := s.meta()
	return max(m.pb.GetAppliedIndex(), m.floor)
}

// Meta is the state's row about itself.
func (s *Snapshot) Meta() *pmpb.Meta { return s.meta().pb }

func (s *Snapshot) meta() *metaRow { return one[*metaRow](s, TableMeta, indexID, metaKey) }

// Package gives the package of that name.
func (s *Snapshot) Package(name string) *Package {
	return one[*Package](s, TablePackages, indexID, name)
}

// Packages gives all packages by name.
func (s *Snapshot) Packages() []*Package { return all[*Package](s, TablePackages, indexID) }

// Deployment gives the deployment with that key.
func (s *Snapshot) Deployment(key string) *Deployment {
	return one[*Deployment](s, TableDeployments, indexID, key)
}

// DeploymentByUID gives the deployment whose present incarnation is uid.
func (s *Snapshot) DeploymentByUID(uid string) *Deployment {
	return one[*Deployment](s, TableDeployments, indexUID, uid)
}

// Deployments gives all deployments by key.
func (s *Snapshot) Deployments() []*Deployment {
	return all[*Deployment](s, TableDeployments, indexID)
}

// DeploymentsByPackage gives the deployments of a package by key.
func (s *Snapshot) DeploymentsByPackage(name string) []*Deployment {
	return all[*Deployment](s, TableDeployments, indexPackage, name)
}

// Plan gives the plan of the deployment with that key.
func (s *Snapshot) Plan(key string) *Plan { return one[*Plan](s, TablePlans, indexID, key) }

// Plans gives all plans by deployment key.
func (s *Snapshot) Plans() []*Plan { return all[*Plan](s, TablePlans, indexID) }

// Unit gives the unit with that id.
func (s *Snapshot) Unit(id string) *pmpb.Unit { return one[*pmpb.Unit](s, TableUnits, indexID, id) }

// Units gives all units by id, tombstones included.
func (s *Snapshot) Units() []*pmpb.Unit { return all[*pmpb.Unit](s, TableUnits, indexID) }

// UnitsByDeployment gives the units of one incarnation of a deployment by
// environment, tombstones included.
func (s *Snapshot) UnitsByDeployment(uid string) []*pmpb.Unit {
	return all[*pmpb.Unit](s, TableUnits, indexDeployment+"_prefix", uid)
}

// UnitsByEnv gives the units of one environment by id, tombstones included.
func (s *Snapshot) UnitsByEnv(env string) []*pmpb.Unit {
	units := all[*pmpb.Unit](s, TableUnits, indexChanged+"_prefix", env)
	slices.SortFunc(units, func(a, b *pmpb.Unit) int { return strings.Compare(a.GetId(), b.GetId()) })
	return units
}

// UnitsChangedSince gives the units of one environment whose last change has an
// index above the given one, in the order of their changes. Units that are gone
// are not among them.
func (s *Snapshot) UnitsChangedSince(env string, index uint64) func(yield func(*pmpb.Unit) bool) {
	return func(yield func(*pmpb.Unit) bool) {
		it, err := s.txn.LowerBound(TableUnits, indexChanged, changedKey(env, index+1))
		if err != nil {
			return
		}
		for raw := it.Next(); raw != nil; raw = it.Next() {
			if u := raw.(*pmpb.Unit); u.GetEnv() != env || !yield(u) {
				return
			}
		}
	}
}

// Cluster gives the cluster of that name.
func (s *Snapshot) Cluster(name string) *pmpb.Cluster {
	return one[*pmpb.Cluster](s, TableClusters, indexID, name)
}

// Clusters gives all clusters by name.
func (s *Snapshot) Clusters() []*pmpb.Cluster { return all[*pmpb.Cluster](s, TableClusters, indexID) }

// Member gives the package manager node with that server id.
func (s *Snapshot) Member(id string) *pmpb.Member {
	return one[*pmpb.Member](s, TableMembers, indexID, id)
}

// Members gives all package manager nodes by server id.
func (s *Snapshot) Members() []*pmpb.Member { return all[*pmpb.Member](s, TableMembers, indexID) }

// Deletion gives the unfinished deletion of the deployment with that uid.
func (s *Snapshot) Deletion(uid string) *pmpb.Deletion {
	return one[*pmpb.Deletion](s, TableDeletions, indexID, uid)
}

// Deletions gives all unfinished deletions by deployment uid.
func (s *Snapshot) Deletions() []*pmpb.Deletion {
	return all[*pmpb.Deletion](s, TableDeletions, indexID)
}

// FeatureLevel is the highest level of commands that may be proposed, at least 1.
func (s *Snapshot) FeatureLevel() uint32 { return max(s.Meta().GetFeatureLevel(), 1) }

// Autopilot gives the operators' settings of autopilot, nil when there are none.
func (s *Snapshot) Autopilot() *pmpb.Autopilot {
	return one[*pmpb.Autopilot](s, TableAutopilot, indexID, autopilotKey)
}

// Alarms gives the raised alarms by kind and server.
func (s *Snapshot) Alarms() []*pmpb.Alarm { return all[*pmpb.Alarm](s, TableAlarms, indexID) }

// Reply gives the answer that is remembered for an idempotency key.
func (s *Snapshot) Reply(key string) *pmpb.Reply {
	return one[*pmpb.Reply](s, TableReplies, indexID, key)
}

// WatchAll is closed when any command was applied, or the state was restored.
func (s *Snapshot) WatchAll() <-chan struct{} { return s.watchOne(TableMeta, metaKey) }

// WatchPackage watches one package.
func (s *Snapshot) WatchPackage(name string) <-chan struct{} { return s.watchOne(TablePackages, name) }

// WatchPackages watches all packages.
func (s *Snapshot) WatchPackages() <-chan struct{} { return s.watchMany(TablePackages, indexID) }

// WatchDeployment watches the row of one deployment, not its units.
func (s *Snapshot) WatchDeployment(key string) <-chan struct{} {
	return s.watchOne(TableDeployments, key)
}

// WatchDeployments watches the rows of all deployments.
func (s *Snapshot) WatchDeployments() <-chan struct{} { return s.watchMany(TableDeployments, indexID) }

// WatchUnit watches one unit.
func (s *Snapshot) WatchUnit(id string) <-chan struct{} { return s.watchOne(TableUnits, id) }

// WatchUnits watches all units.
func (s *Snapshot) WatchUnits() <-chan struct{} { return s.watchMany(TableUnits, indexID) }

// WatchUnitsByEnv watches the units of one environment.
func (s *Snapshot) WatchUnitsByEnv(env string) <-chan struct{} {
	return s.watchMany(TableUnits, indexChanged+"_prefix", env)
}

// WatchUnitsByDeployment watches the units of one deployment.
func (s *Snapshot) WatchUnitsByDeployment(uid string) <-chan struct{} {
	return s.watchMany(TableUnits, indexDeployment+"_prefix", uid)
}

// WatchCluster watches one cluster.
func (s *Snapshot) WatchCluster(name string) <-chan struct{} { return s.watchOne(TableClusters, name) }

// WatchClusters watches all clusters.
func (s *Snapshot) WatchClusters() <-chan struct{} { return s.watchMany(TableClusters, indexID) }

// WatchMembers watches all package manager nodes.
func (s *Snapshot) WatchMembers() <-chan struct{} { return s.watchMany(TableMembers, indexID) }

// WatchAutopilot watches the settings of autopilot.
func (s *Snapshot) WatchAutopilot() <-chan struct{} { return s.watchMany(TableAutopilot, indexID) }

// WatchAlarms watches all alarms.
func (s *Snapshot) WatchAlarms() <-chan struct{} { return s.watchMany(TableAlarms, indexID) }

// WatchDeletions watches all unfinished deletions.
func (s *Snapshot) WatchDeletions() <-chan struct{} { return s.watchMany(TableDeletions, indexID) }

// one gives the row under a unique key, the zero value when there is none.
// go-memdb's errors mean that the table, the index or the kind of the key does
// not exist; the callers in this file are the only ones and name constants.
func one[Row any](s *Snapshot, table, index, key string) Row {
	var none Row
	raw, err := s.txn.First(table, index, key)
	if err != nil || raw == nil {
		return none
	}
	return raw.(Row)
}

// all gives the rows under a key in the index's order; without a key, all rows.
func all[Row any](s *Snapshot, table, index string, key ...any) []Row {
	var rows []Row
	for row := range each[Row](s, table, index, key...) {
		rows = append(rows, row)
	}
	return rows
}

// each is all without the slice.
func each[Row any](s *Snapshot, table, index string, key ...any) func(yield func(Row) bool) {
	return func(yield func(Row) bool) {
		it, err := s.txn.Get(table, index, key...)
		if err != nil {
			return
		}
		for raw := it.Next(); raw != nil; raw = it.Next() {
			if !yield(raw.(Row)) {
				return
			}
		}
	}
}

func (s *Snapshot) watchOne(table, key string) <-chan struct{} {
	changed, _, err := s.txn.FirstWatch(table, indexID, key)
	if err != nil {
		return nil
	}
	return changed
}

func (s *Snapshot) watchMany(table, index string, key ...any) <-chan struct{} {
	it, err := s.txn.Get(table, index, key...)
	if err != nil {
		return nil
	}
	return it.WatchCh()
}
