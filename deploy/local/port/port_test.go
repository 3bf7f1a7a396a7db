package port_test

import (
	"net"
	"strconv"
	"testing"

	"oaas.io/control-plane/deploy/local/port"
)

func TestLeasesDoNotOverlap(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		lease, err := port.Reserve(6)
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release()
		if lease.Len() != 6 {
			t.Fatalf("%d ports, want 6", lease.Len())
		}
		for i := range lease.Len() {
			p := lease.Port(i)
			if seen[p] {
				t.Errorf("port %d was given twice", p)
			}
			seen[p] = true
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
			if err != nil {
				t.Errorf("port %d is not free: %v", p, err)
				continue
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestReleaseTwice(t *testing.T) {
	lease, err := port.Reserve(1)
	if err != nil {
		t.Fatal(err)
	}
	lease.Release()
	lease.Release()
	if lease.Len() != 0 {
		t.Error("a released lease still has ports")
	}
}
