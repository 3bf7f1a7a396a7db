package controller_test

import (
	"slices"
	"testing"

	"github.com/go-logr/logr"
	dto "github.com/prometheus/client_model/go"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"oaas.io/control-plane/crm/controller"
	"oaas.io/control-plane/crm/controller/controllertest"
	"oaas.io/control-plane/deploy/local/localtest"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	localtest.Main(m)
}

// world is a running controller with what only the tests of this package do to it.
type world struct{ *controllertest.World }

func start(t *testing.T, change ...func(*controller.Options)) *world {
	t.Helper()
	return &world{controllertest.Start(t, change...)}
}

func change[T client.Object](w *world, object T, name string, edit func(T)) {
	w.T.Helper()
	controllertest.Change(w.World, object, name, edit)
}

// counter is the sum of a metric over all its labels.
func (w *world) counter(name string) float64 { return w.counterOf(name, "", "") }

// counterOf is the sum over those with the value of a label.
func (w *world) counterOf(name, label, value string) float64 {
	w.T.Helper()
	families, err := w.Registry.Gather()
	if err != nil {
		w.T.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label && l.GetValue() == value }) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
