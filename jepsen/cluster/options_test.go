package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/jepsen/netlab"
)

func TestLoopback(t *testing.T) {
	c := start(t, Options{Loopback: true, Agents: 1})
	if c.Faults()[FaultCut] != nil || !errors.Is(c.Faults()[FaultMove], ErrUnavailable) {
		t.Errorf("got %v", c.Faults())
	}
	if err := c.Network().Shape("pm-1", "pm-2", netlab.Shape{Loss: 0.5}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := c.Network().Cut("pm-1", "nobody"); !errors.Is(err, netlab.ErrUnknownHost) {
		t.Errorf("got %v, want ErrUnknownHost", err)
	}
	if err := c.Node("pm-1").Move(within(t)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	check(t, c.WaitReady(within(t)))
	testPartition(t, c)
	if counts := c.Network().Counts("pm-1", "pm-2"); counts.Bytes == 0 {
		t.Errorf("pm-1 said nothing to pm-2: %+v", counts)
	}
}

// disk is a directory that is prepared by somebody else.
type disk struct {
	path   string
	closed bool
}

func (d *disk) Path() string { return d.path }

func (d *disk) Close() error {
	d.closed = true
	return nil
}

func TestDisksAndWrap(t *testing.T) {
	var disks []*disk
	wrapped := 0
	dir := t.TempDir()
	c, err := Start(within(t), Options{
		Bin: bin(t), Nodes: 1, Loopback: true,
		Disk: func(node, _ string) (Disk, error) {
			d := &disk{path: filepath.Join(dir, node)}
			disks = append(disks, d)
			return d, os.Mkdir(d.path, 0o700)
		},
		Wrap: func(_ string, spec *process.Spec) {
			wrapped++
			spec.Env = append(spec.Env, "PMD_ZONE=wrapped")
		},
	})
	check(t, err)
	made := c.Dir()
	members, err := c.Client("pm-1").MembersWithHealth(within(t))
	if err != nil || len(members) != 1 || members[0].Zone != "wrapped" {
		t.Errorf("got %+v, %v", members, err)
	}
	check(t, c.Stop(within(t)))
	check(t, c.Stop(within(t)))
	if len(disks) != 1 || !disks[0].closed || wrapped != 1 || c.nodes[0].DataDir() != disks[0].path {
		t.Errorf("%d disks, wrapped %d times", len(disks), wrapped)
	}
	if entries, err := os.ReadDir(disks[0].path); err != nil || len(entries) == 0 {
		t.Errorf("the node has not used its disk: %v", err)
	}
	if _, err := os.Stat(made); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", made, err)
	}
}

func TestStartSaysWhyANodeEnds(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "pmd"), []byte("#!/bin/sh\necho 'the disk is upside down' >&2\nexit 4\n"), 0o700))
	for _, loopback := range []bool{true, false} {
		_, err := Start(within(t), Options{Bin: dir, Nodes: 1, Loopback: loopback})
		if err == nil || !strings.Contains(err.Error(), "upside down") {
			t.Errorf("got %v, want the end of the log", err)
		}
	}
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "pmd"), nil, 0o700))
	for want, options := range map[string]Options{
		"program pmd": {Bin: t.TempDir()}, "program crm": {Bin: dir, CRMs: 1}, "odd": {Bin: dir, Nodes: 4},
		"0 or more": {Bin: dir, Agents: -1}, "not there": {Bin: dir, Binary: map[string]string{"pm-1": "/nowhere"}},
	} {
		if _, err := Start(context.Background(), options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestMetricsOfText(t *testing.T) {
	m := Metrics{}
	for line := range strings.Lines("# HELP a b\n# TYPE a counter\na{x=\"1 2\"} 3\na{x=\"4\"} 5e1\nb NaN\nc\n") {
		m.read(strings.TrimSuffix(line, "\n"))
	}
	if sum, found := m.Sum("a"); sum != 53 || !found || m[`a{x="1 2"}`] != 3 {
		t.Errorf("got %v in %v", sum, m)
	}
	if _, found := m.Sum("x"); found {
		t.Error("there is no x")
	}
}
