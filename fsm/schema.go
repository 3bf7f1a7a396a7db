package fsm

import (
	"cmp"
	"strings"

	"github.com/tidwall/btree"

	"oaas.io/control-plane/proto/pmpb"
)

// The tables, in the order in which a snapshot holds them.
const (
	TableMeta        = "meta"
	TablePackages    = "packages"
	TableDeployments = "deployments"
	TablePlans       = "plans"
	TableUnits       = "units"
	TableClusters    = "clusters"
	TableMembers     = "members"
	TableDeletions   = "deletions"
	TableReplies     = "replies"
	TableAutopilot   = "autopilot"
	TableAlarms      = "alarms"
	TableStaged      = "staged"
	TableAudit       = "audit"
	TablePastPlans   = "past_plans"
	TableRevisions   = "revisions"
	TableRollouts    = "rollouts"
	TableTimeline    = "timeline"
)

var tables = [...]string{
	TableMeta, TablePackages, TableDeployments, TablePlans, TableUnits,
	TableClusters, TableMembers, TableDeletions, TableReplies,
	TableAutopilot, TableAlarms, TableStaged, TableAudit, TablePastPlans,
	TableRevisions, TableRollouts, TableTimeline,
}

// The positions of the tables in that list.
const (
	atMeta = iota
	atPackages
	atDeployments
	atPlans
	atUnits
	atClusters
	atMembers
	atDeletions
	atReplies
	atAutopilot
	atAlarms
	atStaged
	atAudit
	atPastPlans
	atRevisions
	atRollouts
	atTimeline
)

// The orders of a table beside that of its primary key.
const (
	deploymentsByUID = 1 + iota
	deploymentsByPackage
)

const (
	unitsByChange = 1 + iota
	unitsByDeployment
)

const repliesByAge = 1

const auditByClass = 1

const pastPlansByDeployment = 1

const revisionsByDeployment = 1

const timelineByDeployment = 1

// The primary keys of the single rows in TableMeta and TableAutopilot.
const (
	metaKey      = "meta"
	autopilotKey = "autopilot"
)

// store is all rows at one moment. Once it was published it is never written to.
type store struct {
	tables [len(tables)]anyTable
	// envs has, for each environment, when its units were last written: the
	// version of the table of units.
	envs *btree.Map[string, uint64]
}

func newStore() *store {
	s := &store{envs: &btree.Map[string, uint64]{}}
	s.tables = [...]anyTable{
		atMeta:     newTable(func(_, _ *metaRow) int { return 0 }),
		atPackages: newTable(func(a, b *Package) int { return strings.Compare(a.Doc.Name, b.Doc.Name) }),
		atDeployments: newTable(
			func(a, b *Deployment) int { return strings.Compare(a.Doc.Key, b.Doc.Key) },
			func(a, b *Deployment) int { return strings.Compare(a.UID, b.UID) },
			func(a, b *Deployment) int {
				return cmp.Or(strings.Compare(a.Doc.PackageName, b.Doc.PackageName), strings.Compare(a.Doc.Key, b.Doc.Key))
			}),
		atPlans: newTable(func(a, b *Plan) int { return strings.Compare(a.DeploymentKey, b.DeploymentKey) }),
		atUnits: newTable(
			func(a, b *pmpb.Unit) int { return strings.Compare(a.GetId(), b.GetId()) },
			func(a, b *pmpb.Unit) int {
				return cmp.Or(strings.Compare(a.GetEnv(), b.GetEnv()), cmp.Compare(a.GetModifyIndex(), b.GetModifyIndex()), strings.Compare(a.GetId(), b.GetId()))
			},
			func(a, b *pmpb.Unit) int {
				return cmp.Or(strings.Compare(a.GetDeploymentUid(), b.GetDeploymentUid()), strings.Compare(a.GetEnv(), b.GetEnv()), strings.Compare(a.GetId(), b.GetId()))
			}),
		atClusters:  newTable(func(a, b *pmpb.Cluster) int { return strings.Compare(a.GetName(), b.GetName()) }),
		atMembers:   newTable(func(a, b *pmpb.Member) int { return strings.Compare(a.GetServerId(), b.GetServerId()) }),
		atDeletions: newTable(func(a, b *pmpb.Deletion) int { return strings.Compare(a.GetDeploymentUid(), b.GetDeploymentUid()) }),
		atReplies: newTable(
			func(a, b *pmpb.Reply) int { return strings.Compare(a.GetKey(), b.GetKey()) },
			func(a, b *pmpb.Reply) int {
				return cmp.Or(compareBool(a.GetEphemeral(), b.GetEphemeral()), cmp.Compare(a.GetCreateIndex(), b.GetCreateIndex()))
			}),
		atAutopilot: newTable(func(_, _ *pmpb.Autopilot) int { return 0 }),
		atAlarms:    newTable(func(a, b *pmpb.Alarm) int { return strings.Compare(alarmKey(a.GetKey()), alarmKey(b.GetKey())) }),
		atStaged:    newTable(func(a, b *pmpb.StagedPiece) int { return strings.Compare(stagedKey(a), stagedKey(b)) }),
		atAudit: newTable(
			func(a, b *pmpb.AuditEntry) int { return cmp.Compare(a.GetIndex(), b.GetIndex()) },
			func(a, b *pmpb.AuditEntry) int {
				return cmp.Or(compareBool(a.GetNote().GetOperator(), b.GetNote().GetOperator()), cmp.Compare(a.GetIndex(), b.GetIndex()))
			}),
		atPastPlans: newTable(
			func(a, b *Plan) int {
				return cmp.Or(cmp.Compare(a.ModifyIndex, b.ModifyIndex), strings.Compare(a.DeploymentKey, b.DeploymentKey))
			},
			func(a, b *Plan) int {
				return cmp.Or(strings.Compare(a.DeploymentKey, b.DeploymentKey), cmp.Compare(a.ModifyIndex, b.ModifyIndex))
			}),
		atRevisions: newTable(
			func(a, b *pmpb.Revision) int {
				return cmp.Or(cmp.Compare(a.GetModifyIndex(), b.GetModifyIndex()), cmp.Compare(a.GetNote().GetNumber(), b.GetNote().GetNumber()),
					strings.Compare(a.GetDeploymentKey(), b.GetDeploymentKey()))
			},
			func(a, b *pmpb.Revision) int {
				return cmp.Or(strings.Compare(a.GetDeploymentKey(), b.GetDeploymentKey()), cmp.Compare(a.GetNote().GetNumber(), b.GetNote().GetNumber()))
			}),
		atRollouts: newTable(func(a, b *pmpb.Rollout) int { return strings.Compare(a.GetDeploymentKey(), b.GetDeploymentKey()) }),
		atTimeline: newTable(
			func(a, b *pmpb.TimelineEvent) int {
				return cmp.Or(cmp.Compare(a.GetIndex(), b.GetIndex()), cmp.Compare(a.GetSequence(), b.GetSequence()))
			},
			func(a, b *pmpb.TimelineEvent) int {
				return cmp.Or(strings.Compare(a.GetDeploymentKey(), b.GetDeploymentKey()), cmp.Compare(a.GetIndex(), b.GetIndex()),
					cmp.Compare(a.GetSequence(), b.GetSequence()))
			}),
	}
	return s
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// rowsIn gives a table by its position, which decides about the kind of its rows.
func rowsIn[Row comparable](s *store, position int) *table[Row] {
	return s.tables[position].(*table[Row])
}

func (s *store) meta() *table[*metaRow]           { return rowsIn[*metaRow](s, atMeta) }
func (s *store) packages() *table[*Package]       { return rowsIn[*Package](s, atPackages) }
func (s *store) deployments() *table[*Deployment] { return rowsIn[*Deployment](s, atDeployments) }
func (s *store) plans() *table[*Plan]             { return rowsIn[*Plan](s, atPlans) }
func (s *store) units() *table[*pmpb.Unit]        { return rowsIn[*pmpb.Unit](s, atUnits) }
func (s *store) clusters() *table[*pmpb.Cluster]  { return rowsIn[*pmpb.Cluster](s, atClusters) }
func (s *store) members() *table[*pmpb.Member]    { return rowsIn[*pmpb.Member](s, atMembers) }
func (s *store) deletions() *table[*pmpb.Deletion] {
	return rowsIn[*pmpb.Deletion](s, atDeletions)
}
func (s *store) replies() *table[*pmpb.Reply] { return rowsIn[*pmpb.Reply](s, atReplies) }
func (s *store) autopilot() *table[*pmpb.Autopilot] {
	return rowsIn[*pmpb.Autopilot](s, atAutopilot)
}
func (s *store) alarms() *table[*pmpb.Alarm]       { return rowsIn[*pmpb.Alarm](s, atAlarms) }
func (s *store) staged() *table[*pmpb.StagedPiece] { return rowsIn[*pmpb.StagedPiece](s, atStaged) }
func (s *store) pastPlans() *table[*Plan]          { return rowsIn[*Plan](s, atPastPlans) }
func (s *store) revisions() *table[*pmpb.Revision] { return rowsIn[*pmpb.Revision](s, atRevisions) }
func (s *store) rollouts() *table[*pmpb.Rollout]   { return rowsIn[*pmpb.Rollout](s, atRollouts) }
func (s *store) timeline() *table[*pmpb.TimelineEvent] {
	return rowsIn[*pmpb.TimelineEvent](s, atTimeline)
}
func (s *store) audit() *table[*pmpb.AuditEntry] { return rowsIn[*pmpb.AuditEntry](s, atAudit) }
