package dispatch

import (
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc/status"
)

// ErrUntrusted is why a connection is not made although somebody answers: one side
// does not trust the other, or they do not agree on TLS. A Dialer's transport wraps it
// around a reason that does not change from attempt to attempt. gRPC passes on the
// text of such an error and nothing else, so that it is found by that.
var ErrUntrusted = errors.New("no trusted connection")

// ErrNoAgent is why there is no connection to a cluster whose manager has to make it
// itself. It is found by its text, as ErrUntrusted is.
var ErrNoAgent = errors.New("no agent of the cluster is connected to the control plane")

// noAgent finds that in the error of a call.
func noAgent(err error) bool {
	return err != nil && strings.Contains(status.Convert(err).Message(), ErrNoAgent.Error())
}

// untrustedBecause finds the reason in the error of a call.
func untrustedBecause(err error) (why string, untrusted bool) {
	if err == nil {
		return "", false
	}
	_, why, untrusted = strings.Cut(status.Convert(err).Message(), ErrUntrusted.Error()+": ")
	if !untrusted {
		return "", false
	}
	// gRPC quotes what it passes on; this is the end of it.
	if plain, err := strconv.Unquote(`"` + why); err == nil {
		why = plain
	}
	return clip(ErrUntrusted.Error() + " to the manager: " + why), true
}
