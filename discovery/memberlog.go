package discovery

import (
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// memberLog takes what memberlist logs. Whatever arrives on the port makes the
// library write a line, so anyone who reaches it could fill the disk: a line
// about a message is passed on once per peer, kind and interval, and all of them
// are counted.
type memberLog struct {
	log     hclog.Logger
	refused *prometheus.CounterVec
	now     func() time.Time

	mu   sync.Mutex
	told map[toldKey]*told
}

type toldKey struct{ peer, kind string }

type told struct {
	at time.Time
	// since counts the lines that were not passed on.
	since int
}

const (
	tellAgain = time.Minute
	// maxTold bounds the peers and kinds that are remembered. Beyond it nothing is
	// told before the interval is over for some of them; the counter goes on.
	maxTold = 256
)

func newMemberLog(log hclog.Logger, refused *prometheus.CounterVec, now func() time.Time) *memberLog {
	return &memberLog{log: log, refused: refused, now: now, told: map[toldKey]*told{}}
}

// memberLine is a line of the library about a message: level, text, peer.
var memberLine = regexp.MustCompile(`^\[(ERR|ERROR|WARN)\] memberlist: (.*?) from=(\S+)`)

// varying is what differs between two lines of one kind.
var varying = regexp.MustCompile(`[0-9]+|'[^']*'|"[^"]*"`)

// Write takes one line, as package log gives it.
func (m *memberLog) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	found := memberLine.FindStringSubmatch(line)
	if found == nil {
		m.pass(line)
		return len(p), nil
	}
	text, peer := found[2], found[3]
	if host, _, err := net.SplitHostPort(peer); err == nil {
		peer = host
	}
	m.refused.WithLabelValues("malformed").Inc()
	kind, _, _ := strings.Cut(text, ": ")
	if since, tell := m.due(toldKey{peer, varying.ReplaceAllString(kind, "")}); tell {
		m.log.Warn("refused a message", "peer", peer, "reason", text, "not_told_before", since)
	}
	return len(p), nil
}

// due reports whether a line is to be told, and how many were not before.
func (m *memberLog) due(key toldKey) (since int, tell bool) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.told[key]
	if have != nil && now.Sub(have.at) < tellAgain {
		have.since++
		return 0, false
	}
	if have != nil {
		since = have.since
	} else if len(m.told) >= maxTold {
		for k, v := range m.told {
			if now.Sub(v.at) >= tellAgain {
				delete(m.told, k)
			}
		}
		if len(m.told) >= maxTold {
			return 0, false
		}
	}
	m.told[key] = &told{at: now}
	return since, true
}

// pass gives a line about the node itself to the log, with its level.
func (m *memberLog) pass(line string) {
	level, text := hclog.Info, line
	if rest, ok := strings.CutPrefix(line, "["); ok {
		if name, after, ok := strings.Cut(rest, "] "); ok {
			switch name {
			case "DEBUG":
				level, text = hclog.Debug, after
			case "WARN":
				level, text = hclog.Warn, after
			case "ERR", "ERROR":
				level, text = hclog.Error, after
			case "INFO":
				text = after
			}
		}
	}
	m.log.Log(level, text)
}
