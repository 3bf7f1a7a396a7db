package dispatch

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// answering is a connection to a manager that has one answer to everything.
type answering struct{ resp proto.Message }

func (a answering) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	proto.Merge(reply.(proto.Message), a.resp)
	return nil
}

func (answering) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, nil
}

// TestConfirmationOfSomethingElse: a manager that answers well and names another
// change has not confirmed, and is asked again with backoff rather than at once.
func TestConfirmationOfSomethingElse(t *testing.T) {
	u := unit(7, "wanted")
	for name, c := range map[string]struct {
		applied *oaaspb.Delivery
		want    string
	}{
		"the change":               {&oaaspb.Delivery{Epoch: 1, Fence: 7, ContentHash: "wanted"}, ""},
		"a manager without fences": {nil, ""},
		"another content":          {&oaaspb.Delivery{Epoch: 1, Fence: 7, ContentHash: "other"}, WaitFenced},
		"a later change":           {&oaaspb.Delivery{Epoch: 1, Fence: 8, ContentHash: "wanted"}, WaitFenced},
		"another epoch":            {&oaaspb.Delivery{Epoch: 2, Fence: 7, ContentHash: "wanted"}, WaitFenced},
	} {
		out := call(t.Context(), answering{&oaaspb.DeployResponse{Applied: c.applied}}, step{unit: u, do: deploy}, "cp")
		if got := out.waiting.GetCode(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestContentThatCannotBeDecoded: sending it again cannot help, and nothing else
// may be sent in its place.
func TestContentThatCannotBeDecoded(t *testing.T) {
	u := unit(7, "wanted", func(u *pmpb.Unit) { u.Desired = []byte{0xff} })
	out := call(t.Context(), answering{&oaaspb.DeployResponse{}}, step{unit: u, do: deploy}, "cp")
	if out.waiting.GetCode() != WaitFailed || !out.waiting.GetPermanent() || out.applied != nil {
		t.Errorf("waits for %v and has applied %v, want a permanent %s", out.waiting, out.applied, WaitFailed)
	}
}
