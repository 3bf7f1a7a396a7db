package fsm

import (
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

// putCluster keeps the row, and so its modify index, when nothing in it differs:
// decisions that were guarded by it stay valid.
func putCluster(c *call, op *pmpb.PutCluster) error {
	row := op.GetCluster()
	if err := checkKey("cluster name", row.GetName()); err != nil {
		return err
	}
	if err := checkStrays(row.GetStrays()); err != nil {
		return err
	}
	have := c.view.Cluster(row.GetName())
	row.CreateIndex, row.ModifyIndex = have.GetCreateIndex(), have.GetModifyIndex()
	if proto.Equal(have, row) {
		return nil
	}
	if have == nil {
		row.CreateIndex = c.index
	}
	row.ModifyIndex = c.index
	c.put(atClusters, row)
	return nil
}

// removeCluster refuses while the cluster has units. A unit may have come after
// the author of the command looked, and that does not change the cluster's row.
func removeCluster(c *call, op *pmpb.RemoveCluster) error {
	have := c.view.Cluster(op.GetName())
	if have == nil {
		return &NotFoundError{Table: TableClusters, Key: op.GetName()}
	}
	for u := range c.view.UnitsChangedSince(op.GetName(), 0) {
		return &InUseError{Table: TableClusters, Key: op.GetName(), ByTable: TableUnits, By: u.GetId()}
	}
	c.drop(atClusters, have)
	return nil
}
