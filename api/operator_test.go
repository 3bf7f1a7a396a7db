package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/backup"
	"oaas.io/control-plane/registry"
)

// operators is a node as operators see it. It remembers what it was asked to do.
type operators struct {
	h *harness

	mu      sync.Mutex
	asked   []string
	config  AutopilotConfig
	fail    error
	entries []LogEntry
	// broken ends a snapshot in its middle.
	broken bool
	// size of a snapshot in words.
	size   int
	tuning Tuning
}

func (o *operators) ask(what string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, what)
	if !o.h.node.IsLeader() {
		return raftstore.ErrNotLeader
	}
	return o.fail
}

func (o *operators) Autopilot() (*AutopilotState, error) {
	if !o.h.node.IsLeader() {
		return nil, raftstore.ErrNotLeader
	}
	return &AutopilotState{
		Healthy: false, FailureTolerance: 0, Voters: 1, DesiredVoters: 3, LeaderID: "pm-0", Problems: []string{"1 voter of 3 that are wanted"},
		Servers: []AutopilotServer{
			{ServerID: "pm-0", Name: "zero", Role: "leader", MemberHealth: MemberHealth{Healthy: true, LastIndex: 21, LastTerm: 3, DiskFree: 5 << 30, DiskTotal: 10 << 30, DiskWriteP99: Duration(3 * time.Millisecond), Reasons: []string{}}},
			{ServerID: "pm-1", Role: "non-voter", MemberHealth: MemberHealth{Lag: 7, LastContact: Duration(4 * time.Second), Reasons: []string{"it has not heard from the leader for 4s"}}},
		},
	}, nil
}

func (o *operators) AutopilotConfig() AutopilotConfig {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.config
}

func (o *operators) SetAutopilotConfig(_ context.Context, c AutopilotConfig) error {
	if err := o.ask("config"); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.ModifyIndex != 0 && c.ModifyIndex != o.config.ModifyIndex {
		return &fsm.GuardError{}
	}
	c.ModifyIndex = o.config.ModifyIndex + 1
	o.config = c
	return nil
}

func (o *operators) RemoveServer(_ context.Context, id string, dryRun, force bool) (*Removal, error) {
	what := "remove " + id
	if dryRun {
		what += " dry"
	}
	if force {
		what += " force"
	}
	if err := o.ask(what); err != nil {
		return nil, err
	}
	return &Removal{ServerID: id, DryRun: dryRun, Removed: !dryRun, VotersBefore: 3, VotersAfter: 2, Refused: []string{}, Warnings: []string{}}, nil
}

func (o *operators) SetVote(_ context.Context, id string, allowed bool) error {
	return o.ask(map[bool]string{true: "vote ", false: "no vote "}[allowed] + id)
}

func (o *operators) TransferTo(_ context.Context, id string) (*Transfer, error) {
	if err := o.ask("transfer " + id); err != nil {
		return nil, err
	}
	return &Transfer{From: "pm-0", To: "pm-1", Took: 12}, nil
}

func (o *operators) RaiseFeatureLevel(_ context.Context, level uint32) error {
	if err := o.ask("level"); err != nil {
		return err
	}
	res, err := o.h.store.Apply(context.Background(), &pmpb.Command{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}}})
	return errors.Join(err, res.Err)
}

func (o *operators) Raft() RaftView {
	return RaftView{State: "Leader", Term: 3, Ready: true, LastLogIndex: 21, CommitIndex: 21, AppliedIndex: 21}
}
func (o *operators) Disk() DiskView {
	return DiskView{Path: "/data", Free: 5 << 30, Total: 10 << 30, WriteP50: Duration(time.Millisecond), WriteP99: Duration(3 * time.Millisecond), LogFileBytes: 1 << 20}
}
func (o *operators) Snapshots() ([]SnapshotView, error) {
	return []SnapshotView{{ID: "3-20-1", Index: 20, Term: 3, Size: 4096}}, nil
}
func (o *operators) Tuning() Tuning { return o.tuning }
func (o *operators) Tune(t Tuning) error {
	if t.TrailingLogs == 1 {
		return errors.New("trailing_logs is too small")
	}
	o.tuning = t
	return nil
}

func (o *operators) LogEntries(_ context.Context, from, to uint64, yield func(LogEntry) bool) error {
	for _, e := range o.entries {
		if e.Index >= from && e.Index <= to && !yield(e) {
			return nil
		}
	}
	return o.fail
}

func (o *operators) ChainReport(context.Context) (*ChainView, error) {
	return &ChainView{Index: 20, Agree: false, Servers: []ChainServer{{ServerID: "pm-0", Index: 20, Hash: "aa"}, {ServerID: "pm-1", Index: 20, Hash: "bb"}}}, nil
}

func (o *operators) FeatureLevels() FeatureView {
	return FeatureView{Level: o.h.store.State().Snapshot().FeatureLevel(), Own: 2, Possible: 2, Behind: []string{}}
}

func (o *operators) SaveSnapshot(_ context.Context, w io.Writer) (*Saved, error) {
	if o.fail != nil && !o.broken {
		return nil, o.fail
	}
	_, _ = w.Write(bytes.Repeat([]byte("snapshot"), o.size))
	if o.broken {
		return nil, errors.New("disk")
	}
	return &Saved{Index: 21}, nil
}

func (o *operators) RestoreSnapshot(_ context.Context, r io.Reader, size int64, opts RestoreOptions) (*Restored, error) {
	data, err := io.ReadAll(r)
	if err = errors.Join(err, o.ask("restore "+opts.ConfirmClusterID)); err != nil {
		return nil, err
	}
	if size >= 0 && int64(len(data)) != size {
		return nil, errors.New("not whole")
	}
	return &Restored{Epoch: 2, Index: 99, Packages: len(data), SafetyCopy: "/data/safety"}, nil
}

func (o *operators) List(context.Context) ([]BackupView, error) {
	return []BackupView{{Name: "b-1", Location: "file:///backups/b-1", Time: &epoch, Size: 4096, Index: 20, Digest: "ab12"}}, o.fail
}

func (o *operators) Fetch(_ context.Context, name string, w io.Writer) (*BackupView, error) {
	if name != "b-1" {
		return nil, backup.ErrNotFound
	}
	if _, err := io.WriteString(w, "the snapshot"); err != nil {
		return nil, err
	}
	return &BackupView{Name: name, Index: 20}, o.fail
}

func (o *operators) Run(context.Context) (*BackupView, error) {
	return &BackupView{Name: "b-2"}, o.ask("backup")
}

// operated gives each node of a test what operators need.
func operated(h *harness) {
	o := &operators{h: h, config: AutopilotConfig{DesiredVoters: 3, NonVoters: []string{}, ModifyIndex: 5}, tuning: Tuning{TrailingLogs: 20480}}
	h.ops = o
	h.opts.Membership, h.opts.Inspection, h.opts.Snapshots, h.opts.Backups = o, o, o, o
	h.opts.Settings = map[string]string{"http-addr": ":8080", "gossip-key": "c2VjcmV0", "gateway-url": "http://user:hunter2@gw:80/?token=x", "backup-secret-access-key": ""}
}

// TestOperatorReads pins what operators are told, through a node that does not lead.
func TestOperatorReads(t *testing.T) {
	p := newPeers(t, nil, operated)
	p.leader.named("pm-0", "zero")
	raise := []*pmpb.Command{
		{Op: &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: 2}}},
		{Op: &pmpb.Command_UpdateAlarms{UpdateAlarms: &pmpb.UpdateAlarms{Raise: []*pmpb.Alarm{{Key: &pmpb.AlarmKey{Kind: pmpb.AlarmKey_KIND_NO_SPACE, ServerId: "pm-0"}, Message: "3 % free"}}}}},
	}
	for _, cmd := range raise {
		if res, err := p.leader.store.Apply(t.Context(), cmd); errors.Join(err, res.Err) != nil {
			t.Fatal(err, res.Err)
		}
	}
	for name, target := range map[string]string{
		"members-health": "members", "members-stale": "members?consistency=stale", "operator-autopilot": "operator/autopilot", "operator-autopilot-config": "operator/autopilot/config",
		"operator-alarms": "operator/alarms", "operator-chain": "operator/chain?node=zero", "operator-feature-level": "operator/feature-level",
		"operator-backups": "operator/backups", "operator-tuning": "operator/raft/tuning?node=leader",
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, name, p.follower.must(http.StatusOK, http.MethodGet, "/api/v1/"+target, ""))
		})
	}
}

func TestNodeTellsNoSecrets(t *testing.T) {
	h := shop(t, operated)
	w := h.must(http.StatusOK, http.MethodGet, "/api/v1/operator/node", "")
	var got nodeView
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"http-addr": ":8080", "gossip-key": "<redacted>", "gateway-url": "http://redacted@gw:80/?redacted", "backup-secret-access-key": ""}
	if diff := cmp.Diff(want, got.Settings); diff != "" {
		t.Error(diff)
	}
	for _, secret := range []string{"c2VjcmV0", "hunter2", "token"} {
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s is told", secret)
		}
	}
	if got.State.Packages != 1 || got.State.Deployments != 1 || got.State.Units != 2 || got.Raft.LastLogIndex != 21 || got.Process.Goroutines == 0 || len(got.Snapshots) != 1 {
		t.Errorf("%s", w.Body)
	}
}

// TestLogTellsNoSecrets: entries are decoded, but what users may keep secret in a
// package, and idempotency keys, are not told.
func TestLogTellsNoSecrets(t *testing.T) {
	const secret = "hunter2"
	h := newHarness(t, operated)
	doc, err := json.Marshal(&model.OPackage{Name: "shop", Functions: []model.OFunction{{Key: "f", Config: map[string]string{"password": secret}}}})
	if err != nil {
		t.Fatal(err)
	}
	h.ops.entries = []LogEntry{
		{Index: 1, Term: 1, Type: "configuration", Text: "pm-0 voter"},
		{Index: 2, Term: 1, Type: "command", AppendedAt: epoch, Size: 99, Command: &pmpb.Command{
			RequestId: "req-1", LeaderTime: timestamppb.New(epoch), Idempotency: &pmpb.Idempotency{Key: secret + "-key", Body: []byte(secret)},
			Op: &pmpb.Command_PutPackage{PutPackage: &pmpb.PutPackage{Document: doc}},
		}},
		{Index: 3, Term: 1, Type: "command", Command: &pmpb.Command{Op: &pmpb.Command_CommitDeployment{CommitDeployment: &pmpb.CommitDeployment{
			Uid: "uid-1", Document: doc, Plan: []byte(`{}`), Units: []*pmpb.PlannedUnit{{Id: "u", Env: "oaas-1", Desired: &oaaspb.DeploymentUnit{
				Functions: []*oaaspb.FunctionDeploymentSpec{{FunctionKey: "f", Config: map[string]string{"password": secret}}},
			}}},
		}}}},
	}
	w := h.must(http.StatusOK, http.MethodGet, "/api/v1/operator/raft/log?from=1&to=9", "")
	if strings.Contains(w.Body.String(), secret) {
		t.Errorf("a secret is told: %s", w.Body)
	}
	var got []entryView
	for line := range strings.Lines(w.Body.String()) {
		var e entryView
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 3 || got[1].Op != "put_package" || got[2].Op != "commit_deployment" || got[0].Text != "pm-0 voter" {
		t.Errorf("%s", w.Body)
	}
	for _, want := range []string{"req-1", "oaas-1", "uid-1", `"password":"\u003c7 bytes\u003e"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing: %s", want, w.Body)
		}
	}
	w = h.do(http.MethodGet, "/api/v1/operator/raft/log?from=3&to=2", "")
	if h.problem(w).Code != registry.InvalidArgument {
		t.Errorf("%s", w.Body)
	}
	h.ops.fail = errors.New("compacted")
	if w = h.do(http.MethodGet, "/api/v1/operator/raft/log?from=8", ""); w.Code != http.StatusInternalServerError {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOperatorWrites(t *testing.T) {
	p := newPeers(t, nil, operated)
	p.leader.named("pm-1", "one")
	do := p.follower.do
	for _, tt := range []struct {
		method, target, body string
		header               string
		status               int
		want                 string
		asked                string
	}{
		{"DELETE", "members/one?dry_run", "", "", 200, `"dry_run":true,"removed":false`, "remove pm-1 dry"},
		{"DELETE", "members/pm-1?force=true", "", "", 200, `"removed":true`, "remove pm-1 force"},
		{"DELETE", "members/mars", "", "", 404, "Node not found: mars", ""},
		{"DELETE", "members/pm-1?force=maybe", "", "", 400, "force", ""},
		{"PUT", "members/one/vote", `{"allowed":false}`, "", 200, `"allowed":false`, "no vote pm-1"},
		{"PUT", "members/one/vote", `{"allowed":true}`, "", 200, `"allowed":true`, "vote pm-1"},
		{"PUT", "members/one/vote", `{}`, "", 422, "allowed", ""},
		{"PUT", "members/one/vote", `{"allow":true}`, "", 422, "allow", ""},
		{"PUT", "members/one/vote", `{"allowed":true}{}`, "", 400, "more than one", ""},
		{"POST", "operator/leader/transfer", `{"to":"one"}`, "", 200, `"took_ms":12`, "transfer pm-1"},
		{"POST", "operator/leader/transfer", "", "", 200, `"to":"pm-0"`, "transfer "},
		{"POST", "operator/leader/transfer", `{"to":"leader"}`, "", 200, `"took_ms":0`, ""},
		{"PUT", "operator/autopilot/config", `{"desired_voters":5,"server_stabilization":"20s","non_voters":["one"]}`, `If-Match: "autopilot.5"`, 200, `"server_stabilization":"20s"`, "config"},
		{"PUT", "operator/autopilot/config", `{"desired_voters":3}`, `If-Match: "autopilot.5"`, 412, "changed meanwhile", "config"},
		{"PUT", "operator/autopilot/config", `{"desired_voters":3}`, "", 200, `"desired_voters":3`, "config"},
		{"PUT", "operator/autopilot/config", `{"server_stabilization":5}`, "", 422, "10s", ""},
		{"PUT", "operator/autopilot/config", "", "", 422, "missing", ""},
		{"POST", "operator/feature-level", `{"level":3}`, "", 409, "cannot be reached", ""},
		{"POST", "operator/feature-level", "", "", 200, `"level":2`, "level"},
		{"POST", "operator/feature-level", `{"level":1}`, "", 409, "no way back", ""},
		{"POST", "operator/backups", "", "", 201, `"name":"b-2"`, "backup"},
		{"PATCH", "operator/raft/tuning?node=leader", `{"trailing_logs":1}`, "", 400, "too small", ""},
		{"PATCH", "operator/raft/tuning?node=leader", `{"trailing_logs":9,"heartbeat_timeout":"2s"}`, "", 200, `"heartbeat_timeout":"2s"`, ""},
		{"PATCH", "operator/raft/tuning?node=leader", `{}`, "", 400, "Nothing", ""},
	} {
		t.Run(tt.method+" "+tt.target+" "+tt.body, func(t *testing.T) {
			p.leader.ops.asked = nil
			var headers []string
			if tt.header != "" {
				headers = append(headers, tt.header)
			}
			w := do(tt.method, "/api/v1/"+tt.target, tt.body, headers...)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d %s, want %d with %s", w.Code, w.Body, tt.status, tt.want)
			}
			if got := strings.Join(p.leader.ops.asked, ","); got != tt.asked {
				t.Errorf("asked %q, want %q", got, tt.asked)
			}
			if len(p.follower.ops.asked) > 0 {
				t.Errorf("the follower did %v", p.follower.ops.asked)
			}
		})
	}
}

// answered is what remains of an answer when its body was read to the end.
type answered struct {
	StatusCode int
	Trailer    http.Header
}

func TestSnapshotsOverRelay(t *testing.T) {
	p := newPeers(t, nil, operated)
	base, c := serve(t, p.follower), client(t)
	get := func(target string) (answered, []byte, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/operator/snapshot"+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			return answered{}, nil, err
		}
		defer func() { _ = resp.Body.Close() }()
		data, err := io.ReadAll(resp.Body)
		return answered{resp.StatusCode, resp.Trailer}, data, err
	}
	for _, target := range []string{"?node=leader", ""} {
		for _, size := range []int{0, 1, 50_000} {
			p.leader.ops.size, p.follower.ops.size = size, size
			resp, data, err := get(target)
			if err != nil || resp.StatusCode != http.StatusOK || len(data) != 8*size {
				t.Fatal(err, len(data))
			}
			sum := sha256.Sum256(data)
			if got := resp.Trailer.Get("PM-Snapshot-Sha256"); got != hex.EncodeToString(sum[:]) || resp.Trailer.Get("PM-Snapshot-Index") != "21" {
				t.Errorf("%q, %d words: trailers %v", target, size, resp.Trailer)
			}
		}
	}
	p.leader.ops.broken = true
	if _, _, err := get("?node=leader"); err == nil {
		t.Error("half a snapshot looks whole")
	}
	p.leader.ops.broken, p.leader.ops.fail = false, raftstore.ErrNoLeader
	if resp, body, err := get("?node=leader"); err != nil || resp.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("no-leader")) {
		t.Errorf("%s, %v", body, err)
	}
	p.leader.ops.fail = nil

	own := p.leader.store.State().Snapshot().Meta().GetClusterId()
	restore := func(confirm, body string) (int, string) {
		resp, text := fetch(t, c, http.MethodPost, base+"/api/v1/operator/snapshot/restore?confirm="+confirm, strings.NewReader(body))
		return resp.StatusCode, text
	}
	if own == "" {
		if res, err := p.leader.store.Apply(t.Context(), &pmpb.Command{Op: &pmpb.Command_Found{Found: &pmpb.Found{ClusterId: "cluster-1"}}}); errors.Join(err, res.Err) != nil {
			t.Fatal(err, res.Err)
		}
		own = "cluster-1"
	}
	for _, tt := range []struct {
		confirm, body string
		status        int
	}{{"", "x", 400}, {"another", "x", 409}, {own, "", 400}, {own, strings.Repeat("x", 300_000), 200}} {
		if status, text := restore(tt.confirm, tt.body); status != tt.status {
			t.Errorf("%q with %d bytes: %d %s, want %d", tt.confirm, len(tt.body), status, text, tt.status)
		} else if status == 200 && !strings.Contains(text, `"packages":300000`) {
			t.Errorf("%s", text)
		}
	}
}

// TestDoctor checks two nodes that can reach each other, and a third that nobody can.
func TestDoctor(t *testing.T) {
	p := newPeers(t, nil, operated, func(h *harness) { h.opts.DataDir = t.TempDir() })
	w := p.follower.must(http.StatusOK, http.MethodGet, "/api/v1/operator/doctor?node=leader", "")
	var got doctorView
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for _, c := range got.Checks {
		status[c.Name] = c.Status
		if (c.Status == checkOK) != (c.Advice == "") || c.Value == "" || c.Bound == "" {
			t.Errorf("%+v", c)
		}
	}
	if got.ServerID != "pm-0" || got.Status != checkFail {
		t.Errorf("%s", w.Body)
	}
	for name, want := range map[string]string{
		"quorum": checkOK, "alarms": checkOK, "disk space": checkOK, "voters": checkWarn, "failure tolerance": checkWarn, "backup age": checkOK,
		"reach pm-1": checkFail, "name of pm-1": checkFail, "leader's last message": checkOK,
	} {
		if status[name] != want {
			t.Errorf("%s: %q, want %s: %s", name, status[name], want, w.Body)
		}
	}
	if status["fsync"] == "" || status["open files"] == "" {
		t.Errorf("%s", w.Body)
	}
}

// TestBackupsThatAreRefused: a client that tries again for a wrong key only makes
// its user wait for the reason.
func TestBackupsThatAreRefused(t *testing.T) {
	h := shop(t, operated)
	for _, tt := range []struct {
		err  error
		code registry.Code
	}{{fmt.Errorf("%w: the signature does not match", backup.ErrRefused), registry.FailedPrecondition}, {errors.New("connection refused"), registry.Unavailable}} {
		h.ops.fail = tt.err
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			w := h.do(method, "/api/v1/operator/backups", "")
			if p := h.problem(w); p.Code != tt.code || p.Retryable != (tt.code == registry.Unavailable) || !strings.Contains(p.Detail, tt.err.Error()) {
				t.Errorf("%s: %s", method, w.Body)
			}
		}
	}
}

// TestGetBackup: an answer is whole and says so, or is none.
func TestGetBackup(t *testing.T) {
	h := shop(t, operated)
	w := h.must(http.StatusOK, http.MethodGet, "/api/v1/operator/backups/b-1", "")
	sum := sha256.Sum256([]byte("the snapshot"))
	got := w.Result()
	if w.Body.String() != "the snapshot" || got.Trailer.Get(trailerDigest) != hex.EncodeToString(sum[:]) || got.Trailer.Get(trailerIndex) != "20" {
		t.Errorf("%s with the trailers %v", w.Body, got.Trailer)
	}
	if p := h.problem(h.do(http.MethodGet, "/api/v1/operator/backups/b-9", "")); p.Code != registry.NotFound || !strings.Contains(p.Detail, "b-9") {
		t.Errorf("%+v", p)
	}
	h.ops.fail = backup.ErrDamaged
	defer func() {
		if cut := recover(); cut != http.ErrAbortHandler { //nolint:errorlint // that is how net/http compares it
			t.Errorf("the answer with a damaged backup ends with %v", cut)
		}
	}()
	h.do(http.MethodGet, "/api/v1/operator/backups/b-1", "")
	t.Error("a damaged backup was sent to its end")
}

func TestDoctorJudgesDisks(t *testing.T) {
	for _, tt := range []struct {
		free   uint64
		low    bool
		status string
	}{{30, false, checkOK}, {15, false, checkWarn}, {5, false, checkFail}, {37, true, checkFail}, {5, true, checkFail}} {
		c := diskSpace(tt.free<<20, 100<<20, tt.low)
		if c.Status != tt.status || (c.Status == checkOK) != (c.Advice == "") || tt.low == (c.Bound == "above 20 %") {
			t.Errorf("%d %% free, low %v: %+v", tt.free, tt.low, c)
		}
	}
}

func TestNothingToOperate(t *testing.T) {
	h := newHarness(t)
	for _, target := range []string{"GET operator/node", "GET operator/autopilot", "DELETE members/pm-1", "GET operator/snapshot", "POST operator/snapshot/restore", "GET operator/backups", "GET operator/backups/b-1",
		"POST operator/backups", "GET operator/logs", "GET operator/chain", "GET operator/raft/log", "GET operator/raft/tuning", "GET operator/feature-level", "GET operator/autopilot/config"} {
		method, target, _ := strings.Cut(target, " ")
		w := h.do(method, "/api/v1/"+target, "")
		if h.problem(w).Code != codeNotConfigured {
			t.Errorf("%s: %s", target, w.Body)
		}
	}
	h.must(http.StatusOK, http.MethodGet, "/api/v1/operator/doctor", "")
	h.must(http.StatusOK, http.MethodGet, "/api/v1/members", "")
}
