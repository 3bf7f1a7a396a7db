package run

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/faultfs"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
	"oaas.io/control-plane/jepsen/workload"
	"oaas.io/control-plane/proto/oaaspb"
)

// stack is a running cluster with all that is needed to use and to break it.
type stack struct {
	options  Options
	dir      string
	recorder *history.Recorder
	cluster  *cluster.Cluster
	disks    *diskSet
	fences   *fences
	target   *nemesis.Target
	env      *workload.Env
}

// startStack starts a cluster in a directory. After an error nothing is left running.
func startStack(ctx context.Context, dir string, o Options) (*stack, error) {
	s := &stack{options: o, dir: dir, recorder: history.NewRecorder(), disks: &diskSet{seed: o.Seed, log: o.Logger.Named("disk")}, fences: &fences{}}
	s.fences.recorder = s.recorder
	options := cluster.Options{
		Nodes: o.Nodes, CRMs: o.CRMs, Agents: o.Agents, Bin: o.Bin, Dir: filepath.Join(dir, "cluster"), Seed: o.Seed,
		PMArgs: o.PMArgs, Loopback: o.Loopback, Logger: o.Logger.Named("cluster"),
		Agent: func(_ int, a *agent.Options) { a.Stored = s.fences.of(a.Name) },
	}
	noDisks := faultfs.Available()
	if noDisks == nil {
		options.Disk = s.disks.mount
	}
	c, err := cluster.Start(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("start the cluster: %w", err)
	}
	s.cluster = c
	s.target = &nemesis.Target{Cluster: c, Recorder: s.recorder, NoDisks: noDisks, Disks: s.disks.of, Log: o.Logger.Named("nemesis")}
	if o.UpgradeBin != "" {
		s.target.Binaries = []string{filepath.Join(o.Bin, "pmd"), filepath.Join(o.UpgradeBin, "pmd")}
	}
	if s.env, err = workload.New(s.workloadOptions(s.recorder, o.Seed)); err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	return s, nil
}

// nowhere is where nobody listens.
const nowhere = "http://127.0.0.1:1"

func (s *stack) workloadOptions(recorder *history.Recorder, seed uint64) workload.Options {
	transport := s.cluster.HTTP().Transport
	return workload.Options{
		Recorder: recorder, Seed: seed, Processes: s.options.Processes, Rate: s.options.Rate, Log: s.options.Logger.Named("workload"),
		Nodes: s.nodes, Clusters: s.environments(),
		Endpoint: func(node string) workload.Endpoint {
			n := s.cluster.Node(node)
			if n == nil { // it was taken out since it was named
				return workload.Endpoint{URL: nowhere, Transport: transport}
			}
			return workload.Endpoint{URL: n.URL(), Transport: transport}
		},
	}
}

func (s *stack) nodes() (names []string) {
	for _, n := range s.cluster.Nodes() {
		names = append(names, n.Name())
	}
	return names
}

func (s *stack) environments() (names []string) {
	for _, m := range s.cluster.Managers() {
		names = append(names, m.Name())
	}
	for _, a := range s.cluster.Agents() {
		names = append(names, a.Name())
	}
	return names
}

// stop ends everything. What is broken must not keep it from ending.
func (s *stack) stop(ctx context.Context) error {
	if s.env != nil {
		s.env.Close()
	}
	return errors.Join(nemesis.Heal(ctx, s.target), s.cluster.Stop(ctx))
}

// diskSet are the disks of the nodes.
type diskSet struct {
	seed uint64
	log  hclog.Logger

	mu   sync.Mutex
	disk map[string]*faultfs.FS
}

// mounted is a disk as the cluster wants it.
type mounted struct{ *faultfs.FS }

func (m mounted) Path() string { return m.Mountpoint() }

func (d *diskSet) mount(node, dir string) (cluster.Disk, error) {
	// Syncs cost the machine's disk nothing: what counts is what the file system remembers as synced.
	fs, err := faultfs.Mount(filepath.Join(dir, "disk"), filepath.Join(dir, "data"), faultfs.Options{Seed: d.seed, NoBackingSync: true, Logger: d.log})
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.disk == nil {
		d.disk = map[string]*faultfs.FS{}
	}
	d.disk[node] = fs
	return mounted{fs}, nil
}

func (d *diskSet) of(node string) *faultfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.disk[node]
}

// fences takes down every change that an agent has stored.
type fences struct {
	recorder *history.Recorder

	mu     sync.Mutex
	stored []history.Fenced
}

func (f *fences) of(name string) func(string, *oaaspb.Delivery) {
	return func(unit string, d *oaaspb.Delivery) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stored = append(f.stored, history.Fenced{
			Cluster: name, Unit: unit, UID: d.GetDeploymentUid(), Epoch: d.GetEpoch(), Fence: d.GetFence(), Hash: d.GetContentHash(), At: f.recorder.Now(),
		})
	}
}

func (f *fences) seen() []history.Fenced {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]history.Fenced(nil), f.stored...)
}
