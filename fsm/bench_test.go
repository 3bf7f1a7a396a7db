package fsm_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"oaas.io/control-plane/fsm"
)

func BenchmarkApplyPutPackage(b *testing.B) {
	r := newReplica(b)
	data := encode(b, command(b, putPackage(b, "pkg")))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if res := r.state.Apply(uint64(i+1), 1, data); res.Err != nil {
			b.Fatal(res.Err)
		}
	}
}

func BenchmarkApplyCommitDeployment(b *testing.B) {
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			r := newReplica(b)
			var data [][]byte
			for i := range 1024 {
				data = append(data, encode(b, command(b, commit(b, fmt.Sprintf("d%d", i%512), fmt.Sprintf("c%d", i/512), "e1", "e2", "e3"))))
			}
			b.ReportAllocs()
			index := uint64(0)
			for b.Loop() {
				batch := make([]fsm.Entry, size)
				for i := range batch {
					index++
					batch[i] = fsm.Entry{Index: index, Term: 1, Data: data[index%1024]}
				}
				for _, res := range r.state.ApplyBatch(batch) {
					if res.Err != nil {
						b.Fatal(res.Err)
					}
				}
			}
			b.ReportMetric(float64(index)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}

// large is a state with n deployments of two units each.
func large(b *testing.B, n int) *replica {
	r := newReplica(b)
	batch := make([]fsm.Entry, n)
	for i := range batch {
		op := commit(b, fmt.Sprintf("deployment-%06d", i), "c1", "e1", "e2")
		batch[i] = fsm.Entry{Index: uint64(i + 1), Term: 1, Data: encode(b, command(b, op))}
	}
	for _, res := range r.state.ApplyBatch(batch) {
		if res.Err != nil {
			b.Fatal(res.Err)
		}
	}
	return r
}

const many = 100_000

// BenchmarkSnapshot is what a read, and the part of a Raft snapshot that blocks
// the log, cost.
func BenchmarkSnapshot(b *testing.B) {
	r := large(b, many)
	b.ReportAllocs()
	for b.Loop() {
		if r.snap().Deployment("deployment-000001") == nil {
			b.Fatal("not there")
		}
	}
}

func BenchmarkSnapshotWrite(b *testing.B) {
	r := large(b, many)
	view := r.snap()
	var size counter
	for b.Loop() {
		size = 0
		if err := view.Write(io.MultiWriter(&size)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size)/many, "bytes/deployment")
}

func BenchmarkRestore(b *testing.B) {
	data := dump(b, large(b, many).snap())
	for b.Loop() {
		if _, err := fsm.ReadSnapshot(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
