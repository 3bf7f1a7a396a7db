package history

import "time"

// Names of workloads, as in Operation.Workload.
const (
	Register   = "register"
	Set        = "set"
	Watch      = "watch"
	Idempotent = "idempotent"
	Sessions   = "sessions"
	Lifecycle  = "lifecycle"
	Probe      = "probe"
)

// Kinds of operations, as in Operation.Kind.
const (
	// Read asks for one object.
	Read = "read"
	// Create stores an object under a key that must be free.
	Create = "create"
	// Write replaces an object that must exist, whatever it holds.
	Write = "write"
	// Put stores an object whether there is one or not.
	Put = "put"
	// CAS replaces an object if it still has the version Request.Version.
	CAS = "cas"
	// Delete removes an object, if it still has Request.Version unless that is 0.
	Delete = "delete"
	// Follow is one message of a stream of changes: Output is a Message.
	Follow = "follow"
	// Look is one look at a node: Output is a Status.
	Look = "look"
)

// Modes of a read, as in Request.Mode and Answer.Mode.
const (
	Linearizable = "linearizable"
	Stale        = "stale"
	AtIndex      = "at-index"
)

// Request is the Input of an operation on one object.
type Request struct {
	// Value is what a write stores. No two operations of a run store the same, unless they
	// have the same IdempotencyKey.
	Value string `json:"value,omitempty"`
	// Version is what the object must have; 0 is any.
	Version uint64 `json:"version,omitempty"`
	// Attempts with one IdempotencyKey are one request, sent several times.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// Mode of a read; empty is Linearizable.
	Mode string `json:"mode,omitempty"`
	// AtIndex is what a read of that mode waits for, MaxStaleness what a stale one accepts.
	AtIndex      uint64        `json:"at_index,omitempty"`
	MaxStaleness time.Duration `json:"max_staleness,omitempty"`
	// Wait is how long a write waits for its object to be available; 0 is not at all.
	Wait time.Duration `json:"wait,omitempty"`
}

// Answer is the Output of an operation on one object.
type Answer struct {
	// Status is that of HTTP; 0 when there was no answer.
	Status int `json:"status,omitempty"`
	// Code names the problem of an answer that is not a success.
	Code string `json:"code,omitempty"`
	// Replayed says that the answer is one that was given before.
	Replayed bool `json:"replayed,omitempty"`
	// Body is a digest of the answer's body.
	Body string `json:"body,omitempty"`
	// Exists, Value, Version and UID are those of the object that was read. Version is the
	// index of the command that made it, also on writes; 0 when it was not told.
	Exists  bool   `json:"exists,omitempty"`
	Value   string `json:"value,omitempty"`
	Version uint64 `json:"version,omitempty"`
	// UID names the incarnation of the object, Generation counts the changes to it.
	UID        string `json:"uid,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	// Mode is what the answer claims to be, LastContact how old the leader's last message
	// to the node was.
	Mode        string        `json:"mode,omitempty"`
	LastContact time.Duration `json:"last_contact,omitempty"`
	// Available says that a write that waited saw its object available, Unit is the first
	// unit of a deployment that was written.
	Available bool   `json:"available,omitempty"`
	Unit      string `json:"unit,omitempty"`
}

// Codes of refusals that tell something about the object: the write had no effect because
// of what was there.
const (
	RefusedPrecondition = "precondition-failed"
	RefusedNotFound     = "not-found"
	RefusedExists       = "already-exists"
)

// Refused reports that a write was refused because of the object's state.
func (a *Answer) Refused() bool {
	switch a.Code {
	case RefusedPrecondition, RefusedNotFound, RefusedExists:
		return true
	default:
		return false
	}
}

// Types of messages, as in Message.Type.
const (
	Change   = "change"
	Bookmark = "bookmark"
	Snapshot = "snapshot"
	// Compacted is no message of the API: the stream could not be taken up where it ended,
	// because the node has forgotten what came after. Index is where it ended.
	Compacted = "compacted"
	// Broken is no message of the API either: the stream ended.
	Broken = "broken"
)

// Message is one message of a stream of changes, as a follower got it.
type Message struct {
	// Follower numbers the followers of a run. Topics are those that it follows, none is all.
	Follower int      `json:"follower"`
	Topics   []string `json:"topics,omitempty"`
	Type     string   `json:"type"`
	Index    uint64   `json:"index"`
	Term     uint64   `json:"term,omitempty"`
	// Digest is one of all that the message says.
	Digest string `json:"digest,omitempty"`
	Events []Row  `json:"events,omitempty"`
}

// Row is one row that a change has written or removed.
type Row struct {
	Topic   string `json:"topic"`
	Key     string `json:"key"`
	Name    string `json:"name,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
	// Action is that of an audit entry.
	Action string `json:"action,omitempty"`
}

// Status is what a look at a node showed.
type Status struct {
	// Reached says that it answered at all, Ready that it could do a linearizable read.
	Reached bool `json:"reached"`
	Ready   bool `json:"ready"`
	// Leads says that it is a leader that is ready to serve.
	Leads bool `json:"leads,omitempty"`
	// Pending counts the units that clusters have not confirmed; only a leader that leads
	// knows it.
	Pending int `json:"pending,omitempty"`
	// What its process uses.
	Goroutines      int    `json:"goroutines,omitempty"`
	FileDescriptors int    `json:"file_descriptors,omitempty"`
	ResidentBytes   uint64 `json:"resident_bytes,omitempty"`
	HeapBytes       uint64 `json:"heap_bytes,omitempty"`
}

// Unit is what the control plane wants in one cluster.
type Unit struct {
	ID            string `json:"id"`
	Cluster       string `json:"cluster"`
	Deployment    string `json:"deployment"`
	DeploymentUID string `json:"deployment_uid"`
	Fence         uint64 `json:"fence"`
	Hash          string `json:"hash"`
	Phase         string `json:"phase"`
	Acknowledged  bool   `json:"acknowledged,omitempty"`
	// Tombstone says that the cluster is to remove it.
	Tombstone bool `json:"tombstone,omitempty"`
}

// Runtime is what a cluster has.
type Runtime struct {
	// Name is the object's, which is the id of its unit; UID is the object's own identity,
	// empty where there is none.
	Name          string `json:"name"`
	UID           string `json:"uid,omitempty"`
	Deployment    string `json:"deployment,omitempty"`
	DeploymentUID string `json:"deployment_uid"`
	Epoch         uint64 `json:"epoch"`
	Fence         uint64 `json:"fence"`
	Hash          string `json:"hash"`
}

// Fenced is a change that a cluster was seen to have taken.
type Fenced struct {
	Cluster string        `json:"cluster"`
	Unit    string        `json:"unit"`
	UID     string        `json:"uid,omitempty"`
	Epoch   uint64        `json:"epoch"`
	Fence   uint64        `json:"fence"`
	Hash    string        `json:"hash"`
	At      time.Duration `json:"at"`
}

// Object is an object as a list shows it.
type Object struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
	UID   string `json:"uid,omitempty"`
}

// Effect is an entry of the log of what was done: a command that took effect.
type Effect struct {
	Index  uint64 `json:"index"`
	Action string `json:"action"`
	Object string `json:"object"`
}

// NodeState is the state at the end as one node tells it.
type NodeState struct {
	Packages    []Object `json:"packages"`
	Deployments []Object `json:"deployments"`
	Units       []Unit   `json:"units"`
	// Deletions are the keys of deployments whose removal not every cluster has confirmed.
	Deletions []string `json:"deletions,omitempty"`
	// Index is that of the state, Hash that of all commands up to HashIndex.
	Index     uint64 `json:"index"`
	Hash      string `json:"hash"`
	HashIndex uint64 `json:"hash_index"`
	// Peers has the hash of every server at HashIndex, as this node was told; nil when there
	// was no index that all of them remember.
	Peers map[string]string `json:"peers,omitempty"`
	// Error says why nothing else is known.
	Error string `json:"error,omitempty"`
}

// Final is the state at the end of a run.
type Final struct {
	// Nodes by name.
	Nodes map[string]NodeState `json:"nodes"`
	// Effects are in the order of the log; what was done before the first one may be missing.
	Effects []Effect `json:"effects,omitempty"`
	// Clusters have what was found in each cluster. A cluster that could not be looked at is
	// not among them.
	Clusters map[string][]Runtime `json:"clusters,omitempty"`
	// Fenced are the changes that clusters took during the run, in their order. Live says that
	// each was noted when it happened, so that At can be relied upon, and that none is missing.
	Fenced []Fenced `json:"fenced,omitempty"`
	Live   bool     `json:"live,omitempty"`
}
