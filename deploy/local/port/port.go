package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"oaas.io/control-plane/deploy/local/filelock"
)

// The range that is searched. Its end is lowered to the start of the kernel's range for outgoing connections.
const (
	first       = 10000
	defaultLast = 32767
)

// ErrNoPort says that no free port was found.
var ErrNoPort = errors.New("no free loopback port")

// Lease is a set of reserved ports. It must be released when the servers on them have ended.
type Lease struct {
	ports []int
	locks []*filelock.Lock
}

// Reserve finds n free ports in no particular order.
func Reserve(n int) (*Lease, error) {
	dir := filepath.Join(os.TempDir(), "oaas-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("reserve ports: %w", err)
	}
	last := lastPort()
	lease := &Lease{}
	for range 50 * n {
		if len(lease.ports) == n {
			return lease, nil
		}
		candidate := first + rand.IntN(last-first)
		lock, err := filelock.Try(filepath.Join(dir, strconv.Itoa(candidate)))
		if errors.Is(err, filelock.ErrHeld) {
			continue
		}
		if err != nil {
			lease.Release()
			return nil, fmt.Errorf("reserve ports: %w", err)
		}
		if !free(candidate) {
			lock.Release()
			continue
		}
		lease.ports = append(lease.ports, candidate)
		lease.locks = append(lease.locks, lock)
	}
	if len(lease.ports) == n {
		return lease, nil
	}
	lease.Release()
	return nil, fmt.Errorf("%w between %d and %d", ErrNoPort, first, last)
}

// Port returns the i-th port.
func (l *Lease) Port(i int) int { return l.ports[i] }

// Len is the number of ports.
func (l *Lease) Len() int { return len(l.ports) }

// Release gives the ports back. It may be called more than once.
func (l *Lease) Release() {
	for _, lock := range l.locks {
		lock.Release()
	}
	l.ports, l.locks = nil, nil
}

// free tries TCP and UDP, because gossip listens on both with the same number.
func free(port int) bool {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer tcp.Close() //nolint:errcheck // only tried
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return udp.Close() == nil
}

// lastPort keeps below the ports that the kernel takes for outgoing connections.
func lastPort() int {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return defaultLast
	}
	fields := strings.Fields(string(raw))
	if len(fields) != 2 {
		return defaultLast
	}
	low, err := strconv.Atoi(fields[0])
	if err != nil || low <= first+1000 {
		// The administrator has opened nearly everything to the kernel: the locks and the retries must do.
		return defaultLast
	}
	return low - 1
}
