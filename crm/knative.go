package crm

import (
	"context"
	"sync/atomic"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"oaas.io/control-plane/crm/presence"
)

const (
	knativeDefinition = "services.serving.knative.dev"
	labelVersion      = "app.kubernetes.io/version"
	// unknownVersion is reported where Knative is there and its definitions may not be
	// read.
	unknownVersion = "unknown"
)

// knativeVersion is the version of Knative Serving, which only its definitions tell.
type knativeVersion struct {
	client metadata.Interface
	text   atomic.Pointer[string]
}

func (v *knativeVersion) get() string {
	if text := v.text.Load(); text != nil {
		return *text
	}
	return ""
}

// follow reads the version each time Knative comes, until ctx ends.
func (v *knativeVersion) follow(ctx context.Context, apis *presence.Watcher) {
	for {
		changed := apis.Changed()
		text := ""
		if apis.Has(presence.KnativeServices) {
			text = readKnativeVersion(ctx, v.client)
		}
		v.text.Store(&text)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func readKnativeVersion(ctx context.Context, client metadata.Interface) string {
	definitions := apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")
	found, err := client.Resource(definitions).Get(ctx, knativeDefinition, metav1.GetOptions{})
	if err != nil || found.Labels[labelVersion] == "" {
		return unknownVersion
	}
	return found.Labels[labelVersion]
}
