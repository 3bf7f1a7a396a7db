package netlab

import "time"

// Any stands for every other host in Cut, Shape and Heal.
const Any = "*"

// Shape is how bad a way is. The zero Shape is a perfect one.
type Shape struct {
	// Delay is added to every packet, and up to Jitter more, evenly distributed.
	Delay, Jitter time.Duration
	// Loss is the part of the packets that is lost, within 0..1.
	Loss float64
	// Rate is what the way carries, in bytes per second. 0 is as much as comes.
	Rate int64
}

// Counts are what one direction of a pair has carried and lost.
type Counts struct {
	// Packets and Bytes were delivered.
	Packets, Bytes uint64
	// Lost are packets that rules or full queues have lost.
	Lost uint64
}
