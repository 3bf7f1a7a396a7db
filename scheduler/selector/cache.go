package selector

import (
	"container/list"
	"sync"
)

// Cache keeps the programs that were used last, as compiling one costs a thousand
// times what evaluating it does. What was refused is not kept.
type Cache struct {
	limit int

	mu     sync.Mutex
	used   *list.List // of *Program, the one used last in front
	byText map[string]*list.Element
}

// NewCache makes a cache of at most limit programs, and of at least one.
func NewCache(limit int) *Cache {
	return &Cache{limit: max(limit, 1), used: list.New(), byText: map[string]*list.Element{}}
}

// Compile is Compile of the package, unless the program is there.
func (c *Cache) Compile(expression string) (*Program, error) {
	if p := c.find(expression); p != nil {
		return p, nil
	}
	// Two callers may compile the same at once; to let the others wait for it instead
	// would let one long expression delay all.
	p, err := Compile(expression)
	if err != nil {
		return nil, err
	}
	return c.keep(p), nil
}

// Len is the number of programs that are kept.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used.Len()
}

func (c *Cache) find(expression string) *Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byText[expression]
	if !ok {
		return nil
	}
	c.used.MoveToFront(e)
	p, _ := e.Value.(*Program)
	return p
}

func (c *Cache) keep(p *Program) *Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byText[p.text]; ok {
		first, _ := e.Value.(*Program)
		return first
	}
	c.byText[p.text] = c.used.PushFront(p)
	if c.used.Len() > c.limit {
		last := c.used.Back()
		if old, ok := c.used.Remove(last).(*Program); ok {
			delete(c.byText, old.text)
		}
	}
	return p
}
