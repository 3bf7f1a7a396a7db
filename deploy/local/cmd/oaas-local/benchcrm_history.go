package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// history is what became of all children since it was begun. A list at the end would not show one that was deleted and made
// anew in between under the name of the first.
type history struct {
	watches []watch.Interface
	reading sync.WaitGroup

	mu sync.Mutex
	// uids are all objects that ever had the name.
	uids    map[string]map[string]bool
	deleted map[string]bool
	lost    []string
}

// record begins to watch the children of all kinds, of which there must be none yet.
func (s *crmStack) record(ctx context.Context, kinds []schema.GroupVersionKind) (*history, error) {
	h := &history{uids: map[string]map[string]bool{}, deleted: map[string]bool{}}
	for _, kind := range kinds {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind)
		labelled := client.HasLabels{ownerLabel}
		if err := s.client.List(ctx, list, client.InNamespace(s.namespace), labelled); err != nil {
			h.end()
			return nil, fmt.Errorf("list %s: %w", kind.Kind, err)
		}
		options := &client.ListOptions{Namespace: s.namespace, Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}}
		labelled.ApplyToList(options)
		w, err := s.client.Watch(ctx, list, options)
		if err != nil {
			h.end()
			return nil, fmt.Errorf("watch %s: %w", kind.Kind, err)
		}
		h.watches = append(h.watches, w)
		h.reading.Go(func() { h.read(kind.Kind, w) })
	}
	return h, nil
}

func (h *history) read(kind string, w watch.Interface) {
	for e := range w.ResultChan() {
		object, ok := e.Object.(metav1.Object)
		h.mu.Lock()
		switch {
		case !ok || e.Type == watch.Error:
			h.lost = append(h.lost, fmt.Sprintf("the watch of %s failed: %v", kind, e.Object))
		default:
			h.note(kind+"/"+object.GetName(), string(object.GetUID()), e.Type)
		}
		h.mu.Unlock()
	}
}

// note is called with mu held.
func (h *history) note(key, uid string, what watch.EventType) {
	if h.uids[key] == nil {
		h.uids[key] = map[string]bool{}
	}
	h.uids[key][uid] = true
	if what == watch.Deleted {
		h.deleted[key] = true
	}
}

// recreated are the children that were deleted, or are not the first of their name. A watch that failed is among them,
// because it may have missed some.
func (h *history) recreated() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.Clone(h.lost)
	for key, uids := range h.uids {
		if len(uids) > 1 || h.deleted[key] {
			out = append(out, fmt.Sprintf("%s was %d objects, deleted: %v", key, len(uids), h.deleted[key]))
		}
	}
	slices.Sort(out)
	return out
}

// end stops watching.
func (h *history) end() {
	for _, w := range h.watches {
		w.Stop()
	}
	h.reading.Wait()
}
