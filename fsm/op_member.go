package fsm

import (
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

// putMember keeps the row when nothing in it differs: nodes announce themselves
// at every start.
func putMember(c *call, op *pmpb.PutMember) error {
	row := op.GetMember()
	if err := checkKey("server id", row.GetServerId()); err != nil {
		return err
	}
	have := c.view.Member(row.GetServerId())
	row.ModifyIndex = have.GetModifyIndex()
	if proto.Equal(have, row) {
		return nil
	}
	row.ModifyIndex = c.index
	c.put(atMembers, row)
	return nil
}

func removeMember(c *call, op *pmpb.RemoveMember) error {
	have := c.view.Member(op.GetServerId())
	if have == nil {
		return &NotFoundError{Table: TableMembers, Key: op.GetServerId()}
	}
	c.drop(atMembers, have)
	return nil
}
