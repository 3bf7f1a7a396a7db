package liveness

import "time"

// Flapping is after how many contacts in a row that were shorter than Return a cluster is
// suspected although it keeps coming back.
const Flapping = 3

// Contact is what this leader has seen of a cluster itself. The zero value is of no use; see
// [Began].
type Contact struct {
	// Up says that there is contact, Since when the present contact or silence began.
	Up    bool
	Since time.Time
	// First is the first loss after the last contact that was long enough, zero if there
	// was none.
	First time.Time
	// Brief counts the contacts in a row that were too short.
	Brief int

	seen bool
}

// Began gives the contact of a leader that begins to look at a cluster.
func Began(now time.Time) Contact { return Contact{Since: now, First: now} }

// Found notes that the cluster is in contact.
func (c *Contact) Found(now time.Time) {
	if c.Up {
		return
	}
	if !c.seen {
		// That it was not there when the leader began was no loss.
		c.First = time.Time{}
	}
	c.Up, c.seen, c.Since = true, true, now
}

// Lost notes that the cluster has been silent since at, which is not before the contact began.
func (c *Contact) Lost(at time.Time, limits Limits) {
	if !c.Up {
		return
	}
	if at.Sub(c.Since) >= limits.Return {
		c.Brief, c.First = 0, at
	} else {
		c.Brief++
		if c.First.IsZero() {
			c.First = at
		}
	}
	c.Up, c.Since = false, at
}

// flaps reports that the cluster keeps coming and going.
func (c *Contact) flaps() bool { return c.Brief >= Flapping }
