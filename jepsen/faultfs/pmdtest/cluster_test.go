package pmdtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/faultfs"
)

// bin is where pmd is.
var bin string

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		os.Exit(runAs(name)) //nolint:forbidigo // this is the main of a child
	}
	os.Exit(run(m)) //nolint:forbidigo // goleak is asked last
}

func runAs(name string) int {
	if err := children[name](os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return 1
	}
	return 0
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pmdtest-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is only space
	if bin = os.Getenv(system.BinEnv); bin == "" {
		bin = dir
		if err := system.Build(context.Background(), bin, "pmd"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code := m.Run()
	if err := goleak.Find(goleak.IgnoreTopFunction("oaas.io/control-plane/deploy/local/process.forkLoop")); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// node is a pmd with a disk of its own.
type node struct {
	name string
	disk *faultfs.FS
	spec process.Spec
	proc *process.Process
	url  string
	// id is its server id, known once it has answered.
	id string
}

type cluster struct {
	t     *testing.T
	nodes []*node
	http  *http.Client
}

// started gives a cluster that answers.
func started(t *testing.T, size int, profile string) *cluster {
	t.Helper()
	if err := faultfs.Available(); err != nil {
		t.Fatalf("this machine cannot mount: %v", err)
	}
	ports, err := port.Reserve(3 * size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ports.Release)
	c := &cluster{t: t, http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	var peers []string
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports.Port(i)) }
	for i := range size {
		peers = append(peers, address(3*i+1))
	}
	dir := t.TempDir()
	for i := range size {
		name := fmt.Sprintf("pm-%d", i)
		disk, err := faultfs.Mount(filepath.Join(dir, name, "disk"), filepath.Join(dir, name, "mount"),
			faultfs.Options{Seed: uint64(i), NoBackingSync: true, Size: 2 << 30})
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"--name", name, "--data-dir", disk.Mountpoint() + "/data", "--http-addr", address(3 * i), "--grpc-addr", peers[i],
			"--raft-addr", address(3*i + 2), "--gossip-addr", "", "--profile", profile}
		if size > 1 {
			args = append(args, "--peers", strings.Join(peers, ","))
		}
		n := &node{name: name, disk: disk, url: "http://" + address(3*i)}
		n.spec = process.Spec{Name: name, Path: filepath.Join(bin, "pmd"), Args: args, LogFile: filepath.Join(dir, name, "log")}
		c.nodes = append(c.nodes, n)
		c.start(n)
		t.Cleanup(func() { n.kill(); c.close(n) })
	}
	c.ready()
	return c
}

func (c *cluster) start(n *node) {
	c.t.Helper()
	var err error
	if n.proc, err = process.Start(n.spec); err != nil {
		c.t.Fatal(err)
	}
}

func (n *node) kill() {
	n.proc.Kill()
	<-n.proc.Done()
}

func (c *cluster) close(n *node) {
	if err := n.disk.Close(); err != nil {
		c.t.Error(err)
	}
	if c.t.Failed() {
		c.t.Logf("%s: %s", n.name, process.Tail(n.spec.LogFile, 25))
	}
}

// ended waits until a process has ended by itself.
func (c *cluster) ended(n *node) {
	c.t.Helper()
	c.eventually(n.name+" ends", func() bool { return !n.proc.Running() })
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// do asks a node once.
func (c *cluster) do(n *node, method, path, body string, headers ...string) (answer, error) {
	rq, err := http.NewRequestWithContext(c.t.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	rq.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	rs, err := c.http.Do(rq)
	if err != nil {
		return answer{}, err
	}
	raw, err := io.ReadAll(rs.Body)
	return answer{rs.StatusCode, rs.Header, string(raw)}, errors.Join(err, rs.Body.Close())
}

// create asks for a package and tells whether it was acknowledged.
func (c *cluster) create(n *node, name string) (answer, bool) {
	a, err := c.do(n, http.MethodPost, "/api/v1/packages", fmt.Sprintf(`{"name":%q}`, name))
	return a, err == nil && a.status/100 == 2
}

// created wants a package to be acknowledged some time.
func (c *cluster) created(n *node, name string) {
	c.t.Helper()
	c.eventually("package "+name+" is taken by "+n.name, func() bool {
		a, ok := c.create(n, name)
		return ok || a.status == http.StatusConflict // of an attempt whose answer was lost
	})
}

// has wants every node to have packages.
func (c *cluster) has(names ...string) {
	c.t.Helper()
	for _, n := range c.nodes {
		var missing []string
		c.eventually(n.name+" lists packages", func() bool {
			a, err := c.do(n, http.MethodGet, "/api/v1/packages?limit=100000", "")
			if err != nil || a.status != http.StatusOK {
				return false
			}
			missing = lacks(a.body, names)
			return true
		})
		if len(missing) > 0 {
			c.t.Errorf("%s lacks %d acknowledged packages of %d: %.300v", n.name, len(missing), len(names), missing)
		}
	}
}

func lacks(body string, names []string) []string {
	var list []struct {
		Name string `json:"name"`
	}
	have := map[string]bool{}
	if json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&list) == nil {
		for _, p := range list {
			have[p.Name] = true
		}
	}
	var missing []string
	for _, name := range names {
		if !have[name] {
			missing = append(missing, name)
		}
	}
	return missing
}

// ready waits until every node answers.
func (c *cluster) ready() {
	c.t.Helper()
	for _, n := range c.nodes {
		c.eventually(n.name+" answers", func() bool {
			a, err := c.do(n, http.MethodGet, "/api/v1/packages", "")
			if err != nil || a.status != http.StatusOK {
				return false
			}
			n.id = a.header.Get("PM-Served-By")
			return true
		})
	}
}

// leader gives the node that leads, and one that does not.
func (c *cluster) leader() (lead, follow *node) {
	c.t.Helper()
	c.eventually("there is a leader", func() bool {
		for _, asked := range c.nodes {
			a, err := c.do(asked, http.MethodGet, "/api/v1/packages", "")
			if err != nil || a.status != http.StatusOK {
				continue
			}
			for _, n := range c.nodes {
				if n.id == a.header.Get("PM-Leader") {
					lead = n
				} else {
					follow = n
				}
			}
			return lead != nil
		}
		return false
	})
	return lead, follow
}

func (c *cluster) eventually(what string, done func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(40 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			c.t.Fatalf("it does not come to that: %s", what)
		case <-tick.C:
		}
	}
}

// powerCut takes the power from all nodes at once, with torn writes, and gives it back.
func (c *cluster) powerCut(seed uint64) {
	c.t.Helper()
	for _, n := range c.nodes {
		_ = n.proc.Signal(syscall.SIGKILL) // it may have ended
	}
	for i, n := range c.nodes {
		n.kill()
		loss, err := n.disk.PowerCut(seed*100+uint64(i), faultfs.CutOptions{Torn: true})
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Logf("%s lost %+v", n.name, loss)
	}
	for _, n := range c.nodes {
		c.start(n)
	}
	c.ready()
}

func logTail(n *node) string { return process.Tail(n.spec.LogFile, 25) }
