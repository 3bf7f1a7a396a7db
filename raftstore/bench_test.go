package raftstore

import (
	"context"
	"testing"
)

func benchCluster(b *testing.B) *testCluster {
	b.Helper()
	c := startCluster(b, 3)
	c.write("k", "v")
	return c
}

func BenchmarkApply(b *testing.B) {
	c := benchCluster(b)
	leader := c.leader()
	for b.Loop() {
		if _, err := leader.Apply(context.Background(), put("k", "v")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadBarrier(b *testing.B) {
	c := benchCluster(b)
	leader := c.leader()
	for name, n := range map[string]*testNode{"leader": leader, "follower": c.others(leader)[0]} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := n.ReadBarrier(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
