package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"oaas.io/control-plane/proto/pmpb"
)

// This file is what the operators' part of the API needs of the node, in the
// form in which it is told. node.go of package raftstore and its relatives are
// adapted to it in adapter.go.

// Membership is the cluster's servers and who looks after them. Everything but
// the reading of the settings works on the leader only, and fails elsewhere with
// registry.NoLeader.
type Membership interface {
	Autopilot() (*AutopilotState, error)
	AutopilotConfig() AutopilotConfig
	// SetAutopilotConfig replaces the settings. ModifyIndex, when not 0, must be
	// that of the present ones.
	SetAutopilotConfig(ctx context.Context, c AutopilotConfig) error
	RemoveServer(ctx context.Context, id string, dryRun, force bool) (*Removal, error)
	SetVote(ctx context.Context, id string, allowed bool) error
	// TransferTo hands leadership over, to the best server when id is empty.
	TransferTo(ctx context.Context, id string) (*Transfer, error)
	// RaiseFeatureLevel lets commands up to that level be written.
	RaiseFeatureLevel(ctx context.Context, level uint32) error
}

// Inspection looks into one node. It works on every node at any time.
type Inspection interface {
	Raft() RaftView
	Disk() DiskView
	Snapshots() ([]SnapshotView, error)
	Tuning() Tuning
	// Tune changes what is not zero, until the next restart.
	Tune(t Tuning) error
	// LogEntries yields the entries of the node's log from one index to another,
	// both included; 0 is the first and the last that there are.
	LogEntries(ctx context.Context, from, to uint64, yield func(LogEntry) bool) error
	ChainReport(ctx context.Context) (*ChainView, error)
	FeatureLevels() FeatureView
}

// Snapshots takes the state out and puts it back.
type Snapshots interface {
	// SaveSnapshot writes a linearizable snapshot.
	SaveSnapshot(ctx context.Context, w io.Writer) (*Saved, error)
	// RestoreSnapshot replaces the state; leader only. size is -1 when not known.
	RestoreSnapshot(ctx context.Context, r io.Reader, size int64, o RestoreOptions) (*Restored, error)
}

// Backups are the scheduled snapshots. Run works on the leader only.
type Backups interface {
	List(ctx context.Context) ([]BackupView, error)
	Run(ctx context.Context) (*BackupView, error)
	// Fetch writes a stored backup to w. An error matches backup.ErrNotFound when
	// there is none of that name; after any error what was written is of no use.
	Fetch(ctx context.Context, name string, w io.Writer) (*BackupView, error)
}

// member is a node of the package manager. What follows voter is known on the
// leader only.
type member struct {
	ServerID     string `json:"server_id"`
	Name         string `json:"name"`
	Zone         string `json:"zone"`
	RaftAddress  string `json:"raft_address"`
	GRPCAddress  string `json:"grpc_address"`
	HTTPAddress  string `json:"http_address"`
	Version      string `json:"version"`
	FeatureLevel uint32 `json:"feature_level"`
	// Role is leader, voter or non-voter.
	Role   string        `json:"role"`
	Leader bool          `json:"leader"`
	Voter  bool          `json:"voter"`
	Health *MemberHealth `json:"health"`
}

// MemberHealth is what autopilot knows of a server.
type MemberHealth struct {
	Healthy     bool       `json:"healthy"`
	StableSince *time.Time `json:"stable_since"`
	// LastContact is the age of the leader's last message when the server was asked.
	LastContact Duration `json:"last_contact"`
	LastIndex   uint64   `json:"last_index"`
	LastTerm    uint64   `json:"last_term"`
	// Lag is how many entries the server is behind the leader.
	Lag          uint64   `json:"lag"`
	DiskFree     uint64   `json:"disk_free_bytes"`
	DiskTotal    uint64   `json:"disk_total_bytes"`
	DiskWriteP99 Duration `json:"disk_write_p99"`
	ClockOffset  Duration `json:"clock_offset"`
	// Reasons say why it is not healthy, or why it has or has not a vote.
	Reasons []string `json:"reasons"`
}

// Duration is told as a text such as 1.5s, and read from one.
type Duration time.Duration

// MarshalJSON gives the text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads a text such as 1m30s.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("a duration is a text such as \"10s\": %w", err)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 10s", text)
	}
	*d = Duration(parsed)
	return nil
}

// AutopilotState is how the leader sees the cluster.
type AutopilotState struct {
	Healthy                    bool   `json:"healthy"`
	FailureTolerance           int    `json:"failure_tolerance"`
	OptimisticFailureTolerance int    `json:"optimistic_failure_tolerance"`
	Voters                     int    `json:"voters"`
	DesiredVoters              int    `json:"desired_voters"`
	LeaderID                   string `json:"leader_id"`
	// Problems say what an operator should know, most important first.
	Problems []string          `json:"problems"`
	Servers  []AutopilotServer `json:"servers"`
}

// AutopilotServer is one server as autopilot sees it.
type AutopilotServer struct {
	ServerID string `json:"server_id"`
	Name     string `json:"name"`
	Zone     string `json:"zone"`
	Role     string `json:"role"`
	MemberHealth
}

// AutopilotConfig are the settings of autopilot.
type AutopilotConfig struct {
	CleanupDeadServers   bool     `json:"cleanup_dead_servers"`
	DeadServerGrace      Duration `json:"dead_server_grace"`
	LastContactThreshold Duration `json:"last_contact_threshold"`
	MaxTrailingLogs      uint64   `json:"max_trailing_logs"`
	ServerStabilization  Duration `json:"server_stabilization"`
	MinQuorum            uint32   `json:"min_quorum"`
	DesiredVoters        uint32   `json:"desired_voters"`
	SpreadZones          bool     `json:"spread_zones"`
	NonVoters            []string `json:"non_voters"`
	ModifyIndex          uint64   `json:"-"`
}

// FeatureView says which commands the cluster may use.
type FeatureView struct {
	// Level is the cluster's; commands above it are not written.
	Level uint32 `json:"level"`
	// Own is the highest level that the answering node's program knows, Possible
	// that which all servers know; the leader raises Level to it by itself.
	Own      uint32 `json:"own"`
	Possible uint32 `json:"possible"`
	// Behind are the servers that hold Possible below Own.
	Behind []string `json:"behind"`
}

// Removal is what removing a server does, or would do.
type Removal struct {
	ServerID string `json:"server_id"`
	Name     string `json:"name"`
	DryRun   bool   `json:"dry_run"`
	Removed  bool   `json:"removed"`
	// The numbers are before and after.
	VotersBefore    int `json:"voters_before"`
	VotersAfter     int `json:"voters_after"`
	QuorumAfter     int `json:"quorum_after"`
	HealthyAfter    int `json:"healthy_voters_after"`
	ToleranceBefore int `json:"failure_tolerance_before"`
	ToleranceAfter  int `json:"failure_tolerance_after"`
	// Refused says why it is refused without force; Warnings what to think of.
	Refused  []string `json:"refused"`
	Warnings []string `json:"warnings"`
	// Override is the query parameter that does it all the same; empty when it was
	// not refused, and when nothing does.
	Override string `json:"override,omitempty"`
}

// Transfer is a change of the leader.
type Transfer struct {
	From     string `json:"from"`
	FromName string `json:"from_name"`
	To       string `json:"to"`
	ToName   string `json:"to_name"`
	// Took is the time that the library needed, in milliseconds.
	Took int64 `json:"took_ms"`
	// Gap is the time without a ready leader as this node could see it, in
	// milliseconds: from the request until a linearizable read through the new one.
	Gap int64 `json:"gap_ms"`
}

// RaftView are the numbers of one node's log.
type RaftView struct {
	State         string   `json:"state"`
	Term          uint64   `json:"term"`
	Ready         bool     `json:"ready"`
	LastLogIndex  uint64   `json:"last_log_index"`
	CommitIndex   uint64   `json:"commit_index"`
	AppliedIndex  uint64   `json:"applied_index"`
	SnapshotIndex uint64   `json:"snapshot_index"`
	LastContact   Duration `json:"last_contact"`
}

// DiskView is the file system of one node's data directory.
type DiskView struct {
	Path         string   `json:"path"`
	Free         uint64   `json:"free_bytes"`
	Total        uint64   `json:"total_bytes"`
	Low          bool     `json:"low"`
	WriteP50     Duration `json:"write_p50"`
	WriteP99     Duration `json:"write_p99"`
	LogFileBytes int64    `json:"log_file_bytes"`
}

// SnapshotView is a snapshot that a node keeps for itself.
type SnapshotView struct {
	ID    string `json:"id"`
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Size  int64  `json:"size_bytes"`
	// Time is when it was taken.
	Time *time.Time `json:"time"`
}

// Tuning is what can be changed while a node runs. A zero field is not told, or
// not changed.
type Tuning struct {
	SnapshotInterval  Duration `json:"snapshot_interval,omitempty"`
	SnapshotThreshold uint64   `json:"snapshot_threshold,omitempty"`
	TrailingLogs      uint64   `json:"trailing_logs,omitempty"`
	HeartbeatTimeout  Duration `json:"heartbeat_timeout,omitempty"`
	ElectionTimeout   Duration `json:"election_timeout,omitempty"`
}

// LogEntry is one entry of a node's log.
type LogEntry struct {
	Index      uint64
	Term       uint64
	Type       string
	AppendedAt time.Time
	Size       int
	// Command is nil for entries that are none.
	Command *pmpb.Command
	// Text tells what else there is to say, for instance a configuration.
	Text string
}

// ChainView compares what the servers have applied.
type ChainView struct {
	Index uint64 `json:"index"`
	Agree bool   `json:"agree"`
	// Servers are this node and its peers.
	Servers []ChainServer `json:"servers"`
}

// ChainServer is the hash of one server's history.
type ChainServer struct {
	ServerID string `json:"server_id"`
	Name     string `json:"name"`
	Index    uint64 `json:"index"`
	Hash     string `json:"hash"`
	Error    string `json:"error,omitempty"`
}

// Saved is what a snapshot holds.
type Saved struct {
	Index  uint64
	Epoch  uint64
	Format uint32
}

// RestoreOptions guard a restore.
type RestoreOptions struct {
	// ConfirmClusterID must be the id of this cluster.
	ConfirmClusterID string
	RequestID        string
}

// Restored is what a restore did.
type Restored struct {
	Epoch       uint64 `json:"epoch"`
	Index       uint64 `json:"index"`
	Packages    int    `json:"packages"`
	Deployments int    `json:"deployments"`
	Units       int    `json:"units"`
	// Removed units exist in clusters and not in the snapshot; they are taken down.
	Removed int `json:"removed_units"`
	// SafetyCopy is where the state before is.
	SafetyCopy string `json:"safety_copy"`
}

// BackupView is one stored backup.
type BackupView struct {
	Name     string     `json:"name"`
	Location string     `json:"location"`
	Time     *time.Time `json:"time"`
	Size     int64      `json:"size_bytes"`
	Index    uint64     `json:"index"`
	// Digest are the first digits of the file's SHA-256.
	Digest string `json:"digest"`
}
