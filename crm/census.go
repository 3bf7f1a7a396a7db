package crm

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	resourcehelper "k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/proto/oaaspb"
)

const (
	// DefaultCensusInterval is how old the reported resources may be.
	DefaultCensusInterval = 30 * time.Second
	// censusPage bounds the pods that are in memory at a time.
	censusPage = 500
	// censusTimeout bounds one census of a large cluster.
	censusTimeout = 20 * time.Second
)

// census knows how much room the nodes of the cluster have. Pods of all namespaces
// take room, and a cache of them would be the largest thing in this program; so they
// are read now and then, page by page, and only their sum is kept.
type census struct {
	cached   client.Reader
	live     client.Reader
	interval time.Duration
	log      hclog.Logger

	last   atomic.Pointer[oaaspb.ClusterResources]
	denied bool // that pods cannot be read was said already
}

// Resources is the last census; nil before the first one.
func (c *census) Resources() *oaaspb.ClusterResources { return c.last.Load() }

// NeedLeaderElection is false: every replica answers package managers.
func (c *census) NeedLeaderElection() bool { return false }

// Start counts until ctx ends. An unanswered question leaves the last answer as it is.
func (c *census) Start(ctx context.Context) error {
	ticker := time.NewTicker(c.interval)
	defer ticker.Stop()
	for {
		found, err := c.take(ctx)
		switch {
		case err == nil:
			c.last.Store(found)
		case ctx.Err() == nil:
			c.log.Warn("the room in the cluster is not known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// take sums up the nodes that are ready and take new pods, and what is requested on
// them.
func (c *census) take(ctx context.Context) (*oaaspb.ClusterResources, error) {
	ctx, cancel := context.WithTimeout(ctx, censusTimeout)
	defer cancel()
	nodes := &corev1.NodeList{}
	if err := c.cached.List(ctx, nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	total, used := room{}, room{}
	open := map[string]bool{}
	for i := range nodes.Items {
		if n := &nodes.Items[i]; lifecycle.NodeReady(n) && !n.Spec.Unschedulable {
			open[n.Name] = true
			total.add(n.Status.Allocatable)
		}
	}
	out := &oaaspb.ClusterResources{AllocatableMillicores: &total.millicores, AllocatableBytes: &total.bytes}
	err := c.eachPod(ctx, func(pod *corev1.Pod) {
		if open[pod.Spec.NodeName] {
			used.add(resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}))
		}
	})
	switch {
	case apierrors.IsForbidden(err):
		if !c.denied {
			c.log.Warn("no right to read pods of all namespaces: the cluster report does not say what is free")
			c.denied = true
		}
		return out, nil
	case err != nil:
		return nil, fmt.Errorf("list pods: %w", err)
	}
	free := room{millicores: less(total.millicores, used.millicores), bytes: less(total.bytes, used.bytes)}
	out.FreeMillicores, out.FreeBytes = &free.millicores, &free.bytes
	return out, nil
}

// eachPod visits the pods that have not ended.
func (c *census) eachPod(ctx context.Context, visit func(*corev1.Pod)) error {
	running := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	)
	next := ""
	for {
		page := &corev1.PodList{}
		err := c.live.List(ctx, page, client.Limit(censusPage), client.Continue(next), client.MatchingFieldsSelector{Selector: running})
		if err != nil {
			return err
		}
		for i := range page.Items {
			visit(&page.Items[i])
		}
		if next = page.Continue; next == "" {
			return nil
		}
	}
}

type room struct{ millicores, bytes uint64 }

func (r *room) add(list corev1.ResourceList) {
	if cpu := list.Cpu().MilliValue(); cpu > 0 {
		r.millicores += uint64(cpu)
	}
	if memory := list.Memory().Value(); memory > 0 {
		r.bytes += uint64(memory)
	}
}

// less is a-b, and 0 where nodes are overcommitted.
func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}
