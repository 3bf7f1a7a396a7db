package controller_test

import (
	"testing"

	"github.com/go-logr/logr"
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
