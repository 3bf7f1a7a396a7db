package local

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"oaas.io/control-plane/deploy/local/process"
)

// kubeletRestarts bounds how often the simulated kubelet of a cluster is started again.
const kubeletRestarts = 5

// runKubelet starts kwok, which plays the nodes, and keeps it running. kwok keeps nothing that it could not read from the API
// server, and release 0.8 was seen to crash now and then in its own goroutines while nodes came up; a cluster must not be lost
// to that. The crash stays readable in kwok's log.
func (c *Cluster) runKubelet() error {
	if err := c.run(c.kwokSpec()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.processes[programKwok]
	c.kubeletKept = true
	c.keepers.Go(func() { c.keepKubelet(p) })
	return nil
}

// keepKubelet starts kwok again when it ends by itself. It returns when the cluster ends, or when there is no use in going on:
// from then on Err reports how the last one ended.
func (c *Cluster) keepKubelet(p *process.Process) {
	for range kubeletRestarts {
		<-p.Done()
		if !c.missesKubelet(p) {
			break
		}
		c.releaseNodes()
		next := c.replaceKubelet(p)
		if next == nil {
			break
		}
		p = next
	}
	<-p.Done()
	c.mu.Lock()
	c.kubeletKept = false
	c.mu.Unlock()
}

// missesKubelet is false when the cluster is ending, or when another kwok would end like the one before.
func (c *Cluster) missesKubelet(ended *process.Process) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.processes[programKwok] == ended && !errors.Is(describe(ended.Err()), errPortTaken)
}

// replaceKubelet starts a new kwok in place of the one that ended; nil when it cannot be started or the cluster ended meanwhile.
func (c *Cluster) replaceKubelet(ended *process.Process) *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.processes[programKwok] != ended {
		return nil
	}
	next, err := process.Start(c.kwokSpec())
	if err != nil {
		return nil
	}
	c.processes[programKwok] = next
	return next
}

// releaseNodes removes the leases of the nodes. Every kwok draws a name by lot, so a new one would wait for the leases of the
// one before it to expire. Where it does not work, that is what it does.
func (c *Cluster) releaseNodes() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	leases, err := coordinationv1client.NewForConfig(c.config)
	if err == nil {
		_ = leases.Leases("kube-node-lease").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	}
}
