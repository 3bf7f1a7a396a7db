package nested

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"sync"
	"time"
)

// How often the meter writes: often to a terminal, where it rewrites one line, seldom to a log.
const (
	terminalInterval = 500 * time.Millisecond
	logInterval      = 15 * time.Second
)

// meter turns the output of `go build -v` (one line for each package that is compiled) into progress lines. It also
// writes while nothing is compiled, because the links at the end are silent for half a minute.
type meter struct {
	out      io.Writer
	terminal bool
	total    int
	programs int
	began    time.Time
	stop     chan struct{}
	stopped  chan struct{}

	mu   sync.Mutex
	rest []byte
	done int
	last string
}

// newMeter counts to total; the last of these packages are the programs, which are linked.
func newMeter(out io.Writer, total, programs int) *meter {
	m := &meter{out: out, total: total, programs: programs, began: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			m.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	go m.run()
	return m
}

func (m *meter) run() {
	defer close(m.stopped)
	interval := logInterval
	if m.terminal {
		interval = terminalInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.print()
		case <-m.stop:
			return
		}
	}
}

// Write receives the output of the Go command.
func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest = append(m.rest, p...)
	for {
		line, rest, found := bytes.Cut(m.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		m.rest = rest
		if bytes.HasPrefix(line, []byte("go: downloading ")) || bytes.ContainsAny(line, " :#") {
			continue
		}
		m.done++
		m.last = string(line)
	}
}

func (m *meter) print() {
	m.mu.Lock()
	defer m.mu.Unlock()
	// The Go command names a package when its compilation starts, and the programs come last, so few open ones means linking.
	text := fmt.Sprintf("  %d of %d packages, %s", min(m.done, m.total), m.total, time.Since(m.began).Round(time.Second))
	switch {
	case m.total-m.done <= m.programs:
		text += ", linking the programs"
	case m.last != "":
		text += ", now " + path.Base(m.last)
	}
	if m.terminal {
		_, _ = fmt.Fprintf(m.out, "\r\033[K%s", text)
		return
	}
	_, _ = fmt.Fprintln(m.out, text)
}

// finish joins the printing goroutine and leaves the terminal's line.
func (m *meter) finish() {
	close(m.stop)
	<-m.stopped
	if m.terminal {
		_, _ = fmt.Fprint(m.out, "\r\033[K")
	}
}
