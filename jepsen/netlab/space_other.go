//go:build !linux

package netlab

import (
	"net/netip"
	"os"
)

// space exists on Linux only.
type space struct{ tun *os.File }

func openSpace(netip.Prefix, int) (*space, error) { return nil, tried() }

func (s *space) do(func() error) error { return tried() }

func (s *space) visit(func() error) error { return tried() }

func (s *space) move(netip.Prefix) error { return tried() }

func (s *space) fork([]byte, func() error) (*os.File, error) { return nil, tried() }

func (s *space) close() {}
