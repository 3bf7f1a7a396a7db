package dispatch_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/proto/oaaspb"
)

func (m *manager) PreviewUnit(_ context.Context, req *oaaspb.PreviewUnitRequest) (*oaaspb.UnitPreview, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	return &oaaspb.UnitPreview{Template: req.GetDeploymentUnit().GetId()}, nil
}

func TestPreview(t *testing.T) {
	h := newWorld(t)
	m := newManager("edge-1")
	address, stop := m.serve(t, "127.0.0.1:0", false)
	legacy, _ := newManager("edge-2").serve(t, "127.0.0.1:0", true)
	ask := func(address string) (string, error) {
		out, err := h.manager.Preview(t.Context(), "edge-1", address, &oaaspb.DeploymentUnit{Id: "u-1"})
		return out.GetTemplate(), err
	}
	if got, err := ask(address); err != nil || got != "u-1" {
		t.Errorf("%q, %v", got, err)
	}
	fails := func(what, address, code string, refused bool) {
		t.Helper()
		_, err := ask(address)
		var got *dispatch.PreviewError
		if !errors.As(err, &got) || got.Code() != code || got.Refused() != refused || got.Message() == "" {
			t.Errorf("%s: %v, refused %t", what, err, got.Refused())
		}
	}
	fails("a manager without previews", legacy, dispatch.PreviewUnsupported, false)
	for code, want := range map[codes.Code]struct {
		code    string
		refused bool
	}{
		codes.Unavailable:     {dispatch.WaitUnavailable, false},
		codes.InvalidArgument: {dispatch.WaitRefused, true},
		codes.AlreadyExists:   {dispatch.WaitNameTaken, true},
		codes.Aborted:         {dispatch.WaitDeleting, false},
	} {
		m.set(func() { m.fail = status.Error(code, "x") })
		fails(code.String(), address, want.code, want.refused)
	}
	stop()
	fails("a manager that is gone", address, dispatch.WaitUnreachable, false)
}
