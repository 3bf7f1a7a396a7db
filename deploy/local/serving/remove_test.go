package serving

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/deploy/local/localtest"
)

func TestComesAndGoes(t *testing.T) {
	w := start(t)
	namespace := localtest.Namespace(t, w.cluster)
	for _, name := range []string{"first", "second"} {
		s := w.install(t)
		w.create(t, namespace, name, nil).eventually(t, "the Service is ready", isReady)
		list := &servingv1.ServiceList{}
		if err := w.client.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			t.Error(err)
		}
		if len(list.Items) != 1 {
			t.Errorf("%d Services, want only the one that was made after the API had come", len(list.Items))
		}
		w.remove(t, s)
		// A new client knows nothing of the API that was there.
		fresh, err := client.New(w.cluster.RESTConfig(), client.Options{Scheme: w.client.Scheme(), HTTPClient: w.transport})
		if err != nil {
			t.Fatal(err)
		}
		if err := fresh.List(t.Context(), list); !meta.IsNoMatchError(err) {
			t.Errorf("after Remove: got %v, want that there is no such API", err)
		}
	}
}

// The reconcilers can be away while their API is there, as on a cluster whose Knative has failed.
func TestStop(t *testing.T) {
	w := start(t)
	s := w.install(t)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	w.create(t, localtest.Namespace(t, w.cluster), "alone", nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Remove(ctx); err != nil {
		t.Error(err)
	}
}

func TestInstallTellsWhyTheProgramEnded(t *testing.T) {
	w := start(t)
	binaries := *w.binaries
	binaries.Program = "/bin/false"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	s, err := Install(ctx, Options{Cluster: w.cluster, Binaries: &binaries})
	if err == nil {
		t.Fatalf("installed %+v without reconcilers", s)
	}
	if time.Since(began) > patience/2 {
		t.Errorf("the end of the program was noticed after %s", time.Since(began))
	}
	if err := (&Serving{cluster: w.cluster}).Remove(ctx); err != nil {
		t.Error(err)
	}
}
