package crm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"oaas.io/control-plane/crm/server"
)

// A right that was denied lately makes the manager unusable, says what is missing, and
// is forgotten when it is no longer denied.
func TestDeniedRightsAreTold(t *testing.T) {
	now := time.Unix(1000, 0)
	probe := &apiProbe{state: server.APIState{Ready: true}}
	r := newRights(func() time.Time { return now }, hclog.NewNullLogger())
	o := observer{probe: probe, rights: r}
	forbidden := func(text string) error {
		return apierrors.NewForbidden(schema.GroupResource{Group: "oaas.io", Resource: "classruntimes"}, "record-1", errors.New(text))
	}
	r.forbidden(forbidden("exceeded quota: small"))
	r.forbidden(forbidden("unable to create new content in namespace oaas because it is being terminated"))
	if err := o.Observe().Usable(); err != nil {
		t.Fatalf("counts as a missing right: %v", err)
	}
	r.forbidden(forbidden(`User "crm" cannot patch resource "classruntimes/status" in API group "oaas.io" in the namespace "oaas"`))
	now = now.Add(deniedFor - time.Second)
	if err := o.Observe().Usable(); err == nil || !strings.Contains(err.Error(), `cannot patch resource "classruntimes/status"`) {
		t.Fatalf("told: %v", err)
	}
	probe.state.Problem = errors.New("the namespace oaas does not exist")
	if err := o.Observe().Usable(); !errors.Is(err, probe.state.Problem) {
		t.Errorf("the namespace is the cause, told: %v", err)
	}
	probe.state.Problem = nil
	now = now.Add(time.Second)
	if err := o.Observe().Usable(); err != nil {
		t.Errorf("not forgotten: %v", err)
	}
}
