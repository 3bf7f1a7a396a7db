package command

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/cmd/internal/version"
)

const (
	// bundleFileLimit bounds one file of a bundle, in bytes.
	bundleFileLimit = 32 << 20
	// bundleEntries is how many entries of each node's log a bundle has.
	bundleEntries = 1000
)

func (a *app) debugCommand() *cobra.Command {
	var out string
	var nodes []string
	var span time.Duration
	cmd := &cobra.Command{
		Use: "debug", Short: "Collect what helps to find a fault, from all nodes, into one file", Args: cobra.NoArgs,
		Long: `Collect a bundle (tar.gz): of every node its numbers, settings without secrets, log
lines as they come for a while, entries of the replicated log without contents,
profiles, metrics, examination and comparison with its peers; of the cluster its
members, autopilot, alarms and levels. What cannot be had is named in manifest.json
and does not end the collection.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if out == "" {
				out = "pm-debug-" + a.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			return a.collect(cmd.Context(), c, out, nodes, span)
		},
	}
	cmd.Flags().StringVar(&out, "file", "", "where to write the bundle (default pm-debug-<time>.tar.gz)")
	cmd.Flags().StringSliceVar(&nodes, "node", nil, "only these nodes")
	complete(cmd, "node", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.nodeNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.Flags().DurationVar(&span, "duration", 10*time.Second, "how long to follow logs and take CPU profiles")
	return cmd
}

// bundleManifest says what is in a bundle and what is missing.
type bundleManifest struct {
	Created time.Time     `json:"created_at"`
	Tool    string        `json:"pmctl_version"`
	Servers []string      `json:"servers"`
	Nodes   []bundleNode  `json:"nodes"`
	Files   []bundleFile  `json:"files"`
	Errors  []bundleError `json:"errors"`
}

type bundleNode struct {
	ServerID string `json:"server_id"`
	Name     string `json:"name"`
	Folder   string `json:"folder"`
}

type bundleFile struct {
	Path   string `json:"path"`
	Size   int    `json:"size_bytes"`
	SHA256 string `json:"sha256"`
	// Cut is set when the file was longer than what a bundle takes.
	Cut bool `json:"cut,omitempty"`
}

type bundleError struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

// bundle writes files into a tar.gz, one after the other.
type bundle struct {
	mu       sync.Mutex
	tar      *tar.Writer
	manifest bundleManifest
	failed   error // of the output, after which nothing more is written
	now      time.Time
}

func (b *bundle) add(name string, data []byte, cut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return
	}
	err := b.tar.WriteHeader(&tar.Header{Name: path.Join("pm-debug", name), Mode: 0o600, Size: int64(len(data)), ModTime: b.now, Typeflag: tar.TypeReg})
	if err == nil {
		_, err = b.tar.Write(data)
	}
	if b.failed = err; err == nil {
		sum := sha256.Sum256(data)
		b.manifest.Files = append(b.manifest.Files, bundleFile{Path: name, Size: len(data), SHA256: hex.EncodeToString(sum[:]), Cut: cut})
	}
}

func (b *bundle) miss(name string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.manifest.Errors = append(b.manifest.Errors, bundleError{Path: name, Error: err.Error()})
}

// fetch adds what get writes; a part of it is better than nothing.
func (b *bundle) fetch(name string, get func(w io.Writer) error) {
	var buf bounded
	if err := get(&buf); err != nil && !errors.Is(err, errBounded) {
		b.miss(name, err)
		if buf.Len() == 0 {
			return
		}
	}
	b.add(name, buf.Bytes(), buf.full)
}

// fetchJSON adds a value as indented JSON.
func fetchJSON[T any](b *bundle, name string, get func() (T, error)) {
	v, err := get()
	if err != nil {
		b.miss(name, err)
		return
	}
	var buf bytes.Buffer
	if err := printJSON(&buf, v); err != nil {
		b.miss(name, err)
		return
	}
	b.add(name, buf.Bytes(), false)
}

var errBounded = errors.New("longer than what a bundle takes")

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := bundleFileLimit - b.Len()
	if room >= len(p) {
		return b.Buffer.Write(p)
	}
	b.full = true
	n, _ := b.Buffer.Write(p[:room]) // never fails
	return n, errBounded
}

// collect writes a bundle. Only a member list that cannot be had, and an output
// that cannot be written, end it.
func (a *app) collect(ctx context.Context, c *client.Client, out string, only []string, span time.Duration) (err error) {
	members, err := c.Members(ctx)
	if err != nil {
		return err
	}
	for _, name := range only {
		if findMember(members, name) == nil {
			return &notFoundError{kind: "node", name: name, lister: "member list"}
		}
	}
	if len(only) > 0 {
		members = slices.DeleteFunc(members, func(m client.Member) bool {
			return !slices.Contains(only, m.Name) && !slices.Contains(only, m.ServerID)
		})
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usagef("%v", err)
	}
	zip := gzip.NewWriter(f)
	b := &bundle{tar: tar.NewWriter(zip), now: a.Now(), manifest: bundleManifest{
		Created: a.Now().UTC(), Tool: version.Version, Servers: c.Servers(), Nodes: []bundleNode{}, Files: []bundleFile{}, Errors: []bundleError{},
	}}
	defer func() {
		if err = errors.Join(err, b.failed, b.tar.Close(), zip.Close(), f.Close()); err != nil {
			_ = os.Remove(out)
		}
	}()
	a.errorf("collecting from %s for %s\n", counted(len(members), "node"), span)
	var all sync.WaitGroup
	all.Go(func() { b.cluster(ctx, c) })
	taken := map[string]bool{}
	for _, m := range members {
		folder := path.Join("nodes", folderName(nodeName(m.Name, m.ServerID)))
		if taken[folder] {
			folder = path.Join("nodes", folderName(m.ServerID))
		}
		taken[folder] = true
		b.manifest.Nodes = append(b.manifest.Nodes, bundleNode{ServerID: m.ServerID, Name: m.Name, Folder: folder})
		all.Go(func() { b.node(ctx, c, m.ServerID, folder, span) })
	}
	all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	slices.SortFunc(b.manifest.Files, func(x, y bundleFile) int { return strings.Compare(x.Path, y.Path) })
	slices.SortFunc(b.manifest.Errors, func(x, y bundleError) int { return strings.Compare(x.Path, y.Path) })
	manifest := b.manifest
	var doc bytes.Buffer
	if err := printJSON(&doc, manifest); err != nil {
		return err
	}
	b.add("manifest.json", doc.Bytes(), false)
	for _, e := range manifest.Errors {
		a.errorf("missing: %s: %s\n", e.Path, e.Error)
	}
	a.printf("%s: %s, %d missing\n", out, counted(len(manifest.Files), "file"), len(manifest.Errors))
	return nil
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// folderName keeps what a server says from leaving the bundle's folder.
func folderName(name string) string {
	return strings.TrimLeft(notInNames.ReplaceAllString(name, "_"), ".")
}

// cluster adds what is about all nodes.
func (b *bundle) cluster(ctx context.Context, c *client.Client) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	fetchJSON(b, "cluster/members.json", func() ([]client.Member, error) {
		members, err := c.MembersWithHealth(ctx)
		if err != nil {
			b.miss("cluster/members.json", err)
			return c.Members(ctx)
		}
		return members, nil
	})
	fetchJSON(b, "cluster/autopilot.json", func() (*client.Autopilot, error) { return c.Autopilot(ctx) })
	fetchJSON(b, "cluster/autopilot-config.json", func() (*client.AutopilotConfig, error) {
		config, _, err := c.AutopilotConfig(ctx)
		return config, err
	})
	fetchJSON(b, "cluster/feature-level.json", func() (*client.FeatureLevel, error) { return c.FeatureLevel(ctx) })
	fetchJSON(b, "cluster/alarms.json", func() ([]client.Alarm, error) { return c.KnownAlarms(ctx) })
	fetchJSON(b, "cluster/backups.json", func() ([]client.Backup, error) { return c.Backups(ctx) })
	fetchJSON(b, "cluster/envs.json", func() ([]client.Env, error) { return c.Envs(ctx) })
	fetchJSON(b, "cluster/deletions.json", func() ([]client.Deletion, error) { return c.Deletions(ctx) })
}

// node adds what is about one node: what takes time in parallel.
func (b *bundle) node(ctx context.Context, c *client.Client, id, folder string, span time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, span+time.Minute)
	defer cancel()
	at := func(name string) string { return path.Join(folder, name) }
	node, err := c.Node(ctx, id)
	fetchJSON(b, at("node.json"), func() (*client.Node, error) { return node, err })
	if err != nil {
		return // the rest would say the same
	}
	var slow sync.WaitGroup
	slow.Go(func() {
		b.fetch(at("logs.ndjson"), func(w io.Writer) error {
			return c.Logs(ctx, client.LogQuery{Node: id, Level: "debug", Lines: 2048, Follow: true, For: span}, writeLines[client.LogLine](w))
		})
	})
	slow.Go(func() {
		b.fetch(at("cpu.pprof"), func(w io.Writer) error { return c.Profile(ctx, id, "cpu", min(max(span, time.Second), time.Minute), w) })
	})
	fetchJSON(b, at("doctor.json"), func() (*client.Doctor, error) { return c.Doctor(ctx, id) })
	fetchJSON(b, at("chain.json"), func() (*client.Chain, error) { return c.Chain(ctx, id) })
	b.fetch(at("raft-log.ndjson"), func(w io.Writer) error {
		from := node.Raft.LastLogIndex - min(node.Raft.LastLogIndex, bundleEntries) + 1
		return c.RaftLog(ctx, id, from, 0, writeLines[client.LogEntry](w))
	})
	for _, profile := range []string{"heap", "allocs", "goroutine", "mutex", "block"} {
		b.fetch(at(profile+".pprof"), func(w io.Writer) error { return c.Profile(ctx, id, profile, 0, w) })
	}
	b.fetch(at("goroutines.txt"), func(w io.Writer) error { return c.Goroutines(ctx, id, w) })
	b.fetch(at("metrics.txt"), func(w io.Writer) error { return c.Metrics(ctx, id, w) })
	slow.Wait()
}

// writeLines writes values as JSON, one a line.
func writeLines[T any](w io.Writer) func(T) bool {
	return func(v T) bool {
		raw, err := encodeJSON(v)
		if err == nil {
			_, err = w.Write(raw)
		}
		return err == nil
	}
}
