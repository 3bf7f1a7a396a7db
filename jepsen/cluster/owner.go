package cluster

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// connectionTable is where the kernel lists connections with the numbers of their sockets.
const connectionTable = "/proc/self/net/tcp"

// inodeField is the column of the number of the socket.
const inodeField = 9

// owner names the host that made a connection to a proxy; empty if it is none. The connections of this process come from the
// address of the host that they are made for. The others are told by the process that holds their other end.
func (l *loopback) owner(c *net.TCPConn) string {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	local, also := c.LocalAddr().(*net.TCPAddr)
	if !ok || !also {
		return ""
	}
	pids := map[string]int{}
	l.mu.Lock()
	for _, p := range l.places {
		if p.real.Equal(remote.IP) {
			l.mu.Unlock()
			return p.name
		}
		if p.process != nil && p.process.Running() {
			pids[p.name] = p.process.PID()
		}
	}
	l.mu.Unlock()
	inode := socketInode(remote, local)
	if inode == "" {
		return ""
	}
	for name, pid := range pids {
		if holds(pid, inode) {
			return name
		}
	}
	return ""
}

// socketInode is the number of the socket from one address to another.
func socketInode(from, to *net.TCPAddr) string {
	file, err := os.Open(connectionTable)
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // only read
	want := [2]string{hexAddress(from), hexAddress(to)}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > inodeField && fields[1] == want[0] && fields[2] == want[1] {
			return fields[inodeField]
		}
	}
	return ""
}

// hexAddress is an address as the kernel writes it: the IP as a number in the order of the machine's bytes.
func hexAddress(a *net.TCPAddr) string {
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(a.IP.To4()), a.Port)
}

// holds reports whether a process has a socket.
func holds(pid int, inode string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	want := "socket:[" + inode + "]"
	for _, e := range entries {
		if link, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && link == want {
			return true
		}
	}
	return false
}
