package local

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"oaas.io/control-plane/deploy/local/port"
)

// A foreign program can take a port between its reservation and its use.
func TestStartTriesOtherPorts(t *testing.T) {
	for _, taken := range []int{portEtcdClient, portAPIServer} {
		t.Run(strconv.Itoa(taken), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			attempts := 0
			c, err := start(ctx, Options{Name: "ports", Nodes: 1, Dir: t.TempDir()}, func(n int) (*port.Lease, error) {
				lease, err := port.Reserve(n)
				if attempts++; attempts > 1 || err != nil {
					return lease, err
				}
				foreign, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(lease.Port(taken)))
				if err != nil {
					return lease, err
				}
				t.Cleanup(func() { _ = foreign.Close() })
				return lease, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := c.Stop(); err != nil {
					t.Error(err)
				}
			}()
			if attempts != 2 {
				t.Errorf("%d attempts, want 2", attempts)
			}
		})
	}
}
