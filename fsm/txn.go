package fsm

import (
	"fmt"

	"golang.org/x/sync/errgroup"

	"oaas.io/control-plane/proto/pmpb"
)

// txn is a store that is being written to, by one goroutine. Nobody sees it
// before it is published.
type txn struct {
	*store
	// written has the rows that were written, with what they replaced.
	written []writing
	// changes are the commands that wrote them, without those that wrote nothing
	// that can be followed.
	changes []*Change
}

// writing is one row that was written. old is nil when it is new, and row is nil
// when it was removed.
type writing struct {
	table    int
	old, row any
}

func (s *store) begin() *txn {
	next := *s
	return &txn{store: &next}
}

// table gives a table that may be written to.
func (t *txn) table(position int) anyTable {
	if !t.tables[position].writable() {
		t.tables[position] = t.tables[position].clone()
		if position == atUnits {
			t.envs = t.envs.Copy()
		}
	}
	return t.tables[position]
}

// clear removes all rows and notes that every environment has changed.
func (t *txn) clear() {
	fresh := newStore()
	for i, table := range t.tables {
		t.tables[i] = fresh.tables[i]
		t.tables[i].renew(table.writes() + 1)
	}
	old := t.envs
	t.envs = old.Copy()
	old.Scan(func(env string, _ uint64) bool {
		t.envs.Set(env, t.tables[atUnits].writes())
		return true
	})
}

// fill writes the rows of tables that clear has emptied, given by position. The
// tables are filled at the same time: a node that starts waits for the largest.
func (t *txn) fill(rows [][]any) error {
	var group errgroup.Group
	for i, rows := range rows {
		group.Go(func() error {
			for _, row := range rows {
				if _, err := t.tables[i].put(row); err != nil {
					return fmt.Errorf("%s: %w", tables[i], err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for u := range t.units().each() {
		t.envs.Set(u.GetEnv(), t.units().writes())
	}
	return nil
}

// put writes a row in place of the one with its primary key.
func (t *txn) put(position int, row any) error {
	old, err := t.table(position).put(row)
	if err == nil {
		t.note(writing{table: position, old: old, row: row})
	}
	return err
}

// remove removes the row with the primary key of the given one, if there is one.
func (t *txn) remove(position int, row any) error {
	old, err := t.table(position).remove(row)
	if err == nil && old != nil {
		t.note(writing{table: position, old: old})
	}
	return err
}

func (t *txn) note(w writing) {
	t.written = append(t.written, w)
	if w.table != atUnits {
		return
	}
	for _, u := range []any{w.old, w.row} {
		if u, ok := u.(*pmpb.Unit); ok {
			t.envs.Set(u.GetEnv(), t.tables[atUnits].writes())
		}
	}
}

// seal ends the transaction and gives the store, which may be published.
func (t *txn) seal() *store {
	for _, table := range t.tables {
		if table.writable() {
			table.seal()
		}
	}
	return t.store
}
