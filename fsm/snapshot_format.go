package fsm

import (
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

// The snapshot format, versions 1 to 5. They differ in the tables: version 1 has
// those up to replies, version 2 those up to staged, version 3 those up to audit,
// version 4 those up to past plans. A state is written in the version of its feature
// level, so that every server of its cluster can read it; all are read.
//
//	offset  size  content
//	0       8     magic "OAASPMFS"
//	8       4     format version, big-endian
//	12      …     one zstd frame with checksum, and nothing after it
//
// The frame holds
//
//	records   each: length as unsigned varint (never 0), then a SnapshotRecord in
//	          deterministic protobuf encoding. Ordered by table as in the
//	          version's table list (meta first, exactly one), within a table by
//	          primary key
//	end       the varint 0
//	counts    one big-endian uint64 per table, in the order of the version's table list
//	digest    SHA-256 over the 12 header bytes and all bytes of the frame before it
//
// The bytes of the frame are a function of the state alone, so two nodes with the
// same state have the same digest. Compressed bytes may differ between builds.
const (
	snapshotMagic   = "OAASPMFS"
	snapshotVersion = 5
	headerBytes     = len(snapshotMagic) + 4
)

// formatOf gives the version in which a state of that feature level is written.
func formatOf(level uint32) uint32 {
	if level >= RolloutFrom {
		return snapshotVersion
	}
	return min(level, 4)
}

// tablesIn gives the number of tables of a version; they are the first ones of
// the table list.
func tablesIn(version uint32) int {
	switch version {
	case 1:
		return atAutopilot
	case 2:
		return atAudit
	case 3:
		return atPastPlans
	case 4:
		return atRevisions
	default:
		return len(tables)
	}
}

// Bounds for what a reader believes.
const (
	maxRecordBytes    = 16 << 20
	maxSnapshotBytes  = 16 << 30
	maxSnapshotWindow = 16 << 20
)

// Numbers of the fields of SnapshotRecord's oneof, which are the tables in order.
const firstTableField = 1

// tableOf gives the position in the table list of what a record holds, or -1.
func tableOf(r *pmpb.SnapshotRecord) int {
	m := r.ProtoReflect()
	fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("record"))
	if fd == nil {
		return -1
	}
	return int(fd.Number()) - firstTableField
}

// recordKey gives the primary key of what a record holds.
func recordKey(r *pmpb.SnapshotRecord) string {
	switch v := r.GetRecord().(type) {
	case *pmpb.SnapshotRecord_Meta:
		return metaKey
	case *pmpb.SnapshotRecord_Package:
		return v.Package.GetName()
	case *pmpb.SnapshotRecord_Deployment:
		return v.Deployment.GetKey()
	case *pmpb.SnapshotRecord_Plan:
		return v.Plan.GetDeploymentKey()
	case *pmpb.SnapshotRecord_Unit:
		return v.Unit.GetId()
	case *pmpb.SnapshotRecord_Cluster:
		return v.Cluster.GetName()
	case *pmpb.SnapshotRecord_Member:
		return v.Member.GetServerId()
	case *pmpb.SnapshotRecord_Deletion:
		return v.Deletion.GetDeploymentUid()
	case *pmpb.SnapshotRecord_Reply:
		return v.Reply.GetKey()
	case *pmpb.SnapshotRecord_Autopilot:
		return autopilotKey
	case *pmpb.SnapshotRecord_Alarm:
		return alarmKey(v.Alarm.GetKey())
	case *pmpb.SnapshotRecord_StagedPiece:
		return stagedKey(v.StagedPiece)
	case *pmpb.SnapshotRecord_AuditEntry:
		return auditKey(v.AuditEntry.GetIndex())
	case *pmpb.SnapshotRecord_PastPlan:
		return pastPlanKey(v.PastPlan.GetDeploymentKey(), v.PastPlan.GetModifyIndex())
	case *pmpb.SnapshotRecord_Revision:
		return revisionKey(v.Revision)
	case *pmpb.SnapshotRecord_Rollout:
		return v.Rollout.GetDeploymentKey()
	case *pmpb.SnapshotRecord_TimelineEvent:
		return timelineKey(v.TimelineEvent)
	default:
		return ""
	}
}

var (
	recordEncoding = proto.MarshalOptions{Deterministic: true}
	// decoding is for everything that comes from a log or a snapshot.
	decoding = proto.UnmarshalOptions{RecursionLimit: maxCommandDepth}
)
