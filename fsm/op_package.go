package fsm

import (
	"slices"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

func putPackage(c *call, op *pmpb.PutPackage) error {
	doc, err := model.DecodePackage(op.GetDocument())
	if err != nil {
		return invalidDocument("package", err)
	}
	if err := checkKey("package name", doc.Name); err != nil {
		return err
	}
	row := &Package{Doc: doc, CreateIndex: c.index, ModifyIndex: c.index}
	if have := c.view.Package(doc.Name); have != nil {
		row.CreateIndex = have.CreateIndex
	}
	c.put(atPackages, row)
	return nil
}

// deletePackage refuses to remove what another package depends on: the author of
// the command may have looked before that package came to be, and no guard on the
// removed row can tell.
func deletePackage(c *call, op *pmpb.DeletePackage) error {
	have := c.view.Package(op.GetName())
	if have == nil {
		return &NotFoundError{Table: TablePackages, Key: op.GetName()}
	}
	for other := range c.view.store.packages().each() {
		if other != have && slices.Contains(other.Doc.Dependencies, op.GetName()) {
			return &InUseError{Table: TablePackages, Key: op.GetName(), ByTable: TablePackages, By: other.Doc.Name}
		}
	}
	c.drop(atPackages, have)
	return nil
}
