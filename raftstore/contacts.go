package raftstore

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// contacts has when each server last answered a message of Raft. While it leads,
// a node sends one to each server several times per heartbeat timeout.
type contacts struct {
	mu sync.Mutex
	at map[raft.ServerID]time.Time
}

func (c *contacts) note(id raft.ServerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[raft.ServerID]time.Time{}
	}
	c.at[id] = time.Now()
}

func (c *contacts) forget(id raft.ServerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.at, id)
}

// last gives the zero time when the server has never answered.
func (c *contacts) last(id raft.ServerID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[id]
}
