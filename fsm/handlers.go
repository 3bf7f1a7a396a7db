package fsm

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"oaas.io/control-plane/proto/pmpb"
)

// handlers is the table of operations, by their field number in pmpb.Command.
type handlers map[protoreflect.FieldNumber]func(*call, *pmpb.Command) error

func newHandlers() handlers {
	return handlers{
		20: on((*pmpb.Command).GetFound, found),
		21: on((*pmpb.Command).GetPutPackage, putPackage),
		22: on((*pmpb.Command).GetDeletePackage, deletePackage),
		23: on((*pmpb.Command).GetCommitDeployment, commitDeployment),
		24: on((*pmpb.Command).GetDeleteDeployment, deleteDeployment),
		25: on((*pmpb.Command).GetUpdateUnits, updateUnits),
		26: on((*pmpb.Command).GetPutCluster, putCluster),
		27: on((*pmpb.Command).GetRemoveCluster, removeCluster),
		28: on((*pmpb.Command).GetPutMember, putMember),
		29: on((*pmpb.Command).GetRemoveMember, removeMember),
	}
}

func on[Op any](op func(*pmpb.Command) Op, handle func(*call, Op) error) func(*call, *pmpb.Command) error {
	return func(c *call, cmd *pmpb.Command) error { return handle(c, op(cmd)) }
}

func (h handlers) run(c *call, cmd *pmpb.Command) error {
	_, number := operation(cmd)
	handle, ok := h[number]
	if !ok {
		return fmt.Errorf("%w: operation %d", ErrUnknownCommand, number)
	}
	return handle(c, cmd)
}
