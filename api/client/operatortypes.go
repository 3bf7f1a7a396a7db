package client

import (
	"encoding/json"
	"time"
)

// Duration is a time span that is told as a text, such as 1.5s.
type Duration time.Duration

// String gives the text.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON gives the text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the text.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(text)
	*d = Duration(parsed)
	return err
}

// MemberHealth is what the leader knows of a server.
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

// Autopilot is how the leader sees the cluster.
type Autopilot struct {
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
	// Role is leader, voter or non-voter.
	Role string `json:"role"`
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
}

// FeatureLevel says which commands the cluster may use.
type FeatureLevel struct {
	Level    uint32   `json:"level"`
	Own      uint32   `json:"own"`
	Possible uint32   `json:"possible"`
	Behind   []string `json:"behind"`
}

// Removal is what removing a server does, or would do.
type Removal struct {
	ServerID        string   `json:"server_id"`
	Name            string   `json:"name"`
	DryRun          bool     `json:"dry_run"`
	Removed         bool     `json:"removed"`
	VotersBefore    int      `json:"voters_before"`
	VotersAfter     int      `json:"voters_after"`
	QuorumAfter     int      `json:"quorum_after"`
	HealthyAfter    int      `json:"healthy_voters_after"`
	ToleranceBefore int      `json:"failure_tolerance_before"`
	ToleranceAfter  int      `json:"failure_tolerance_after"`
	Refused         []string `json:"refused"`
	Warnings        []string `json:"warnings"`
	// Override is the query parameter that does it all the same; empty when nothing
	// does.
	Override string `json:"override,omitempty"`
}

// Transfer is a change of the leader, in milliseconds.
type Transfer struct {
	From     string `json:"from"`
	FromName string `json:"from_name"`
	To       string `json:"to"`
	ToName   string `json:"to_name"`
	Took     int64  `json:"took_ms"`
	// Gap is the time without a ready leader.
	Gap int64 `json:"gap_ms"`
}

// Alarm makes the cluster read-only.
type Alarm struct {
	Kind     string     `json:"kind"`
	ServerID string     `json:"server_id"`
	Name     string     `json:"name"`
	Message  string     `json:"message"`
	Since    *time.Time `json:"since"`
}

// Raft are the numbers of a node's log.
type Raft struct {
	State         string   `json:"state"`
	Term          uint64   `json:"term"`
	Ready         bool     `json:"ready"`
	LastLogIndex  uint64   `json:"last_log_index"`
	CommitIndex   uint64   `json:"commit_index"`
	AppliedIndex  uint64   `json:"applied_index"`
	SnapshotIndex uint64   `json:"snapshot_index"`
	LastContact   Duration `json:"last_contact"`
}

// Disk is the file system of a node's data directory.
type Disk struct {
	Path         string   `json:"path"`
	Free         uint64   `json:"free_bytes"`
	Total        uint64   `json:"total_bytes"`
	Low          bool     `json:"low"`
	WriteP50     Duration `json:"write_p50"`
	WriteP99     Duration `json:"write_p99"`
	LogFileBytes int64    `json:"log_file_bytes"`
}

// NodeSnapshot is a snapshot that a node keeps for itself.
type NodeSnapshot struct {
	ID    string `json:"id"`
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Size  int64  `json:"size_bytes"`
	// Time is when it was taken.
	Time *time.Time `json:"time"`
}

// Tuning is what can be changed while a node runs.
type Tuning struct {
	SnapshotInterval  Duration `json:"snapshot_interval,omitempty"`
	SnapshotThreshold uint64   `json:"snapshot_threshold,omitempty"`
	TrailingLogs      uint64   `json:"trailing_logs,omitempty"`
	HeartbeatTimeout  Duration `json:"heartbeat_timeout,omitempty"`
	ElectionTimeout   Duration `json:"election_timeout,omitempty"`
}

// Node is everything about one node.
type Node struct {
	ServerID  string            `json:"server_id"`
	Name      string            `json:"name"`
	Zone      string            `json:"zone"`
	Version   string            `json:"version"`
	ClusterID string            `json:"cluster_id"`
	LeaderID  string            `json:"leader_id"`
	Time      *time.Time        `json:"time"`
	StartedAt *time.Time        `json:"started_at"`
	Uptime    Duration          `json:"uptime"`
	Raft      Raft              `json:"raft"`
	Disk      Disk              `json:"disk"`
	Snapshots []NodeSnapshot    `json:"snapshots"`
	Tuning    Tuning            `json:"tuning"`
	Features  FeatureLevel      `json:"features"`
	State     StateCounts       `json:"state"`
	Process   Process           `json:"process"`
	Settings  map[string]string `json:"settings"`
}

// StateCounts is what a node's replica holds.
type StateCounts struct {
	Index        uint64 `json:"index"`
	Epoch        uint64 `json:"epoch"`
	AppliedCount uint64 `json:"applied_count"`
	ChainHash    string `json:"chain_hash"`
	FeatureLevel uint32 `json:"feature_level"`
	Packages     int    `json:"packages"`
	Deployments  int    `json:"deployments"`
	Units        int    `json:"units"`
	Clusters     int    `json:"clusters"`
	Deletions    int    `json:"deletions"`
	Members      int    `json:"members"`
	Alarms       int    `json:"alarms"`
}

// Process is the node's process.
type Process struct {
	PID        int    `json:"pid"`
	Host       string `json:"host"`
	GoVersion  string `json:"go_version"`
	Platform   string `json:"platform"`
	CPUs       int    `json:"cpus"`
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes"`
	SystemHeap uint64 `json:"system_bytes"`
}

// Chain compares what the servers have applied.
type Chain struct {
	Index   uint64        `json:"index"`
	Agree   bool          `json:"agree"`
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

// The verdicts of a doctor's check.
const (
	CheckOK   = "ok"
	CheckWarn = "warn"
	CheckFail = "fail"
)

// Doctor is what a node found when it examined itself.
type Doctor struct {
	ServerID string  `json:"server_id"`
	Name     string  `json:"name"`
	Status   string  `json:"status"`
	Checks   []Check `json:"checks"`
}

// Check is one finding.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Value  string `json:"value"`
	Bound  string `json:"bound"`
	Advice string `json:"advice"`
}

// LogEntry is one entry of a node's log.
type LogEntry struct {
	Index      uint64     `json:"index"`
	Term       uint64     `json:"term"`
	Type       string     `json:"type"`
	AppendedAt *time.Time `json:"appended_at"`
	Size       int        `json:"size_bytes"`
	// Op is the kind of a command, empty for entries that are none.
	Op      string          `json:"op,omitempty"`
	Text    string          `json:"text,omitempty"`
	Command json.RawMessage `json:"command,omitempty"`
}

// LogLine is one line of a node's log, or the place where lines are missing.
type LogLine struct {
	Time      time.Time         `json:"time"`
	Level     string            `json:"level"`
	Subsystem string            `json:"subsystem"`
	Message   string            `json:"message"`
	Fields    map[string]string `json:"fields,omitempty"`
	// Lost is how many lines are missing here; the other fields are empty then.
	Lost uint64 `json:"lost,omitempty"`
}

// Backup is one stored backup.
type Backup struct {
	Name     string     `json:"name"`
	Location string     `json:"location"`
	Time     *time.Time `json:"time"`
	Size     int64      `json:"size_bytes"`
	Index    uint64     `json:"index"`
	// Digest are the first digits of the file's SHA-256.
	Digest string `json:"digest"`
}

// SnapshotSummary is a snapshot that was received.
type SnapshotSummary struct {
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"`
	Index  uint64 `json:"index"`
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
