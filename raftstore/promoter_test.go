package raftstore

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const proven = time.Minute

// people reads servers from a short text: a letter for the zone, then V for a
// voter or N for none, then marks: L leader, x unhealthy, d dead, y young, p pinned,
// o of an older release.
func people(texts ...string) []candidate {
	var out []candidate
	for i, text := range texts {
		c := candidate{id: fmt.Sprint("s", i+1), zone: text[:1], voter: text[1] == 'V', healthy: true, since: proven, level: 2}
		for _, mark := range text[2:] {
			switch mark {
			case 'L':
				c.leader = true
			case 'x':
				c.healthy = false
			case 'd':
				c.healthy, c.failed = false, true
			case 'y':
				c.since = time.Second
			case 'p':
				c.pinned = true
			case 'o':
				c.level = 1
			}
		}
		out = append(out, c)
	}
	return out
}

func TestPromoter(t *testing.T) {
	tests := map[string]struct {
		desired int
		servers []string
		want    ballot
	}{
		"three voters stay":                     {0, []string{"aVL", "bV", "cV"}, ballot{}},
		"the second of two waits for the third": {0, []string{"aVL", "bN"}, ballot{}},
		"two join one":                          {0, []string{"aVL", "bN", "cN"}, ballot{promote: []string{"s2", "s3"}}},
		"a replacement":                         {0, []string{"aVL", "bV", "cN"}, ballot{promote: []string{"s3"}}},
		"a young one waits":                     {0, []string{"aVL", "bV", "cNy"}, ballot{}},
		"an unhealthy one waits":                {0, []string{"aVL", "bV", "cNx"}, ballot{}},
		"one of an older release waits":         {0, []string{"aVL", "bV", "cNo"}, ballot{}},
		"the fourth is a spare":                 {0, []string{"aVL", "bV", "cV", "aN"}, ballot{}},
		"the fourth and fifth get their votes":  {0, []string{"aVL", "bV", "cV", "aN", "bN"}, ballot{promote: []string{"s4", "s5"}}},
		"the sixth and seventh do not":          {0, []string{"aVL", "bV", "cV", "aV", "bV", "cN", "aN"}, ballot{}},
		"unless seven are wanted":               {7, []string{"aVL", "bV", "cV", "aV", "bV", "cN", "aN"}, ballot{promote: []string{"s6", "s7"}}},
		"five servers, three wanted":            {3, []string{"aVL", "bV", "cV", "aV", "bV"}, ballot{demote: []string{"s5"}}},
		"four servers, three wanted":            {3, []string{"aVL", "bV", "cV", "aV"}, ballot{demote: []string{"s4"}}},
		"four voters of four":                   {0, []string{"aVL", "bV", "cV", "dV"}, ballot{demote: []string{"s4"}}},
		"a silent voter keeps its vote":         {0, []string{"aVL", "bV", "cVx", "aN"}, ballot{}},
		"a dead voter is replaced when removed": {0, []string{"aVL", "bV", "cVd", "cN"}, ballot{}},
		"nobody is demoted while one is dead":   {3, []string{"aVL", "bV", "cV", "aV", "bVd"}, ballot{}},
		"two voters are not made one":           {0, []string{"aVL", "bV"}, ballot{}},
		"a pinned voter":                        {0, []string{"aVL", "bVp", "cV", "aN"}, ballot{promote: []string{"s4"}}},
		"a pinned voter with its successor":     {0, []string{"aVL", "bVp", "cV", "aV"}, ballot{demote: []string{"s2"}}},
		"a pinned voter that cannot be spared":  {0, []string{"aVL", "bVp", "cVx"}, ballot{}},
		"a pinned leader":                       {0, []string{"aVLp", "bVx", "cV"}, ballot{successor: "s3"}},
		"a pinned spare":                        {0, []string{"aVL", "bV", "cNp"}, ballot{}},
		"the zone without a vote goes first":    {0, []string{"aVL", "bV", "aN", "cN"}, ballot{promote: []string{"s4"}}},
		"a zone without a vote takes one over":  {0, []string{"aVL", "aV", "bV", "cN"}, ballot{promote: []string{"s4"}}},
		"then the crowded zone gives one":       {3, []string{"aVL", "aV", "bV", "cV"}, ballot{demote: []string{"s2"}}},
		"the leader's is not the one":           {3, []string{"aV", "aVL", "bV", "cV"}, ballot{demote: []string{"s1"}}},
		"no zones at all":                       {0, []string{"-VL", "-V", "-V", "-N"}, ballot{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := electorate{desired: tc.desired, spread: true, stabilization: 10 * time.Second, level: 2, servers: people(tc.servers...)}
			if diff := cmp.Diff(tc.want, e.decide(), cmp.AllowUnexported(ballot{})); diff != "" {
				t.Error(diff)
			}
			for _, c := range e.servers {
				if e.explain(c) == "" {
					t.Errorf("nothing is said about %s", c.id)
				}
			}
		})
	}
}

// TestPromoterSettles: from every situation the promoter comes to rest, at an odd
// number of voters where there are servers for one, and on the way never gives a
// vote to a server that has not proved itself, never takes the leader's, and never
// leaves fewer than a quorum of healthy voters by its own doing.
func TestPromoterSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := electorate{
			desired: rapid.SampledFrom([]int{0, 0, 1, 3, 5}).Draw(t, "desired"), spread: rapid.Bool().Draw(t, "spread"),
			stabilization: 10 * time.Second, level: 2,
		}
		for i := range rapid.IntRange(1, 8).Draw(t, "servers") {
			zone := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone")
			marks := rapid.SampledFrom([]string{"", "", "", "x", "d", "y", "p", "o"}).Draw(t, "marks")
			kind := rapid.SampledFrom([]string{"V", "N"}).Draw(t, "kind")
			if i == 0 {
				kind, marks = "VL", ""
			}
			c := people(zone + kind + marks)[0]
			c.id = fmt.Sprint("s", i)
			e.servers = append(e.servers, c)
		}
		for round := 0; ; round++ {
			if round > 20 {
				t.Fatalf("no rest: %+v", e.servers)
			}
			healthyVoters, voters := e.count()
			b := e.decide()
			if len(b.promote) == 0 && len(b.demote) == 0 {
				break
			}
			e.carryOut(t, b)
			healthyNow, votersNow := e.count()
			if healthyVoters > voters/2 && healthyNow <= votersNow/2 {
				t.Fatalf("%d of %d healthy voters became %d of %d by %+v", healthyVoters, voters, healthyNow, votersNow, b)
			}
		}
		able := 0
		for _, c := range e.servers {
			if e.able(c) {
				able++
			}
		}
		if healthy, voters := e.count(); healthy > voters/2 && !slices.ContainsFunc(e.servers, func(c candidate) bool { return c.voter && (c.failed || c.pinned) }) &&
			voters%2 == 0 && able > voters {
			t.Fatalf("rest at %d voters with %d servers that could vote: %+v", voters, able, e.servers)
		}
	})
}

func (e *electorate) count() (healthy, voters int) {
	for _, c := range e.servers {
		if c.voter {
			voters++
			if c.healthy {
				healthy++
			}
		}
	}
	return healthy, voters
}

// carryOut does what the library does in one round: promotions, or else demotions.
func (e *electorate) carryOut(t *rapid.T, b ballot) {
	for i := range e.servers {
		c := &e.servers[i]
		switch {
		case slices.Contains(b.promote, c.id):
			if c.voter || !e.proven(*c) {
				t.Fatalf("promotes %+v", *c)
			}
			c.voter = true
		case len(b.promote) == 0 && slices.Contains(b.demote, c.id):
			if !c.voter || c.leader {
				t.Fatalf("demotes %+v", *c)
			}
			c.voter = false
		}
	}
}
