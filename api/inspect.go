package api

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// nodeView is everything about one node.
type nodeView struct {
	ServerID  string            `json:"server_id"`
	Name      string            `json:"name"`
	Zone      string            `json:"zone"`
	Version   string            `json:"version"`
	ClusterID string            `json:"cluster_id"`
	LeaderID  string            `json:"leader_id"`
	Time      string            `json:"time"`
	StartedAt string            `json:"started_at"`
	Uptime    Duration          `json:"uptime"`
	Raft      RaftView          `json:"raft"`
	Disk      DiskView          `json:"disk"`
	Snapshots []SnapshotView    `json:"snapshots"`
	Tuning    Tuning            `json:"tuning"`
	Features  FeatureView       `json:"features"`
	State     stateView         `json:"state"`
	Process   processView       `json:"process"`
	Settings  map[string]string `json:"settings"`
}

// stateView counts what the node's replica holds.
type stateView struct {
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

type processView struct {
	PID        int    `json:"pid"`
	Host       string `json:"host"`
	GoVersion  string `json:"go_version"`
	Platform   string `json:"platform"`
	CPUs       int    `json:"cpus"`
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes"`
	SystemHeap uint64 `json:"system_bytes"`
}

// getNode tells everything about this node. It needs no leader.
func (s *Server) getNode(w http.ResponseWriter, _ *http.Request) error {
	if s.opts.Inspection == nil {
		return errNoInspection()
	}
	in, now := s.opts.Inspection, s.opts.Now()
	snap := s.opts.Registry.State().Snapshot()
	meta, row := snap.Meta(), snap.Member(s.opts.Cluster.ServerID())
	snapshots, err := in.Snapshots()
	if err != nil {
		return operatorProblem(err)
	}
	leader, _ := s.opts.Cluster.Leader()
	host, _ := os.Hostname() // empty when it has none
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return writeJSON(w, http.StatusOK, nodeView{
		ServerID: s.opts.Cluster.ServerID(), Name: row.GetName(), Zone: row.GetZone(), Version: s.opts.Version,
		ClusterID: meta.GetClusterId(), LeaderID: leader.ServerID,
		Time: zulu(now), StartedAt: zulu(s.started), Uptime: Duration(now.Sub(s.started).Truncate(time.Second)),
		Raft: in.Raft(), Disk: in.Disk(), Snapshots: append([]SnapshotView{}, snapshots...), Tuning: in.Tuning(), Features: in.FeatureLevels(),
		State: stateView{
			Index: snap.Index(), Epoch: meta.GetEpoch(), AppliedCount: meta.GetAppliedCount(), ChainHash: hex.EncodeToString(meta.GetChainHash()),
			FeatureLevel: snap.FeatureLevel(), Packages: len(snap.Packages()), Deployments: len(snap.Deployments()), Units: len(snap.Units()),
			Clusters: len(snap.Clusters()), Deletions: len(snap.Deletions()), Members: len(snap.Members()), Alarms: len(snap.Alarms()),
		},
		Process: processView{
			PID: os.Getpid(), Host: host, GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
			CPUs: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(), HeapBytes: mem.HeapAlloc, SystemHeap: mem.Sys,
		},
		Settings: s.settings,
	})
}

// redacted stands where a secret was.
const redacted = "<redacted>"

// redact takes what must not be told out of a node's settings.
func redact(settings map[string]string) map[string]string {
	out := make(map[string]string, len(settings))
	for name, value := range settings {
		lower := strings.ToLower(name)
		for _, word := range []string{"key", "secret", "token", "password", "passwd", "credential"} {
			if strings.Contains(lower, word) && value != "" {
				value = redacted
			}
		}
		out[name] = redactURL(value)
	}
	return out
}

// redactURL takes the password and the query out of a URL.
func redactURL(value string) string {
	if !strings.Contains(value, "://") {
		return value
	}
	u, err := url.Parse(value)
	if err != nil {
		return redacted
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	if u.RawQuery != "" {
		u.RawQuery = "redacted"
	}
	return u.String()
}

// getTuning tells what can be changed while the node runs.
func (s *Server) getTuning(w http.ResponseWriter, _ *http.Request) error {
	if s.opts.Inspection == nil {
		return errNoInspection()
	}
	return writeJSON(w, http.StatusOK, s.opts.Inspection.Tuning())
}

// patchTuning changes some of it, on this node, until its next restart.
func (s *Server) patchTuning(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Inspection == nil {
		return errNoInspection()
	}
	var t Tuning
	body, err := readWish(w, r, &t)
	if err != nil {
		return err
	}
	if t == (Tuning{}) {
		return fail(registry.InvalidArgument, "Nothing is to be changed")
	}
	if err := s.opts.Inspection.Tune(t); err != nil {
		return &problem{code: registry.InvalidArgument, detail: err.Error(), cause: err}
	}
	s.remark(r, "raft.tune", s.opts.Cluster.ServerID(), string(body))
	return writeJSON(w, http.StatusOK, s.opts.Inspection.Tuning())
}

// getChain compares this node's history with that of its peers.
func (s *Server) getChain(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Inspection == nil {
		return errNoInspection()
	}
	report, err := s.opts.Inspection.ChainReport(r.Context())
	if err != nil {
		return operatorProblem(err)
	}
	for i := range report.Servers {
		report.Servers[i].Name = s.nameOf(report.Servers[i].ServerID)
	}
	return writeJSON(w, http.StatusOK, report)
}

func (s *Server) nameOf(id string) string {
	return s.opts.Registry.State().Snapshot().Member(id).GetName()
}

// alarmView is a raised alarm.
type alarmView struct {
	Kind     string  `json:"kind"`
	ServerID string  `json:"server_id"`
	Name     string  `json:"name"`
	Message  string  `json:"message"`
	Since    *string `json:"since"`
}

// listAlarms gives the raised alarms. While there is one the state is read-only.
func (s *Server) listAlarms(w http.ResponseWriter, r *http.Request) error {
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	list := []alarmView{}
	for _, a := range snap.Alarms() {
		list = append(list, newAlarm(a, snap.Member(a.GetKey().GetServerId()).GetName()))
	}
	return writeJSON(w, http.StatusOK, list)
}

func newAlarm(a *pmpb.Alarm, name string) alarmView {
	return alarmView{
		Kind: alarmName(a.GetKey().GetKind()), ServerID: a.GetKey().GetServerId(), Name: name, Message: a.GetMessage(), Since: stampText(a.GetSince()),
	}
}

func alarmName(kind pmpb.AlarmKey_Kind) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(kind.String(), "KIND_")), "_", "-")
}

// entryView is an entry of the log as it is told.
type entryView struct {
	Index      uint64          `json:"index"`
	Term       uint64          `json:"term"`
	Type       string          `json:"type"`
	AppendedAt *string         `json:"appended_at"`
	Size       int             `json:"size_bytes"`
	Op         string          `json:"op,omitempty"`
	Text       string          `json:"text,omitempty"`
	Command    json.RawMessage `json:"command,omitempty"`
}

// defaultLogEntries is how many entries are told without ?from.
const defaultLogEntries = 100

// getRaftLog tells entries of this node's log, decoded, one JSON document a line.
func (s *Server) getRaftLog(w http.ResponseWriter, r *http.Request) error {
	if s.opts.Inspection == nil {
		return errNoInspection()
	}
	q := parseQuery(r.URL.RawQuery)
	from, to := q.index("from"), q.index("to")
	if q.err == nil && to != 0 && from > to {
		q.err = fail(registry.InvalidArgument, "Query parameter from must not be above to")
	}
	if q.err != nil {
		return q.err
	}
	if from == 0 {
		end := to
		if end == 0 {
			end = s.opts.Inspection.Raft().LastLogIndex
		}
		from = end - min(end, defaultLogEntries) + 1
	}
	if to == 0 {
		to = math.MaxUint64
	}
	w.Header().Set(headerContentType, contentTypeLines)
	enc := json.NewEncoder(w)
	begun := false
	err := s.opts.Inspection.LogEntries(r.Context(), from, to, func(e LogEntry) bool {
		begun = true
		return enc.Encode(tellEntry(&e)) == nil
	})
	if err != nil && !begun {
		return operatorProblem(err)
	}
	if err != nil && r.Context().Err() == nil {
		s.log.Warn("the log could not be told to its end", "error", err)
		callOf(r.Context()).cut = true
	}
	return nil
}

func tellEntry(e *LogEntry) entryView {
	out := entryView{Index: e.Index, Term: e.Term, Type: e.Type, Size: e.Size, Text: e.Text}
	if !e.AppendedAt.IsZero() {
		text := zulu(e.AppendedAt)
		out.AppendedAt = &text
	}
	if e.Command != nil {
		out.Op, out.Command = tellCommand(e.Command)
	}
	return out
}
