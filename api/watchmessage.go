package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// messageHead is a message of a stream without its events. Type is change, snapshot,
// bookmark or error.
type messageHead struct {
	Type string `json:"type"`
	// Index is where a stream can be resumed after a change or a bookmark. The rows
	// of a snapshot are those at that index; the bookmark after them ends it.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term,omitempty"`
	Time  string `json:"time,omitempty"`
	// Operation is the command's.
	Operation string `json:"operation,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	Principal string `json:"principal,omitempty"`
	// LastContact is the age of the leader's last message, in milliseconds.
	LastContact *int64 `json:"last_contact_ms,omitempty"`
	// What follows is that of an error, which ends the stream.
	Status      int    `json:"status,omitempty"`
	Code        string `json:"code,omitempty"`
	Detail      string `json:"detail,omitempty"`
	Retryable   bool   `json:"retryable,omitempty"`
	OldestIndex uint64 `json:"oldest_index,omitempty"`
}

// eventView is one row that was written or removed.
type eventView struct {
	Topic string `json:"topic"`
	// Type is put or delete.
	Type string `json:"type"`
	Key  string `json:"key"`
	// Name is what the row is about where that is not its key.
	Name string `json:"name,omitempty"`
	// UID and Generation are those of a deployment.
	UID        string `json:"uid,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	Object     any    `json:"object,omitempty"`
}

// tellEvent makes the row of an event what the API tells about it elsewhere.
func (s *Server) tellEvent(e *fsm.Event) eventView {
	out := eventView{Topic: e.Topic, Type: "put", Key: e.Key}
	if e.About != e.Key {
		out.Name = e.About
	}
	switch row := e.Row.(type) {
	case nil:
		out.Type = "delete"
	case *fsm.Package:
		out.Object = row.Doc
	case *fsm.Deployment:
		out.UID, out.Generation, out.Object = row.UID, row.Generation, row.Doc
	case *fsm.Plan:
		out.UID, out.Generation, out.Object = row.DeploymentUID, row.Generation, json.RawMessage(row.Document)
	case *pmpb.Unit:
		out.UID, out.Generation, out.Object = row.GetDeploymentUid(), row.GetGeneration(), newUnit(row)
	case *pmpb.Cluster:
		out.Object = s.newClusterInfo(row)
	case *pmpb.Rollout:
		out.UID, out.Object = row.GetDeploymentUid(), newRolloutRow(row)
	case *pmpb.Member:
		out.Object = newMemberRow(row)
	case *pmpb.Deletion:
		out.UID, out.Object = row.GetDeploymentUid(), newDeletion(row)
	case *pmpb.Autopilot:
		out.Object = tellAutopilotConfig(row)
	case *pmpb.Alarm:
		out.Object = newAlarm(row, "")
	case *pmpb.AuditEntry:
		out.Object = newAuditEntry(row)
	}
	return out
}

// rolloutRow is a rollout as far as its row knows it; the units know the rest.
type rolloutRow struct {
	Phase          string  `json:"phase"`
	Reason         string  `json:"reason"`
	Message        string  `json:"message"`
	Revision       uint64  `json:"revision"`
	StableRevision uint64  `json:"stable_revision"`
	Wave           int     `json:"wave"`
	Waves          int     `json:"waves"`
	Deadline       *string `json:"deadline"`
	// Revisions by environment.
	Revisions map[string]uint64 `json:"revisions"`
}

func newRolloutRow(r *pmpb.Rollout) rolloutRow {
	out := rolloutRow{
		Phase: registry.PhaseName(r.GetPhase()), Reason: r.GetReason(), Message: r.GetMessage(), Revision: r.GetRevision(),
		StableRevision: r.GetStable(), Wave: int(r.GetWave()) + 1, Waves: fsm.RolloutWaves(r), Deadline: stampText(r.GetDeadline()),
		Revisions: map[string]uint64{},
	}
	for _, e := range r.GetEnvs() {
		out.Revisions[e.GetEnv()] = e.GetRevision()
	}
	return out
}

// memberRow is what a node has told about itself.
type memberRow struct {
	ServerID     string `json:"server_id"`
	Name         string `json:"name"`
	Zone         string `json:"zone"`
	RaftAddress  string `json:"raft_address"`
	GRPCAddress  string `json:"grpc_address"`
	HTTPAddress  string `json:"http_address"`
	Version      string `json:"version"`
	FeatureLevel uint32 `json:"feature_level"`
}

func newMemberRow(m *pmpb.Member) memberRow {
	return memberRow{
		ServerID: m.GetServerId(), Name: m.GetName(), Zone: m.GetZone(), RaftAddress: m.GetRaftAddress(), GRPCAddress: m.GetGrpcAddress(),
		HTTPAddress: m.GetHttpAddress(), Version: m.GetVersion(), FeatureLevel: max(m.GetFeatureLevel(), 1),
	}
}

// messagePiece is how many bytes of a message are collected before they are sent:
// one command may have changed very much.
const messagePiece = 64 << 10

// messageWriter writes messages, as lines or as server-sent events. After an error
// it does nothing: the client is gone, or takes nothing.
type messageWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  bool
	buf     bytes.Buffer
	err     error
}

func newMessageWriter(w http.ResponseWriter, events bool) *messageWriter {
	return &messageWriter{w: w, control: http.NewResponseController(w), events: events}
}

// message writes head with events as its last member. Events that are sent are
// whole: a message that breaks off ends the stream.
func (m *messageWriter) message(head *messageHead, events []eventView) {
	if m.events {
		m.buf.WriteString("event: " + head.Type + "\n")
		if head.Type == "change" || head.Type == "bookmark" {
			m.buf.WriteString("id: " + strconv.FormatUint(head.Index, 10) + "\n")
		}
		m.buf.WriteString("data: ")
	}
	m.encode(head)
	if len(events) > 0 {
		m.buf.Truncate(m.buf.Len() - len("}"))
		for i := range events {
			before := ","
			if i == 0 {
				before = `,"events":[`
			}
			m.buf.WriteString(before)
			m.encode(&events[i])
			if m.buf.Len() >= messagePiece {
				m.send()
			}
		}
		m.buf.WriteString("]}")
	}
	m.buf.WriteString("\n")
	if m.events {
		m.buf.WriteString("\n")
	}
	m.send()
}

// encode appends a JSON document without the line's end.
func (m *messageWriter) encode(v any) {
	if m.err != nil {
		return
	}
	enc := json.NewEncoder(&m.buf)
	enc.SetEscapeHTML(false)
	if m.err = enc.Encode(v); m.err == nil {
		m.buf.Truncate(m.buf.Len() - len("\n"))
	}
}

func (m *messageWriter) send() {
	if m.err == nil {
		_, m.err = m.w.Write(m.buf.Bytes())
	}
	if m.buf.Cap() > 2*messagePiece {
		m.buf = bytes.Buffer{} // a large row is rare, and streams are many
		return
	}
	m.buf.Reset()
}

// flush sends what was written, and tells whether the client can still be reached.
func (m *messageWriter) flush() error {
	if m.err == nil {
		m.err = m.control.Flush()
	}
	return m.err
}
