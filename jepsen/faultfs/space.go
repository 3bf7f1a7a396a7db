package faultfs

import (
	"math/bits"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// pageSize is what space is allocated in, and what the kernel writes at once.
const pageSize = 4096

// space is the room that is left, when it is limited.
type space struct {
	mu      sync.Mutex
	limited bool
	left    int64
	// size is what statfs tells as the size of the file system, 0 for that below.
	size uint64
}

func (s *space) limit(left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limited, s.left = true, max(left, 0)
}

func (s *space) unlimit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limited = false
}

// take takes up to so many pages and gives how many there were.
func (s *space) take(pages int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.limited {
		return pages
	}
	pages = min(pages, s.left/pageSize)
	s.left -= pages * pageSize
	return pages
}

func (s *space) give(pages int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += pages * pageSize
}

// none says that not even a page is left, as for a new file.
func (s *space) none() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limited && s.left < pageSize
}

// tell puts into out what statfs has to say.
func (s *space) tell(out *fuse.StatfsOut) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unit := uint64(max(out.Frsize, 1))
	if s.size > 0 {
		out.Blocks = s.size / unit
		out.Bfree, out.Bavail = min(out.Bfree, out.Blocks), min(out.Bavail, out.Blocks)
	}
	if s.limited {
		left := uint64(s.left) / unit //nolint:gosec // never negative
		out.Bfree, out.Bavail = min(out.Bfree, left), min(out.Bavail, left)
	}
}

// allocation is which pages of a file take space.
type allocation []uint64

// allocated gives the allocation of a file without holes.
func allocated(length int64) allocation {
	var a allocation
	for p := range pagesOf(length) {
		a.set(p)
	}
	return a
}

func pagesOf(length int64) int64 { return (length + pageSize - 1) / pageSize }

func (a allocation) has(page int64) bool {
	return int(page/64) < len(a) && a[page/64]&(1<<(page%64)) != 0
}

func (a *allocation) set(page int64) {
	for int(page/64) >= len(*a) {
		*a = append(*a, 0)
	}
	(*a)[page/64] |= 1 << (page % 64)
}

// cut frees the pages from one on and gives how many there were.
func (a *allocation) cut(from int64) int64 {
	var freed int64
	for w := int(from / 64); w < len(*a); w++ {
		mask := ^uint64(0)
		if w == int(from/64) {
			mask <<= from % 64
		}
		freed += int64(bits.OnesCount64((*a)[w] & mask))
		(*a)[w] &^= mask
	}
	return freed
}
