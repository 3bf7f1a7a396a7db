//go:build !linux

package netlab

import "fmt"

func tried() error { return fmt.Errorf("%w: namespaces are of Linux", ErrUnavailable) }
