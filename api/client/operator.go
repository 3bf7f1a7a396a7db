package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Leader names whoever leads, where a node is asked for.
const Leader = "leader"

// raw lets a document be sent as it is.
type raw []byte

func (r raw) MarshalJSON() ([]byte, error) { return r, nil }

// document makes a body of any value.
func document(v any) (json.Marshaler, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return raw(data), nil
}

func send[T any](ctx context.Context, c *Client, method, path string, query url.Values, v any) (*T, error) {
	var doc json.Marshaler
	if v != nil {
		var err error
		if doc, err = document(v); err != nil {
			return nil, err
		}
	}
	out := new(T)
	if err := c.do(ctx, method, path, query, doc, out); err != nil {
		return nil, err
	}
	return out, nil
}

// operatorPath is a path of the operators' part of the API.
func operatorPath(rest string) string { return prefix + "operator/" + rest }

// MembersWithHealth lists the nodes as the leader sees them.
func (c *Client) MembersWithHealth(ctx context.Context) ([]Member, error) {
	return get[[]Member](ctx, c, path("members"), nil)
}

// RemoveMember takes a server out of the cluster. It may be named.
func (c *Client) RemoveMember(ctx context.Context, node string, dryRun, force bool) (*Removal, error) {
	q := url.Values{}
	if dryRun {
		q.Set("dry_run", "true")
	}
	if force {
		q.Set("force", "true")
	}
	return send[Removal](ctx, c, http.MethodDelete, path("members", node), q, nil)
}

// SetVote pins a server to have no vote, or takes that back.
func (c *Client) SetVote(ctx context.Context, node string, allowed bool) error {
	_, err := send[struct{}](ctx, c, http.MethodPut, path("members", node)+"/vote", nil, map[string]bool{"allowed": allowed})
	return err
}

// TransferLeader hands leadership to a node, to the best one when to is empty.
func (c *Client) TransferLeader(ctx context.Context, to string) (*Transfer, error) {
	return send[Transfer](ctx, c, http.MethodPost, operatorPath("leader/transfer"), nil, map[string]string{"to": to})
}

// Autopilot tells how the leader sees the cluster.
func (c *Client) Autopilot(ctx context.Context) (*Autopilot, error) {
	return get[*Autopilot](ctx, c, operatorPath("autopilot"), nil)
}

// AutopilotConfig gives the settings of autopilot and their version.
func (c *Client) AutopilotConfig(ctx context.Context) (*AutopilotConfig, string, error) {
	var version string
	out, err := get[*AutopilotConfig](withHeaders(ctx, func(h http.Header) { version = h.Get("ETag") }), c, operatorPath("autopilot/config"), nil)
	return out, version, err
}

// SetAutopilotConfig replaces the settings, if they still have that version.
func (c *Client) SetAutopilotConfig(ctx context.Context, config *AutopilotConfig, version string) (*AutopilotConfig, error) {
	return send[AutopilotConfig](withMatch(ctx, version), c, http.MethodPut, operatorPath("autopilot/config"), nil, config)
}

// FeatureLevel tells which commands the cluster uses.
func (c *Client) FeatureLevel(ctx context.Context) (*FeatureLevel, error) {
	return get[*FeatureLevel](ctx, c, operatorPath("feature-level"), nil)
}

// RaiseFeatureLevel raises the level; 0 is what all servers know.
func (c *Client) RaiseFeatureLevel(ctx context.Context, level uint32) (*FeatureLevel, error) {
	return send[FeatureLevel](ctx, c, http.MethodPost, operatorPath("feature-level"), nil, map[string]uint32{"level": level})
}

// Alarms lists what makes the cluster read-only. It needs a leader.
func (c *Client) Alarms(ctx context.Context) ([]Alarm, error) {
	return get[[]Alarm](ctx, c, operatorPath("alarms"), nil)
}

// KnownAlarms lists the alarms that the node that answers knows of, which may be
// out of date.
func (c *Client) KnownAlarms(ctx context.Context) ([]Alarm, error) {
	return get[[]Alarm](ctx, c, operatorPath("alarms"), params("consistency", "stale"))
}

// Node tells everything about one node. An empty name is the node that answers.
func (c *Client) Node(ctx context.Context, node string) (*Node, error) {
	return get[*Node](ctx, c, operatorPath("node"), params("node", node))
}

// Doctor has a node examine itself.
func (c *Client) Doctor(ctx context.Context, node string) (*Doctor, error) {
	return get[*Doctor](ctx, c, operatorPath("doctor"), params("node", node))
}

// Chain compares the histories of the nodes, as seen from one.
func (c *Client) Chain(ctx context.Context, node string) (*Chain, error) {
	return get[*Chain](ctx, c, operatorPath("chain"), params("node", node))
}

// Tuning tells what can be changed on a running node.
func (c *Client) Tuning(ctx context.Context, node string) (*Tuning, error) {
	return get[*Tuning](ctx, c, operatorPath("raft/tuning"), params("node", node))
}

// Tune changes some of it.
func (c *Client) Tune(ctx context.Context, node string, t Tuning) (*Tuning, error) {
	return send[Tuning](ctx, c, http.MethodPatch, operatorPath("raft/tuning"), params("node", node), t)
}

// Backups lists the stored backups.
func (c *Client) Backups(ctx context.Context) ([]Backup, error) {
	return get[[]Backup](ctx, c, operatorPath("backups"), nil)
}

// RunBackup makes one now.
func (c *Client) RunBackup(ctx context.Context) (*Backup, error) {
	return send[Backup](ctx, c, http.MethodPost, operatorPath("backups"), nil, nil)
}

// RaftLog tells entries of a node's log. It stops when yield returns false.
func (c *Client) RaftLog(ctx context.Context, node string, from, to uint64, yield func(LogEntry) bool) error {
	q := params("node", node)
	if from > 0 {
		q.Set("from", fmt.Sprint(from))
	}
	if to > 0 {
		q.Set("to", fmt.Sprint(to))
	}
	return lines(ctx, c, operatorPath("raft/log"), q, yield)
}

// LogQuery says which lines of a node's log are wanted.
type LogQuery struct {
	Node, Level, Subsystem string
	// Lines is how many of the newest lines come first; negative is the server's
	// default.
	Lines int
	// Follow goes on with new lines, for For when that is not 0.
	Follow bool
	For    time.Duration
}

// Logs tells lines of a node's log. It stops when yield returns false.
func (c *Client) Logs(ctx context.Context, query LogQuery, yield func(LogLine) bool) error {
	q := params("node", query.Node, "level", query.Level, "subsystem", query.Subsystem)
	if query.Lines >= 0 {
		q.Set("lines", fmt.Sprint(query.Lines))
	}
	if query.Follow {
		q.Set("follow", "true")
		if query.For > 0 {
			q.Set("for", query.For.String())
		}
	}
	return lines(ctx, c, operatorPath("logs"), q, yield)
}

// Profile writes a profile of a node's process.
func (c *Client) Profile(ctx context.Context, node, profile string, span time.Duration, w io.Writer) error {
	q := params("node", node)
	if span > 0 {
		q.Set("seconds", fmt.Sprint(int(span.Seconds())))
	}
	_, err := c.download(ctx, operatorPath("debug/pprof/"+url.PathEscape(profile)), q, w)
	return err
}

// Goroutines writes what each goroutine of a node's process does, as text.
func (c *Client) Goroutines(ctx context.Context, node string, w io.Writer) error {
	q := params("node", node, "debug", "2")
	_, err := c.download(ctx, operatorPath("debug/pprof/goroutine"), q, w)
	return err
}

// Metrics writes a node's metrics.
func (c *Client) Metrics(ctx context.Context, node string, w io.Writer) error {
	_, err := c.download(ctx, operatorPath("metrics"), params("node", node), w)
	return err
}

// Snapshot writes the state as a file. An error means that the file is not whole.
func (c *Client) Snapshot(ctx context.Context, node string, w io.Writer) (*SnapshotSummary, error) {
	return c.snapshotAt(ctx, operatorPath("snapshot"), params("node", node), w)
}

// Backup writes a stored backup. An error means that the file is not whole.
func (c *Client) Backup(ctx context.Context, name string, w io.Writer) (*SnapshotSummary, error) {
	return c.snapshotAt(ctx, operatorPath("backups/"+url.PathEscape(name)), nil, w)
}

func (c *Client) snapshotAt(ctx context.Context, path string, query url.Values, w io.Writer) (*SnapshotSummary, error) {
	sum := newDigest(w)
	trailer, err := c.download(ctx, path, query, sum)
	if err != nil {
		return nil, err
	}
	out := &SnapshotSummary{Size: sum.n, SHA256: sum.hex()}
	switch want := trailer.Get("PM-Snapshot-Sha256"); {
	case want == "":
		return nil, errors.New("the snapshot ended early: its digest is missing")
	case want != out.SHA256:
		return nil, fmt.Errorf("the snapshot was damaged on the way: digest %s, the server says %s", out.SHA256, want)
	}
	_, _ = fmt.Sscan(trailer.Get("PM-Snapshot-Index"), &out.Index) // 0 with a server that does not say
	return out, nil
}

// Restore replaces the state by a snapshot of size bytes. It is tried on one
// server only: a second attempt would be a second restore.
func (c *Client) Restore(ctx context.Context, clusterID string, snapshot io.Reader, size int64) (*Restored, error) {
	server := c.servers[c.current.Load()]
	req, err := c.request(ctx, server, http.MethodPost, operatorPath("snapshot/restore"), params("confirm", clusterID), snapshot)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &UnreachableError{Servers: []string{server}, Sent: !neverSent(err), Cause: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, decodeError(server, resp, body)
	}
	out := new(Restored)
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("answer cannot be read: %w", err)
	}
	return out, nil
}

// lines reads JSON documents, one a line, until their end.
func lines[T any](ctx context.Context, c *Client, path string, query url.Values, yield func(T) bool) error {
	resp, err := c.open(ctx, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 64<<10), int(c.opts.MaxResponseBytes))
	for in.Scan() {
		if len(in.Bytes()) == 0 {
			continue
		}
		var v T
		if err := json.Unmarshal(in.Bytes(), &v); err != nil {
			return fmt.Errorf("a line of the answer cannot be read: %w", err)
		}
		if !yield(v) {
			return nil
		}
	}
	return in.Err()
}

// download copies an answer of any length to w and gives its trailers.
func (c *Client) download(ctx context.Context, path string, query url.Values, w io.Writer) (http.Header, error) {
	resp, err := c.open(ctx, path, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return resp.Trailer, nil
}

func (c *Client) request(ctx context.Context, server, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	target := server + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	return req, nil
}

// open begins to read an answer of any length from the first server that gives
// one. Only the context bounds it, and the silence of the server if there is another.
func (c *Client) open(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	var last error
	for range c.servers {
		at := c.current.Load()
		resp, failed := c.openAt(ctx, c.servers[at], path, query)
		if failed == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w (last failure: %w)", context.Cause(ctx), failed.err)
		}
		if last = failed.err; !failed.again {
			return nil, last
		}
		c.current.CompareAndSwap(at, (at+1)%uint32(len(c.servers)))
	}
	return nil, last
}

func (c *Client) openAt(ctx context.Context, server, path string, query url.Values) (*http.Response, *failure) {
	ctx, stop := c.whileAlive(ctx, server)
	req, err := c.request(ctx, server, http.MethodGet, path, query, nil)
	if err != nil {
		stop()
		return nil, &failure{err: err}
	}
	resp, err := c.http.Do(req)
	if err == nil && resp.StatusCode == http.StatusOK {
		resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, stop: stop}
		return resp, nil
	}
	defer stop()
	if err != nil {
		return nil, &failure{err: &UnreachableError{Servers: c.Servers(), Cause: because(ctx, err)}, again: true}
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what there is of it
	e := decodeError(server, resp, body)
	return nil, &failure{err: e, again: e.Retryable}
}
