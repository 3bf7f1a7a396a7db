package cluster

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"oaas.io/control-plane/deploy/local/system"
)

// BenchmarkRequests measures what three nodes answer, all of them asked in turn: in a laboratory, on loopback with proxies,
// and on bare loopback, which shows what the networks of this package cost.
func BenchmarkRequests(b *testing.B) {
	b.Run("lab", func(b *testing.B) {
		c := inLab(b, Options{})
		measure(b, c.HTTP(), urls(c))
	})
	b.Run("proxies", func(b *testing.B) {
		c := start(b, Options{Loopback: true})
		measure(b, c.HTTP(), urls(c))
	})
	b.Run("bare", func(b *testing.B) {
		s, err := system.Start(within(b), system.Options{Bin: bin(b), PMArgs: []string{"--profile=fast"}})
		check(b, err)
		b.Cleanup(func() { check(b, s.Stop()) })
		var bases []string
		for _, pm := range s.PMs {
			bases = append(bases, pm.URL())
		}
		transport := &http.Transport{MaxIdleConnsPerHost: connectionsPerNode}
		b.Cleanup(transport.CloseIdleConnections)
		measure(b, &http.Client{Transport: transport}, bases)
	})
}

func urls(c *Cluster) (out []string) {
	for _, n := range c.Nodes() {
		out = append(out, n.URL())
	}
	return out
}

func measure(b *testing.B, client *http.Client, bases []string) {
	var next atomic.Int64
	for _, test := range []struct {
		name, method, path, body string
	}{
		{"health", http.MethodGet, "/health", ""},
		{"linearizable", http.MethodGet, "/api/v1/packages/none", ""},
		{"write", http.MethodPost, "/api/v1/packages", `{"name":"p%d","functions":[],"classes":[]}`},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := next.Add(1)
					body := test.body
					if body != "" {
						body = fmt.Sprintf(body, i)
					}
					if err := request(b.Context(), client, test.method, bases[i%int64(len(bases))]+test.path, body); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

func request(ctx context.Context, client *http.Client, method, url, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusInternalServerError {
		err = fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	return err
}
