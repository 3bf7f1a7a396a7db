package netlab

import (
	"errors"
	"fmt"
	"os"
)

// ErrUnavailable says that this machine or this user cannot have a laboratory.
var ErrUnavailable = errors.New("network laboratories cannot be made here")

// Available says why no laboratory can be made, or nil.
func Available() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: namespaces and devices need root", ErrUnavailable)
	}
	return tried()
}
