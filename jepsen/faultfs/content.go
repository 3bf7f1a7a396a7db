package faultfs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
)

// sectorSize is the smallest thing that a disk writes as a whole.
const sectorSize = 512

// wasNever is longer than any file.
const wasNever = math.MaxInt64

// page is what a disk still holds of a page of a file that was written.
type page struct {
	// old has the contents of the sectors in dirty and lost as of their last sync.
	old [pageSize]byte
	// dirty are the sectors written since the last sync, one bit each. lost are those
	// that a failed sync has thrown away: no later sync brings them to the disk, unless
	// the page is written again.
	dirty, lost uint8
}

// content is a regular file's data: what the process sees is in the backing file, what a
// disk would hold beside that is here.
type content struct {
	mu    sync.Mutex
	f     *os.File
	opens int
	space *space
	pages map[int64]*page
	// length is the file's, synced what it was at the last sync.
	length, synced int64
	// shrunk is the shortest that the file was made since the last sync, wasNever
	// when it was not made shorter. What lies behind it survives a power cut together
	// with the change of length or not at all: a disk never shows again what a
	// truncation that it knows has taken.
	shrunk int64
	alloc  allocation
}

// open counts a handle, and for one that may write sees that the backing file is open. A
// fresh file is one that was just made: nothing of it is synced.
func (c *content) open(path string, writes, fresh bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if writes && c.f == nil {
		if err := c.hold(path, fresh); err != nil {
			return err
		}
	}
	c.opens++
	return nil
}

func (c *content) hold(path string, fresh bool) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.f, c.length, c.shrunk = f, info.Size(), wasNever
	if !fresh {
		c.synced, c.alloc = c.length, allocated(c.length)
	}
	return nil
}

func (c *content) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens--
	c.settle()
}

// settle closes the backing file when nobody needs it.
func (c *content) settle() {
	if c.f != nil && c.opens == 0 && len(c.pages) == 0 && c.synced == c.length {
		_ = c.f.Close() // what was written through it was written
		c.f = nil
	}
}

// write writes what there is room for.
func (c *content) write(data []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data = data[:c.room(off, len(data))]
	if len(data) == 0 {
		return 0, syscall.ENOSPC
	}
	if err := c.remember(off, off+int64(len(data))); err != nil {
		return 0, err
	}
	n, err := c.f.WriteAt(data, off)
	c.length = max(c.length, off+int64(n))
	return n, err
}

// room takes space for the pages of a write and gives how much of it can be written.
func (c *content) room(off int64, n int) int {
	if n == 0 {
		return 0
	}
	end := off + int64(n)
	for p := off / pageSize; p*pageSize < end; p++ {
		if c.alloc.has(p) {
			continue
		}
		if c.space.take(1) == 0 {
			return int(max(p*pageSize-off, 0))
		}
		c.alloc.set(p)
	}
	return n
}

// remember keeps the contents of the sectors in [from, to) before they are written for the
// first time since the last sync.
func (c *content) remember(from, to int64) error {
	for at := from - from%pageSize; at < to; at += pageSize {
		var touched uint8
		for s := range int64(pageSize / sectorSize) {
			if at+s*sectorSize < to && at+(s+1)*sectorSize > from {
				touched |= 1 << s
			}
		}
		if err := c.rememberPage(at/pageSize, touched); err != nil {
			return err
		}
	}
	return nil
}

func (c *content) rememberPage(number int64, touched uint8) error {
	p := c.pages[number]
	if p == nil {
		p = &page{}
	}
	// The kernel writes pages as a whole: one that was lost and is written again
	// reaches the disk with the next sync.
	p.dirty |= p.lost
	p.lost = 0
	if fresh := touched &^ p.dirty; fresh != 0 {
		var now [pageSize]byte
		if number*pageSize < c.length {
			if _, err := c.f.ReadAt(now[:], number*pageSize); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("faultfs: reading what is overwritten: %w", err)
			}
		}
		for s := range pageSize / sectorSize {
			if fresh&(1<<s) != 0 {
				copy(p.old[s*sectorSize:(s+1)*sectorSize], now[s*sectorSize:])
			}
		}
	}
	p.dirty |= touched
	if c.pages == nil {
		c.pages = map[int64]*page{}
	}
	c.pages[number] = p
	return nil
}

// truncate changes the length.
func (c *content) truncate(length int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if length < c.length {
		if err := c.remember(length, c.length); err != nil {
			return err
		}
		c.shrunk = min(c.shrunk, length)
	}
	if err := c.f.Truncate(length); err != nil {
		return err
	}
	c.length = length
	c.space.give(c.alloc.cut(pagesOf(length)))
	c.settle()
	return nil
}

// allocate takes space for a part of the file and makes the file at least so long.
func (c *content) allocate(off, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int64(c.room(off, int(n))) < n {
		return syscall.ENOSPC
	}
	if off+n <= c.length {
		return nil
	}
	if err := c.f.Truncate(off + n); err != nil {
		return err
	}
	c.length = off + n
	return nil
}

// sync makes durable what was written so far.
func (c *content) sync(backing bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f == nil {
		return nil
	}
	if backing {
		if err := c.f.Sync(); err != nil {
			return err
		}
	}
	for number, p := range c.pages {
		if p.dirty = 0; p.lost == 0 {
			delete(c.pages, number)
		}
	}
	c.synced, c.shrunk = c.length, wasNever
	c.settle()
	return nil
}

// lose is a sync after which nothing that was written is on the disk, nor ever will be.
// What is behind a truncation waits for the next sync: lengths are not data.
func (c *content) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, p := range c.pages {
		gone := p.dirty &^ behind(number, c.shrunk)
		p.lost |= gone
		p.dirty &^= gone
	}
}

// behind are the sectors of a page that reach behind an offset.
func behind(number, off int64) uint8 {
	var sectors uint8
	for s := range int64(pageSize / sectorSize) {
		if number*pageSize+(s+1)*sectorSize > off {
			sectors |= 1 << s
		}
	}
	return sectors
}

// remove gives back the space of a file that no name leads to.
func (c *content) remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.space.give(c.alloc.cut(0))
}

// evict makes the process see what failed syncs have lost.
func (c *content) evict() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, p := range c.pages {
		if err := c.restore(number, p, p.lost); err != nil {
			return err
		}
		if p.lost = 0; p.dirty == 0 {
			delete(c.pages, number)
		}
	}
	if c.f == nil {
		return nil
	}
	// Putting back a sector behind the end has made the file longer.
	err := c.f.Truncate(c.length)
	c.settle()
	return err
}

// restore writes the old contents of sectors.
func (c *content) restore(number int64, p *page, sectors uint8) error {
	for s := range int64(pageSize / sectorSize) {
		if sectors&(1<<s) == 0 {
			continue
		}
		if _, err := c.f.WriteAt(p.old[s*sectorSize:(s+1)*sectorSize], number*pageSize+s*sectorSize); err != nil {
			return fmt.Errorf("faultfs: putting back what was not synced: %w", err)
		}
	}
	return nil
}

// cut makes the backing file what a disk would hold.
func (c *content) cut(rng *rand.Rand, opts CutOptions, loss *Loss) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pages) == 0 && c.synced == c.length {
		return c.drop()
	}
	length, shorter := c.synced, false
	if opts.Torn {
		length, shorter = c.tornLength(rng)
	}
	for _, number := range slices.Sorted(maps.Keys(c.pages)) {
		p, kept := c.pages[number], uint8(0)
		if opts.Torn {
			kept = survivors(rng, opts.Sector)
			if tail := behind(number, c.shrunk); shorter {
				kept |= tail
			} else {
				kept &^= tail
			}
		}
		gone := p.dirty&^kept | p.lost
		loss.Sectors += bits.OnesCount8(gone)
		loss.Survived += bits.OnesCount8(p.dirty & kept)
		if err := c.restore(number, p, gone); err != nil {
			return err
		}
	}
	if err := c.f.Truncate(length); err != nil {
		return fmt.Errorf("faultfs: putting back a length: %w", err)
	}
	return c.drop()
}

// tornLength draws what is left of a change of length: nothing, all, or of a growth a part.
// It tells too whether truncations have survived.
func (c *content) tornLength(rng *rand.Rand) (int64, bool) {
	draw := rng.IntN(3)
	switch {
	case draw == 0:
		return c.synced, false
	case draw == 1 || c.shrunk != wasNever:
		return c.length, c.shrunk != wasNever
	default:
		return c.synced + rng.Int64N(c.length-c.synced+1), false
	}
}

// survivors draws the sectors of a page that reached the disk although no sync has asked.
func survivors(rng *rand.Rand, sector int) uint8 {
	if sector == pageSize {
		if rng.IntN(2) == 0 {
			return 0
		}
		return 0xff
	}
	return uint8(rng.UintN(256)) //nolint:gosec // of 8 bits
}

// drop closes the backing file and forgets everything.
func (c *content) drop() error {
	if c.f == nil {
		return nil
	}
	err := c.f.Close()
	c.f, c.pages = nil, nil
	return err
}

func (c *content) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drop()
}
