package fsm

import (
	"fmt"
	"iter"

	"github.com/tidwall/btree"
)

// table keeps the rows of one kind, once per order. The first order is that of
// the primary key. The trees are copied on write, so that a clone costs O(1) and
// leaves the readers of the original alone: a table that was published is never
// written to.
type table[Row comparable] struct {
	orders []*btree.BTreeG[Row]
	// owned is set while nobody else sees the trees, so that they may be written.
	owned bool
	// version is the number of writes since the process began.
	version uint64
}

// compare orders rows by a key: it is negative when a comes before b, and zero
// when they have the same key.
type compare[Row any] func(a, b Row) int

// pageRows is the degree of the trees: their nodes have up to twice as many rows.
const pageRows = 16

func newTable[Row comparable](orders ...compare[Row]) *table[Row] {
	t := &table[Row]{}
	for _, c := range orders {
		less := func(a, b Row) bool { return c(a, b) < 0 }
		t.orders = append(t.orders, btree.NewBTreeGOptions(less, btree.Options{Degree: pageRows, NoLocks: true}))
	}
	return t
}

// get gives the row with the primary key of the probe, the zero value when there
// is none.
func (t *table[Row]) get(probe Row) Row { return t.find(0, probe) }

// find is get by a unique order.
func (t *table[Row]) find(order int, probe Row) Row {
	row, _ := t.orders[order].Get(probe)
	return row
}

// each gives all rows by primary key.
func (t *table[Row]) each() iter.Seq[Row] { return t.orders[0].Scan }

// from gives the rows in an order, starting at the first that does not come
// before the probe.
func (t *table[Row]) from(order int, probe Row) iter.Seq[Row] {
	return func(yield func(Row) bool) { t.orders[order].Ascend(probe, yield) }
}

// backward gives the rows in an order from the end on, starting at the last that
// does not come after the probe.
func (t *table[Row]) backward(order int, probe Row, yield func(Row) bool) {
	t.orders[order].Descend(probe, yield)
}

// last gives the row with the highest primary key.
func (t *table[Row]) last() Row {
	row, _ := t.orders[0].Max()
	return row
}

// anyTable is a table of rows of any kind.
type anyTable interface {
	// clone gives a table with the same rows that may be written to.
	clone() anyTable
	writable() bool
	// seal ends writing.
	seal()
	// renew begins writing to a new table that takes the place of one with fewer writes.
	renew(writes uint64)
	writes() uint64
	// put writes a row and gives the one that it replaces, nil when there was none.
	put(row any) (old any, err error)
	// remove removes the row with the primary key of the given one and gives it.
	remove(row any) (old any, err error)
	rows() iter.Seq[any]
}

func (t *table[Row]) clone() anyTable {
	next := &table[Row]{orders: make([]*btree.BTreeG[Row], len(t.orders)), owned: true, version: t.version}
	for i, o := range t.orders {
		next.orders[i] = o.Copy()
	}
	return next
}

func (t *table[Row]) writable() bool { return t.owned }

func (t *table[Row]) seal() { t.owned = false }

func (t *table[Row]) renew(writes uint64) { t.owned, t.version = true, writes }

func (t *table[Row]) writes() uint64 { return t.version }

func (t *table[Row]) put(raw any) (any, error) {
	row, ok := raw.(Row)
	if !ok {
		return nil, misplaced(raw)
	}
	t.version++
	old, replaced := t.orders[0].Set(row)
	for _, o := range t.orders[1:] {
		if replaced && (o.Less(old, row) || o.Less(row, old)) {
			o.Delete(old)
		}
		o.Set(row)
	}
	if !replaced {
		return nil, nil
	}
	return old, nil
}

func (t *table[Row]) remove(raw any) (any, error) {
	row, ok := raw.(Row)
	if !ok {
		return nil, misplaced(raw)
	}
	old, found := t.orders[0].Delete(row)
	if !found {
		return nil, nil
	}
	t.version++
	for _, o := range t.orders[1:] {
		o.Delete(old)
	}
	return old, nil
}

func (t *table[Row]) rows() iter.Seq[any] {
	return func(yield func(any) bool) {
		t.orders[0].Scan(func(row Row) bool { return yield(row) })
	}
}

func misplaced(row any) error { return fmt.Errorf("fsm: a %T does not belong into this table", row) }

// while gives the rows of a sequence up to the first that does not fit.
func while[Row any](rows iter.Seq[Row], fits func(Row) bool) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for row := range rows {
			if !fits(row) || !yield(row) {
				return
			}
		}
	}
}
