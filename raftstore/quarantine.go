package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// quarantineFile marks a data directory whose state is not that of the cluster.
const quarantineFile = "quarantined"

// DivergedError says that this server has applied other commands than a majority
// of the voters. It is delivered on Fatal, and returned by Open as long as the
// data directory is marked.
type DivergedError struct {
	// Index is that of a command at which the histories differ; they may differ
	// before it too.
	Index uint64 `json:"index"`
	// Own and Majority are the hashes over the commands up to it, hexadecimal.
	Own      string `json:"own_hash"`
	Majority string `json:"majority_hash"`
	// Servers have the majority's hash.
	Servers []string `json:"majority_servers"`
	// ServerID is this server.
	ServerID string `json:"server_id"`
	// Path is the data directory.
	Path string    `json:"path"`
	Time time.Time `json:"time"`
	// Remedy says what to do.
	Remedy string `json:"what_to_do"`
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("raftstore: the state of this server is not that of the cluster: at command %d the hash over its commands is %s, that of servers %s is %s; %s",
		e.Index, e.Own, strings.Join(e.Servers, ", "), e.Majority, e.Remedy)
}

// quarantine takes this server out of the cluster for good: no later command
// can make its state right, and each answer that it gives may be wrong.
func (n *Node) quarantine(e *DivergedError) {
	e.ServerID, e.Path, e.Time = n.serverID, n.opts.DataDir, n.opts.Now().UTC()
	e.Remedy = fmt.Sprintf("keep a copy of %s for analysis, then empty it and start the node again: it comes back as a new server with the state of the others", e.Path)
	n.m.quarantined.Set(1)
	var err error = e
	if n.dir != nil {
		text, merr := json.MarshalIndent(e, "", "  ")
		if merr == nil {
			merr = writeDurably(filepath.Join(n.dir.path, quarantineFile), append(text, '\n'))
		}
		if merr != nil {
			err = errors.Join(e, fmt.Errorf("raftstore: the data directory could not be marked: %w", merr))
		}
	}
	n.fail(err)
}

// checkQuarantine refuses a directory that is marked.
func checkQuarantine(dir string) error {
	path := filepath.Join(dir, quarantineFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raftstore: the mark %s cannot be read: %w", path, err)
	}
	e := &DivergedError{}
	if json.Unmarshal(text, e) != nil || e.Remedy == "" {
		// Whatever it says, it was put there for a reason.
		e = &DivergedError{Path: dir, Remedy: fmt.Sprintf("empty %s and start the node again: it comes back as a new server", dir)}
	}
	return fmt.Errorf("raftstore: %s is quarantined, see %s: %w", dir, path, e)
}
