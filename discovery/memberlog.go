package discovery

import (
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// memberLog takes what memberlist logs. Whatever arrives on the port makes the
// library write a line, so anyone who reaches it could fill the disk: a line
// about a message is passed on once per peer, kind and interval, and all of them
// are counted. Lines that name no peer may be about messages too, as each forged
// announcement makes one; those are passed on once per interval and text, and no
// more than a few of them. Names in them come from outside, with any bytes.
type memberLog struct {
	log     hclog.Logger
	refused *prometheus.CounterVec
	now     func() time.Time

	mu   sync.Mutex
	told map[toldKey]*told
	// own are the lines that name no peer, by their texts.
	own map[toldKey]*told
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
	// maxOwn bounds the lines without a peer.
	maxOwn = 64
)

func newMemberLog(log hclog.Logger, refused *prometheus.CounterVec, now func() time.Time) *memberLog {
	return &memberLog{log: log, refused: refused, now: now, told: map[toldKey]*told{}, own: map[toldKey]*told{}}
}

// memberLine is a line of the library about a message: level, text, peer.
var memberLine = regexp.MustCompile(`^\[(ERR|ERROR|WARN)\] memberlist: (.*?) from=(\S+)`)

// varying is what differs between two lines of one kind.
var varying = regexp.MustCompile(`[0-9]+|'[^']*'|"[^"]*"`)

// Write takes one line, as package log gives it.
func (m *memberLog) Write(p []byte) (int, error) {
	line := printable(strings.TrimSpace(string(p)))
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
	if since, tell := m.due(m.told, maxTold, toldKey{peer, varying.ReplaceAllString(kind, "")}); tell {
		m.log.Warn("refused a message", "peer", peer, "reason", text, "not_told_before", since)
	}
	return len(p), nil
}

// printable makes one line of text without effect on a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// due reports whether a line is to be told, and how many were not before.
func (m *memberLog) due(known map[toldKey]*told, most int, key toldKey) (since int, tell bool) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	have := known[key]
	if have != nil && now.Sub(have.at) < tellAgain {
		have.since++
		return 0, false
	}
	if have != nil {
		since = have.since
	} else if len(known) >= most {
		for k, v := range known {
			if now.Sub(v.at) >= tellAgain {
				delete(known, k)
			}
		}
		if len(known) >= most {
			return 0, false
		}
	}
	known[key] = &told{at: now}
	return since, true
}

// pass gives a line without a peer to the log, with its level.
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
	if level == hclog.Debug {
		m.log.Debug(text)
		return
	}
	switch since, tell := m.due(m.own, maxOwn, toldKey{kind: text}); {
	case tell && since > 0:
		m.log.Log(level, text, "not_told_before", since)
	case tell:
		m.log.Log(level, text)
	}
}

// conflict tells that a name is claimed twice.
func (m *memberLog) conflict(name, kept, ignored string) {
	if since, tell := m.due(m.own, maxOwn, toldKey{name, "conflict"}); tell {
		m.log.Warn("two members have the same name", "name", name, "kept", kept, "ignored", ignored, "not_told_before", since)
	}
}
