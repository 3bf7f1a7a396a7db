//go:build linux

package netlab

import (
	"runtime"
	"testing"
)

// BenchmarkSwitch measures the way of a packet from the write of the sender's socket to the receiver's, the work of both
// kernels included.
func BenchmarkSwitch(b *testing.B) {
	for _, test := range []struct {
		name  string
		shape Shape
	}{{"plain", Shape{}}, {"ruled", Shape{Loss: 1e-12}}, {"held", Shape{Delay: 1}}} {
		b.Run(test.name, func(b *testing.B) {
			d := newDatagrams(b)
			check(b, d.l.Shape("a", "b", test.shape))
			sender, err := d.l.Host("a").Dial(within(b), "udp", "b:7946")
			check(b, err)
			defer sender.Close() //nolint:errcheck // nothing is read
			way := d.l.Host("a").waysLocked()[1]
			payload := make([]byte, 300)
			sent := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sender.Write(payload); err != nil {
					b.Fatal(err)
				}
				// What the receiver's socket has no room for is not the switch's matter, what the device has no room for is.
				for sent++; way.packets.Load()+deviceQueue/2 < sent; {
					runtime.Gosched()
				}
			}
			for way.packets.Load()+way.lost.Load() < sent {
				runtime.Gosched()
			}
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "packets/s")
		})
	}
}

// BenchmarkRoundTrip measures a request and its answer over TCP.
func BenchmarkRoundTrip(b *testing.B) {
	l := newLab(b, "a", "b")
	echo(b, l.Host("b"), 80)
	conn := dial(b, l.Host("a"), "b:80")
	for b.Loop() {
		check(b, say(conn, "hello"))
	}
}

// BenchmarkBulk measures a stream.
func BenchmarkBulk(b *testing.B) {
	l := newLab(b, "a", "b")
	echo(b, l.Host("b"), 80)
	conn := dial(b, l.Host("a"), "b:80")
	text := string(make([]byte, 64<<10))
	b.SetBytes(int64(2 * len(text)))
	for b.Loop() {
		check(b, say(conn, text))
	}
}
