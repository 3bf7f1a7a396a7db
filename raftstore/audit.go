package raftstore

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// Origin is where a request comes from. It goes along with the request's context
// to the commands that the request causes, and with them into the audit log.
type Origin struct {
	RequestID string
	// Principal is who was authenticated.
	Principal string
	// Address and Agent are those of the client, see pmpb.AuditNote.
	Address, Agent string
}

type originKey struct{}

// WithOrigin gives a context for what a request causes.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

func originOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// OperatorNote makes the note of a command by which the request of ctx changes the
// control plane itself.
func OperatorNote(ctx context.Context, action, object, detail string) *pmpb.AuditNote {
	return operatorNote(ctx, "", action, object, detail)
}

// operatorNote is OperatorNote, or the note of what a part of the control plane
// does without being asked, which is the agent then.
func operatorNote(ctx context.Context, agent, action, object, detail string) *pmpb.AuditNote {
	origin := originOf(ctx)
	if agent == "" {
		agent = origin.Agent
	}
	note := fsm.NewNote(action, object, detail)
	note.Operator, note.Address, note.Agent = true, fsm.NoteText(origin.Address), fsm.NoteText(agent)
	return note
}

// Remark keeps in the audit log what an operator has done, or is about to do,
// beside the log. It works on every node. An error means that there may be no
// entry; the log of the node says then what was to be noted.
func (n *Node) Remark(ctx context.Context, action, object, detail string) error {
	origin := originOf(ctx)
	note := operatorNote(ctx, "", action, object, detail)
	err := n.remark(ctx, origin, note)
	if err != nil {
		n.log.Warn("the audit log has no entry of this", "action", action, "object", object, "detail", detail,
			"request_id", origin.RequestID, "address", note.GetAddress(), "agent", note.GetAgent(), "error", err)
	}
	return err
}

func (n *Node) remark(ctx context.Context, origin Origin, note *pmpb.AuditNote) error {
	ctx, cancel := context.WithTimeout(ctx, n.timing.RPC)
	defer cancel()
	_, err := n.keepNote(ctx, origin, note)
	if !errors.Is(err, ErrNotLeader) {
		return err
	}
	conn, err := n.LeaderConn(ctx)
	if err != nil {
		return err
	}
	_, err = pmpb.NewPeerServiceClient(conn).Remark(ctx, &pmpb.RemarkRequest{
		ClusterId: n.ClusterID(), RequestId: origin.RequestID, Principal: origin.Principal, Note: note,
	})
	if err != nil {
		return fmt.Errorf("raftstore: the leader has not kept the note: %w", err)
	}
	return nil
}

// keepNote proposes a note as a command of its own.
func (n *Node) keepNote(ctx context.Context, origin Origin, note *pmpb.AuditNote) (uint64, error) {
	res, err := n.Apply(ctx, &pmpb.Command{
		RequestId: origin.RequestID, Principal: origin.Principal, Note: note,
		Op: &pmpb.Command_Remark{Remark: &pmpb.Remark{}},
	})
	return res.Index, errors.Join(err, res.Err)
}

// noteLogged keeps a note of what the leader itself has done.
func (n *Node) noteLogged(ctx context.Context, number uint64, agent, action, object, detail string) {
	n.submitLogged(ctx, "not noted in the audit log", &pmpb.Command{
		ExpectedTerm: number, Note: operatorNote(ctx, agent, action, object, detail),
		Op: &pmpb.Command_Remark{Remark: &pmpb.Remark{}},
	})
}

// Remark keeps another node's note. It is never passed on.
func (s *peerServer) Remark(ctx context.Context, r *pmpb.RemarkRequest) (*pmpb.RemarkResponse, error) {
	if err := s.checkCluster(ctx, r.GetClusterId()); err != nil {
		return nil, err
	}
	if r.GetNote() == nil {
		return nil, status.Error(codes.InvalidArgument, "there is no note")
	}
	index, err := s.n.keepNote(ctx, Origin{RequestID: r.GetRequestId(), Principal: r.GetPrincipal()}, r.GetNote())
	if err != nil {
		return nil, toStatus(err)
	}
	return &pmpb.RemarkResponse{Index: index}, nil
}
