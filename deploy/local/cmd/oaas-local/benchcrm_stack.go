package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/gate"
	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// crmNodes is how many simulated nodes a cluster has: each takes 500 pods, and during a change every pod is there twice.
	crmNodes = 6
	// The limits of a manager's client, and how much it does at a time. Whatever is compared with it has the same.
	crmQPS, crmBurst, crmWorkers = 400, 800, 32
	// managerPatience bounds the start of a manager.
	managerPatience = time.Minute
	managerStarts   = 3
)

// crmStack is one cluster with managers in it.
type crmStack struct {
	bench     *crmBench
	cluster   *local.Cluster
	dir       string
	namespace string
	// client speaks to the API server directly, with the limits of a manager.
	client   client.WithWatch
	managers []*crmManager
}

// newStack starts a fresh cluster.
func (b *crmBench) newStack(ctx context.Context, name string) (*crmStack, error) {
	root, err := local.SourceRoot()
	if err != nil {
		return nil, err
	}
	b.stacks++
	s := &crmStack{bench: b, dir: filepath.Join(b.dir, fmt.Sprintf("%d-%s", b.stacks, name)), namespace: system.DefaultNamespace}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of logs: %w", err)
	}
	if s.cluster, err = local.Start(ctx, local.Options{
		Name: "bench-1", Nodes: crmNodes, CRDs: []string{filepath.Join(root, "deploy", "crd")},
	}); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
		return nil, err
	}
	return s, nil
}

func (s *crmStack) prepare(ctx context.Context) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	config := s.cluster.RESTConfig()
	config.QPS, config.Burst = crmQPS, crmBurst
	var err error
	if s.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("client of %s: %w", s.cluster.Name, err)
	}
	return createNamespace(ctx, s.cluster, s.namespace)
}

// stop ends everything.
func (s *crmStack) stop() {
	for _, m := range s.managers {
		if err := m.stop(); err != nil {
			say("%v", err)
		}
	}
	if err := s.cluster.Stop(); err != nil {
		say("%v", err)
	}
}

// crmManager is a crm process, through all of its restarts.
type crmManager struct {
	name string
	// gate is between it and the API server; nil when nothing is.
	gate    *gate.Gate
	bench   *crmBench
	spec    process.Spec
	lease   *port.Lease
	ready   string
	process *process.Process
}

// startManager runs a manager and waits until it answers. With a gate, all that it says to the API server is counted.
func (s *crmStack) startManager(ctx context.Context, name string, gated bool, args ...string) (*crmManager, error) {
	for attempt := 1; ; attempt++ {
		m, err := s.tryManager(ctx, name, gated, args)
		if err == nil {
			s.managers = append(s.managers, m)
			return m, nil
		}
		if attempt == managerStarts || ctx.Err() != nil || !strings.Contains(err.Error(), "address already in use") {
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
	}
}

func (s *crmStack) tryManager(ctx context.Context, name string, gated bool, args []string) (*crmManager, error) {
	bin, err := filepath.Abs(filepath.Join(s.bench.bin, "crm"))
	if err != nil {
		return nil, err
	}
	m := &crmManager{name: name, bench: s.bench}
	kubeconfig := s.cluster.Kubeconfig
	if gated {
		if m.gate, err = gate.Start(s.cluster.RESTConfig()); err != nil {
			return nil, err
		}
		kubeconfig = filepath.Join(s.dir, name+".kubeconfig")
		if err := m.gate.WriteKubeconfig(kubeconfig); err != nil {
			return nil, errors.Join(err, m.stop()) //nolint:contextcheck // what was started ends whatever the context says
		}
	}
	if m.lease, err = port.Reserve(2); err != nil {
		return nil, errors.Join(err, m.stop()) //nolint:contextcheck // what was started ends whatever the context says
	}
	address := func(i int) string { return "127.0.0.1:" + strconv.Itoa(m.lease.Port(i)) }
	m.ready = "http://" + address(1) + "/readyz"
	m.spec = process.Spec{
		Name: name, Path: bin, Dir: s.dir, LogFile: filepath.Join(s.dir, name+".log"),
		Args: append([]string{
			"--kubeconfig=" + kubeconfig, "--name=" + s.cluster.Name, "--namespace=" + s.namespace,
			"--grpc-addr=" + address(0), "--metrics-addr=" + address(1),
		}, args...),
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + os.TempDir()},
	}
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(err, m.stop()) //nolint:contextcheck // what was started ends whatever the context says
	}
	return m, nil
}

// start runs the process, again after it was killed, and waits until it is ready.
func (m *crmManager) start(ctx context.Context) error {
	var err error
	if m.process, err = process.Start(m.spec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, managerPatience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	return system.Poll(ctx, m.name+" is ready", func(ctx context.Context) (bool, error) {
		if err := m.process.Err(); err != nil {
			return false, system.Fatal(err)
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.ready, nil)
		if err != nil {
			return false, system.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			return false, err
		}
		defer response.Body.Close() //nolint:errcheck // only the status counts
		if response.StatusCode != http.StatusOK {
			return false, fmt.Errorf("answered %s", response.Status)
		}
		return true, nil
	})
}

// kill ends the process as a crash does.
func (m *crmManager) kill() {
	m.remember()
	m.process.Kill()
}

func (m *crmManager) pause() error  { return m.process.Signal(syscall.SIGSTOP) }
func (m *crmManager) resume() error { return m.process.Signal(syscall.SIGCONT) }

// running reports whether the process has not ended.
func (m *crmManager) running() bool { return m.process != nil && m.process.Running() }

// remember notes how much memory the process had at most.
func (m *crmManager) remember() {
	if !m.running() {
		return
	}
	if peak, err := peakMemory(m.process.PID()); err == nil {
		m.bench.memory = max(m.bench.memory, peak)
	}
}

// stop ends the process and its gate.
func (m *crmManager) stop() error {
	if m.process != nil {
		m.remember()
		_ = m.resume() // a paused process cannot end in order; one that has ended needs nothing
		m.process.Stop(context.Background(), 5*time.Second)
	}
	if m.lease != nil {
		m.lease.Release()
	}
	if m.gate != nil {
		return m.gate.Close()
	}
	return nil
}

// logged counts the lines of the manager's log that contain a text.
func (m *crmManager) logged(text string) int {
	data, err := os.ReadFile(m.spec.LogFile)
	if err != nil {
		return 0 // no log, no lines
	}
	n := 0
	for line := range bytes.Lines(data) {
		if bytes.Contains(line, []byte(text)) {
			n++
		}
	}
	return n
}

// startReplicas runs two managers that share the cluster, each behind a gate of its own.
func (s *crmStack) startReplicas(ctx context.Context) error {
	for _, name := range []string{"crm-a", "crm-b"} {
		if _, err := s.startManager(ctx, name, true, "--leader-elect"); err != nil {
			return err
		}
	}
	return nil
}

// leaseAge is how long ago a leader's last renewal may be: it renews every two seconds.
const leaseAge = 4 * time.Second

// leader is the replica that renews the lease now, with the other one. The standby only reads it.
func (s *crmStack) leader(ctx context.Context) (leader, standby *crmManager, err error) {
	err = system.Poll(ctx, "one manager leads", func(context.Context) (bool, error) {
		now := time.Now()
		leader, standby = nil, nil
		for _, m := range s.managers {
			last := m.gate.Counts().LastLease
			if m.running() && now.Sub(last) < leaseAge && (leader == nil || last.After(leader.gate.Counts().LastLease)) {
				leader = m
			}
		}
		for _, m := range s.managers {
			if m != leader {
				standby = m
			}
		}
		if leader == nil {
			return false, errors.New("nobody renews the lease")
		}
		return true, nil
	})
	return leader, standby, err
}

// clockTick is the unit of the times in /proc, which Linux has fixed for all programs.
const clockTick = 10 * time.Millisecond

// processorTime is what the cluster and the managers have used of the processors so far: all processes that this one has
// started. Unlike the time on the clock, it does not depend on what else the machine does.
func processorTime() (time.Duration, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	total := time.Duration(0)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		if parent, used, ok := processorTimeOf(string(data)); ok && parent == os.Getpid() {
			total += used
		}
	}
	return total, nil
}

// processorTimeOf reads a line of /proc/PID/stat: the parent, and the time in user and system mode.
func processorTimeOf(stat string) (parent int, used time.Duration, ok bool) {
	// The name of the program stands in parentheses and may have blanks and parentheses in it.
	at := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[at+1:])
	if at < 0 || len(fields) < 13 {
		return 0, 0, false
	}
	parent, err := strconv.Atoi(fields[1])
	user, errUser := strconv.ParseInt(fields[11], 10, 64)
	system, errSystem := strconv.ParseInt(fields[12], 10, 64)
	return parent, time.Duration(user+system) * clockTick, errors.Join(err, errUser, errSystem) == nil
}
