package netlab

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"

	"oaas.io/control-plane/deploy/local/process"
)

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func validName(name string) bool { return label.MatchString(name) }

// recordSize is that of a line of /etc/hosts. All are of one size, which divides that of a page: whoever reads while an
// address is replaced reads the old one or the new one, and all others in any case.
const recordSize = 128

// names is what processes find in their /etc/hosts.
type names struct {
	mu      sync.Mutex
	content []byte
	views   []view
}

// view is the file of one process.
type view struct {
	process *process.Process
	file    *os.File
}

// set replaces the names everywhere.
func (n *names) set(hosts []*Host) {
	var b strings.Builder
	record(&b, "127.0.0.1", "localhost")
	for _, h := range hosts {
		record(&b, h.Addr().String(), h.name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	// What is left of longer content is overwritten, and never cut off under a reader.
	for missing := len(n.content) - b.Len(); missing > 0; missing -= recordSize {
		b.WriteString(strings.Repeat(" ", recordSize-1) + "\n")
	}
	n.content = []byte(b.String())
	n.pruneLocked()
	for _, v := range n.views {
		// The file is in memory of ours: a failure is that of the machine, which shows in all else too.
		_, _ = v.file.WriteAt(n.content, 0)
	}
}

func record(b *strings.Builder, address, name string) {
	fmt.Fprintf(b, "%-*s\n", recordSize-1, address+" "+name)
}

// start runs a process that sees the names, now and later.
func (n *names) start(s *space, spec process.Spec) (*process.Process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pruneLocked()
	var file *os.File
	spec.Fork = func(start func() error) (err error) {
		file, err = s.fork(n.content, start)
		return err
	}
	p, err := process.Start(spec)
	if err != nil {
		return nil, err
	}
	n.views = append(n.views, view{p, file})
	return p, nil
}

// pruneLocked lets go of the files of processes that have ended.
func (n *names) pruneLocked() {
	kept := n.views[:0]
	for _, v := range n.views {
		if v.process.Running() {
			kept = append(kept, v)
		} else {
			_ = v.file.Close() // nobody reads it any more
		}
	}
	clear(n.views[len(kept):])
	n.views = kept
}

func (n *names) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.views {
		_ = v.file.Close() // nobody reads it any more
	}
	n.views = nil
}
