package cluster

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
)

// BenchmarkRequests measures what a cluster of three nodes answers, by all of them, in a laboratory and on bare loopback
// (package system does that in its own measurements).
func BenchmarkRequests(b *testing.B) {
	c := inLab(b, Options{})
	var next atomic.Int64
	run := func(name string, request func(node string, i int64) error) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := next.Add(1)
					if err := request(fmt.Sprintf("pm-%d", i%3+1), i); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
	ctx := b.Context()
	get := func(path string) func(string, int64) error {
		return func(node string, _ int64) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Node(node).URL()+path, nil)
			if err != nil {
				return err
			}
			response, err := c.HTTP().Do(request)
			if err != nil {
				return err
			}
			return response.Body.Close()
		}
	}
	run("health", get("/health"))
	run("linearizable", get("/api/v1/packages"))
	run("write", func(node string, i int64) error { return put(ctx, c, node, fmt.Sprintf("p%d", i)) })
}
