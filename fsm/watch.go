package fsm

import (
	"iter"
	"sync"

	"oaas.io/control-plane/proto/pmpb"
)

// scope is how much of a table a watch is about.
type scope int

const (
	wholeTable scope = iota
	oneRow
	// ofEnv and ofDeployment are the units of an environment or a deployment.
	ofEnv
	ofDeployment
)

// topic is what a watch is about: a part of a table and the key of that part.
type topic struct {
	table int
	scope scope
	key   string
}

// publisher holds the newest store, and the channels of those who wait for
// another one. It makes a channel when somebody asks for it; a channel of its own
// for each row, as a tree with watches in its nodes has, takes more memory than
// the rows do.
type publisher struct {
	mu      sync.RWMutex
	newest  *store
	past    past
	waiting map[topic]chan struct{}
}

func (p *publisher) view() *Snapshot {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return &Snapshot{store: p.newest, publisher: p}
}

// publish makes a transaction visible and wakes those who wait for what it wrote.
func (p *publisher) publish(t *txn) {
	next := t.seal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest = next
	p.past.add(t.changes)
	for _, w := range t.written {
		if len(p.waiting) == 0 {
			return
		}
		p.wake(topic{table: w.table})
		for _, row := range []any{w.old, w.row} {
			for _, about := range topicsOf(w.table, row) {
				p.wake(about)
			}
		}
	}
}

// replace makes a store visible that has nothing to do with the one before.
func (p *publisher) replace(t *txn) {
	next := t.seal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest = next
	p.past = past{complete: (&Snapshot{store: next}).Index()}
	for about := range p.waiting {
		p.wake(about)
	}
}

func (p *publisher) wake(about topic) {
	if ch, ok := p.waiting[about]; ok {
		close(ch)
		delete(p.waiting, about)
	}
}

// topicsOf gives what a row is a part of, apart from its table.
func topicsOf(table int, row any) []topic {
	switch row := row.(type) {
	case *Package:
		return []topic{{table, oneRow, row.Doc.Name}}
	case *Deployment:
		return []topic{{table, oneRow, row.Doc.Key}}
	case *pmpb.Cluster:
		return []topic{{table, oneRow, row.GetName()}}
	case *pmpb.Rollout:
		return []topic{{table, oneRow, row.GetDeploymentKey()}}
	case *pmpb.Unit:
		return []topic{{table, oneRow, row.GetId()}, {table, ofEnv, row.GetEnv()}, {table, ofDeployment, row.GetDeploymentUid()}}
	default:
		return nil
	}
}

// outdated is the channel of a watch on a view that is not the newest any more.
var outdated = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// watch gives a channel that closes when the newest store differs from the view
// in what the topic is about; same tells whether it does not. What does not exist
// yet is watched with its whole table: else everyone who asks for a name that
// nobody has would leave a channel behind.
func (s *Snapshot) watch(about topic, exists bool, same func(newest *store) bool) <-chan struct{} {
	if !exists {
		return s.watchTable(about.table)
	}
	p := s.publisher
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.newest != s.store && !same(p.newest) {
		return outdated
	}
	ch, ok := p.waiting[about]
	if !ok {
		ch = make(chan struct{})
		p.waiting[about] = ch
	}
	return ch
}

func (s *Snapshot) watchTable(table int) <-chan struct{} {
	return s.watch(topic{table: table}, true, func(newest *store) bool {
		return newest.tables[table].writes() == s.store.tables[table].writes()
	})
}

func watchRow[Row comparable](s *Snapshot, table int, key string, probe Row) <-chan struct{} {
	var none Row
	seen := rowsIn[Row](s.store, table).get(probe)
	return s.watch(topic{table, oneRow, key}, seen != none, func(newest *store) bool {
		return rowsIn[Row](newest, table).get(probe) == seen
	})
}

// WatchAll is closed when any command was applied, or the state was restored.
func (s *Snapshot) WatchAll() <-chan struct{} { return s.watchTable(atMeta) }

// WatchPackage watches one package.
func (s *Snapshot) WatchPackage(name string) <-chan struct{} {
	return watchRow(s, atPackages, name, packageProbe(name))
}

// WatchPackages watches all packages.
func (s *Snapshot) WatchPackages() <-chan struct{} { return s.watchTable(atPackages) }

// WatchDeployment watches the row of one deployment, not its units.
func (s *Snapshot) WatchDeployment(key string) <-chan struct{} {
	return watchRow(s, atDeployments, key, deploymentProbe(key))
}

// WatchDeployments watches the rows of all deployments.
func (s *Snapshot) WatchDeployments() <-chan struct{} { return s.watchTable(atDeployments) }

// WatchUnit watches one unit.
func (s *Snapshot) WatchUnit(id string) <-chan struct{} {
	return watchRow(s, atUnits, id, &pmpb.Unit{Id: id})
}

// WatchUnits watches all units.
func (s *Snapshot) WatchUnits() <-chan struct{} { return s.watchTable(atUnits) }

// WatchUnitsByEnv watches the units of one environment.
func (s *Snapshot) WatchUnitsByEnv(env string) <-chan struct{} {
	seen, exists := s.store.envs.Get(env)
	return s.watch(topic{atUnits, ofEnv, env}, exists, func(newest *store) bool {
		written, _ := newest.envs.Get(env)
		return written == seen
	})
}

// WatchUnitsByDeployment watches the units of one deployment.
func (s *Snapshot) WatchUnitsByDeployment(uid string) <-chan struct{} {
	seen := s.UnitsByDeployment(uid)
	return s.watch(topic{atUnits, ofDeployment, uid}, len(seen) > 0, func(newest *store) bool {
		return sameRows(seen, unitsOf(newest, uid))
	})
}

// sameRows reports whether a sequence has exactly these rows.
func sameRows[Row comparable](want []Row, rows iter.Seq[Row]) bool {
	n := 0
	for row := range rows {
		if n == len(want) || want[n] != row {
			return false
		}
		n++
	}
	return n == len(want)
}

// WatchCluster watches one cluster.
func (s *Snapshot) WatchCluster(name string) <-chan struct{} {
	return watchRow(s, atClusters, name, &pmpb.Cluster{Name: name})
}

// WatchClusters watches all clusters.
func (s *Snapshot) WatchClusters() <-chan struct{} { return s.watchTable(atClusters) }

// WatchRollout watches the rollout of one deployment.
func (s *Snapshot) WatchRollout(key string) <-chan struct{} {
	return watchRow(s, atRollouts, key, &pmpb.Rollout{DeploymentKey: key})
}

// WatchRollouts watches all rollouts.
func (s *Snapshot) WatchRollouts() <-chan struct{} { return s.watchTable(atRollouts) }

// WatchMembers watches all package manager nodes.
func (s *Snapshot) WatchMembers() <-chan struct{} { return s.watchTable(atMembers) }

// WatchAutopilot watches the settings of autopilot.
func (s *Snapshot) WatchAutopilot() <-chan struct{} { return s.watchTable(atAutopilot) }

// WatchAlarms watches all alarms.
func (s *Snapshot) WatchAlarms() <-chan struct{} { return s.watchTable(atAlarms) }

// WatchDeletions watches all unfinished deletions.
func (s *Snapshot) WatchDeletions() <-chan struct{} { return s.watchTable(atDeletions) }
