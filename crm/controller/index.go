package controller

import (
	"context"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/template"
)

// Indexes of the manager's cache. A pass looks for a handful of objects among all those
// of the namespace; without an index each pass would compare the labels of every one.
const (
	// indexOwner finds children and pods by their owner label.
	indexOwner = "owner"
	// indexRouter finds the Services by which routers are reached; its value is isOne.
	indexRouter = "router"
	isOne       = "yes"
	// indexScaleTarget finds autoscalers by what they scale.
	indexScaleTarget = "scaleTarget"
)

// indexAll adds the indexes to a cache that was not read from yet.
func indexAll(ctx context.Context, indexer client.FieldIndexer) error {
	type index struct {
		object client.Object
		name   string
		values client.IndexerFunc
	}
	all := []index{
		{&autoscalingv2.HorizontalPodAutoscaler{}, indexScaleTarget, scaleTargetOf},
		{&corev1.Service{}, indexRouter, routerOf},
		{&corev1.Pod{}, indexOwner, ownerOf},
	}
	for _, kind := range childKinds {
		if !kind.optional {
			all = append(all, index{kind.object(), indexOwner, ownerOf})
		}
	}
	for _, i := range all {
		if err := indexer.IndexField(ctx, i.object, i.name, i.values); err != nil {
			return fmt.Errorf("index %T by %s: %w", i.object, i.name, err)
		}
	}
	return nil
}

// ownedBy selects from an indexed cache what carries the owner label of a class runtime.
func ownedBy(owner string) client.ListOption {
	return client.MatchingFields{indexOwner: template.OwnerLabel(owner)}
}

// ownerOf is the index function of indexOwner.
func ownerOf(object client.Object) []string {
	if owner := object.GetLabels()[template.LabelOwner]; owner != "" {
		return []string{owner}
	}
	return nil
}

// routerOf is the index function of indexRouter.
func routerOf(object client.Object) []string {
	if labels.SelectorFromSet(routerLabels).Matches(labels.Set(object.GetLabels())) {
		return []string{isOne}
	}
	return nil
}
