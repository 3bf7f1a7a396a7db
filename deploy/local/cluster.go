package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"oaas.io/control-plane/deploy/local/port"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/workdir"
)

const (
	kwokConfigFile = "kwok.yaml"
	// startAttempts is how often a start is repeated with other ports after a foreign program took one of them.
	startAttempts = 4
	// pollEvery is the interval of all waits for the state of a cluster.
	pollEvery = 50 * time.Millisecond
)

// TestKubeconfigEnv names the variable with the kubeconfig of a cluster that several test packages share; see localtest.
const TestKubeconfigEnv = "OAAS_TEST_KUBECONFIG"

// ErrNotOwned is returned by operations on processes of a cluster that this process only attached to.
var ErrNotOwned = errors.New("the cluster was started by another process")

// errPortTaken makes Start try again.
var errPortTaken = errors.New("a port was taken by another program")

// Cluster is a running control plane. All methods may be called from several goroutines.
type Cluster struct {
	// Name as given in Options.
	Name string
	// Kubeconfig is the path of the administrator's kubeconfig, readable by its owner alone.
	Kubeconfig string
	// KubectlPath is the kubectl of the cluster's version.
	KubectlPath string
	// Server is the URL of the API server.
	Server string
	// Dir holds state and logs; empty for an attached cluster.
	Dir string

	config   *rest.Config
	core     *corev1client.CoreV1Client
	binaries *Binaries
	fsync    bool
	work     *workdir.Dir
	lease    *port.Lease

	mu        sync.Mutex
	processes map[string]*process.Process
	stopped   bool
	// kubeletKept says that the simulated kubelet is started again when it ends.
	kubeletKept bool
	// keepers are the goroutines that watch processes; they end with these.
	keepers sync.WaitGroup
}

// Start runs a new cluster and returns when pods can be made in it. The context limits the start only; the cluster lives until
// Stop, or until this process ends.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	return start(ctx, options, port.Reserve)
}

// start is Start with a way to choose the ports.
func start(ctx context.Context, options Options, reserve func(int) (*port.Lease, error)) (*Cluster, error) {
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	binaries := options.Binaries
	if binaries == nil {
		built, err := Build(ctx, BuildOptions{Progress: options.Progress})
		if err != nil {
			return nil, err
		}
		binaries = built
	}
	work, err := workdir.New(options.Dir, options.Name)
	if err != nil {
		return nil, fmt.Errorf("start cluster %s: %w", options.Name, err)
	}
	for attempt := 1; ; attempt++ {
		c := &Cluster{
			Name: options.Name, Kubeconfig: work.File("kubeconfig"), KubectlPath: binaries.Kubectl(), Dir: work.Path,
			binaries: binaries, fsync: options.FSync, work: work, processes: map[string]*process.Process{},
		}
		err := c.start(ctx, options, reserve)
		if err == nil {
			return c, nil
		}
		c.end()
		if errors.Is(err, errPortTaken) && attempt < startAttempts {
			if err := work.Clear(); err != nil {
				return nil, fmt.Errorf("start cluster %s: %w", options.Name, err)
			}
			continue
		}
		_ = work.Remove()
		return nil, fmt.Errorf("start cluster %s: %w", options.Name, err)
	}
}

// Attach uses a cluster that something else runs. kubectl may be empty if KubectlPath is not used.
func Attach(kubeconfig, kubectl string) (*Cluster, error) {
	raw, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("attach to cluster: %w", err)
	}
	c := &Cluster{Name: raw.CurrentContext, Kubeconfig: kubeconfig, KubectlPath: kubectl}
	if err := c.connect(); err != nil {
		return nil, fmt.Errorf("attach to cluster: %w", err)
	}
	return c, nil
}

// connect makes the clients from the kubeconfig.
func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	// The API server limits clients fairly by itself; a limit in the client would only slow the tests.
	config.QPS = -1
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return err
	}
	c.config, c.core, c.Server = config, core, config.Host
	return nil
}

// RESTConfig is the administrator's access, as a copy that the caller may change.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

func (c *Cluster) start(ctx context.Context, options Options, reserve func(int) (*port.Lease, error)) error {
	lease, err := reserve(portCount)
	if err != nil {
		return err
	}
	c.lease = lease
	if err := c.prepare(options.Stages); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	if err := c.run(c.etcdSpec(), c.apiserverSpec()); err != nil {
		return err
	}
	if err := c.WaitReady(ctx); err != nil {
		return err
	}
	if err := c.run(c.controllersSpec(), c.schedulerSpec()); err != nil {
		return err
	}
	if len(options.CRDs) > 0 {
		// kwok ends when a resource of one of its stages is unknown.
		if err := c.InstallCRDs(ctx, options.CRDs...); err != nil {
			return err
		}
	}
	if err := c.runKubelet(); err != nil { //nolint:contextcheck // the context limits the start, and kwok is kept for longer
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.bringUpNodes(groupCtx, options.nodes()) })
	group.Go(func() error { return c.waitDefaultAccount(groupCtx) })
	return group.Wait()
}

// prepare writes keys, kubeconfigs and the configuration of kwok.
func (c *Cluster) prepare(stages []string) error {
	keys, err := newCredentials(time.Now())
	if err != nil {
		return err
	}
	if err := keys.write(c.work.File("pki")); err != nil {
		return err
	}
	server := "https://" + c.address(portAPIServer)
	for file, user := range map[string]*keyPair{
		"kubeconfig": keys.admin, "controllers.kubeconfig": keys.controllers, "scheduler.kubeconfig": keys.scheduler,
		"kubelet.kubeconfig": keys.kubelet,
	} {
		if err := writeKubeconfig(c.work.File(file), c.Name, server, keys.authority, user); err != nil {
			return err
		}
	}
	logs := c.work.File("logs", "containers.log")
	if err := os.MkdirAll(filepath.Dir(logs), 0o700); err != nil {
		return fmt.Errorf("create log directory: %w", err)
	}
	line := time.Now().UTC().Format(time.RFC3339Nano) + " stdout F this container of cluster " + c.Name + " is simulated\n"
	if err := os.WriteFile(logs, []byte(line), 0o600); err != nil {
		return fmt.Errorf("write container log: %w", err)
	}
	config, err := kwokConfig(logs)
	if err != nil {
		return err
	}
	for _, file := range stages {
		more, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read stages: %w", err)
		}
		config = append(append(config, "---\n"...), more...)
	}
	if err := os.WriteFile(c.work.File(kwokConfigFile), config, 0o600); err != nil {
		return fmt.Errorf("write kwok configuration: %w", err)
	}
	return nil
}

// run starts processes and remembers them by the name of their program.
func (c *Cluster) run(specs ...process.Spec) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, spec := range specs {
		p, err := process.Start(spec)
		if err != nil {
			return err
		}
		c.processes[filepath.Base(spec.Path)] = p
	}
	return nil
}

// Err returns why the cluster is not whole: a process that ended without being asked to, or nil.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, program := range []string{programEtcd, programAPIServer, programControllers, programScheduler, programKwok} {
		p := c.processes[program]
		if p == nil || program == programKwok && c.kubeletKept {
			continue
		}
		if err := p.Err(); err != nil {
			return describe(err)
		}
	}
	return nil
}

// describe tells the end of a process because of its port from others.
func describe(err error) error {
	if err != nil && strings.Contains(err.Error(), "address already in use") {
		return fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return err
}

// Await polls until ready answers nil. It ends early when a process of the cluster dies, and says at the end what was missing.
func (c *Cluster) Await(ctx context.Context, what string, ready func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if died := c.Err(); died != nil {
			return fmt.Errorf("wait until %s: %w", what, died)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// WaitReady waits until the API server says that it is ready.
func (c *Cluster) WaitReady(ctx context.Context) error {
	return c.Await(ctx, "the API server is ready", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return c.core.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// Stop ends all processes and removes the state. It may be called more than once. On a cluster that was attached to, it does
// nothing.
func (c *Cluster) Stop() error {
	if c.work == nil {
		return nil
	}
	c.mu.Lock()
	again := c.stopped
	c.stopped = true
	c.mu.Unlock()
	if again {
		return nil
	}
	c.end()
	if err := c.work.Remove(); err != nil {
		return fmt.Errorf("stop cluster %s: %w", c.Name, err)
	}
	return nil
}

// end kills the processes. Nothing of the state is kept, and an API server that is asked politely lingers for its watches, so
// there is nothing to be gained by SIGTERM.
func (c *Cluster) end() {
	c.endProcesses()
	c.keepers.Wait()
}

func (c *Cluster) endProcesses() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var group sync.WaitGroup
	for _, p := range c.processes {
		group.Go(p.Kill)
	}
	group.Wait()
	clear(c.processes)
	if c.lease != nil {
		c.lease.Release()
	}
}

// String names the cluster and its server.
func (c *Cluster) String() string {
	return strings.TrimSpace(c.Name + " " + c.Server + " " + strconv.Quote(c.Kubeconfig))
}
