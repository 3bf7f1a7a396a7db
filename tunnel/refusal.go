package tunnel

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reasons why an agent is refused, as the metric has them.
const (
	// ReasonCertificate: it has not shown a certificate for the cluster that it names.
	ReasonCertificate = "certificate"
	// ReasonToken: it has not shown a token for the cluster that it names.
	ReasonToken = "token"
	// ReasonHandshake: no connection with TLS came about.
	ReasonHandshake = "handshake"

	reasonMalformed = "malformed"
	reasonIdentity  = "identity"
	reasonLimit     = "limit"
	reasonRate      = "rate"
	reasonSilent    = "silent"
	reasonNoLeader  = "no-leader"
	reasonStopping  = "stopping"
)

// refusalCodes say what an agent is told. PermissionDenied and FailedPrecondition are
// for a person to mend.
var refusalCodes = map[string]codes.Code{
	ReasonCertificate: codes.PermissionDenied,
	ReasonToken:       codes.PermissionDenied,
	ReasonHandshake:   codes.PermissionDenied,
	reasonMalformed:   codes.InvalidArgument,
	reasonIdentity:    codes.FailedPrecondition,
	reasonLimit:       codes.ResourceExhausted,
	reasonRate:        codes.ResourceExhausted,
	reasonSilent:      codes.DeadlineExceeded,
	reasonNoLeader:    codes.Unavailable,
	reasonStopping:    codes.Unavailable,
}

// RefusedError is why an agent is not let in.
type RefusedError struct{ reason, message string }

// Refuse gives the error for one of the reasons above.
func Refuse(reason, format string, args ...any) *RefusedError {
	return &RefusedError{reason: reason, message: fmt.Sprintf(format, args...)}
}

// later is the error for somebody who was let in before.
func (e *RefusedError) later() *RefusedError {
	return Refuse(e.reason, "this connection is ended: %s", e.message)
}

// Error implements error.
func (e *RefusedError) Error() string { return e.message }

// GRPCStatus is what the agent gets.
func (e *RefusedError) GRPCStatus() *status.Status {
	return status.New(refusalCodes[e.reason], e.message)
}

// Errors of opening a connection.
var (
	errGone    = errors.New("the agent's connection is gone")
	errBusy    = errors.New("the agent has not offered another connection yet")
	errTooMany = errors.New("there are too many connections to the agent")
)

const (
	tellInterval = time.Minute
	// maxTold bounds the peers that are remembered. Beyond it nothing is told before the
	// interval is over; the counter goes on.
	maxTold = 512
)

// refusals tells of those who are refused without letting them fill the log: each peer
// once a minute and reason.
type refusals struct {
	log hclog.Logger
	now func() time.Time

	mu   sync.Mutex
	told map[[2]string]time.Time
}

func newRefusals(log hclog.Logger, now func() time.Time) *refusals {
	return &refusals{log: log, now: now, told: map[[2]string]time.Time{}}
}

// tell logs one refusal. What a stranger says of itself is in what only after it was
// made harmless.
func (r *refusals) tell(from, reason, cluster string, err error) {
	host, _, splitErr := net.SplitHostPort(from)
	if splitErr != nil {
		host = from
	}
	if r.due([2]string{host, reason}) {
		r.log.Warn("refused an agent", "peer", from, "reason", reason, "cluster", printable(cluster), "error", err)
	}
}

// due says whether it is time to tell.
func (r *refusals) due(key [2]string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if at, ok := r.told[key]; ok && now.Sub(at) < tellInterval {
		return false
	}
	if len(r.told) >= maxTold {
		for k, at := range r.told {
			if now.Sub(at) >= tellInterval {
				delete(r.told, k)
			}
		}
		if len(r.told) >= maxTold {
			return false
		}
	}
	r.told[key] = now
	return true
}

// printable makes a short line of text without effect on a terminal.
func printable(text string) string {
	if len(text) > maxName {
		text = text[:maxName] + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
