package variant

import "time"

// catalogue is all variants. The names of nemeses and workloads are those of the packages
// nemesis and workload; which check has to object follows from the promise.
var catalogue = []Variant{
	{
		Name: "heartbeat-fast-path", Guard: "serial-heartbeats",
		Removed: "Heartbeats take the library's shortcut: they are handled on the connection's goroutine and change term and role while the main loop does.",
		Breaks:  "I1, I3: there is one leader per term, and one history",
		Schedule: "A candidate must be counting its votes in the very moment in which a heartbeat of the next term's leader makes it a follower: it then makes itself leader of that leader's term. " +
			"A candidate that stands still with its votes under way finds both when it goes on, and has them handled at the same time.",
		Nemeses: []string{"pause-candidate"}, Workloads: []string{"register", "set"},
		Tests:   []Test{{"./raftstore", "^TestLateVoteMakesNoSecondLeader$"}, {"./raftstore", "^TestHeartbeatsGoThroughTheMainLoop$"}},
		Checks:  []string{"leaders", "replicas", "linearizable", "log order", "set"},
		TimeBox: 15 * time.Minute,
	},
	{
		Name: "verify-leader", Guard: "read-barrier",
		Removed: "Reads are confirmed by the library's VerifyLeader, which counts the answers of servers without a vote, and answers to heartbeats that were sent before the read.",
		Breaks:  "I2: reads are linearizable",
		Schedule: "Leadership is handed over and the old leader is cut off before it learns of it, from the voters, but not from servers without a vote: it reads on until its lease ends. " +
			"Or the leader is paused between a heartbeat and its answer, on slow links, and has reads waiting when it goes on.",
		Nemeses: []string{"spectators"}, Nodes: 5, Workloads: []string{"register"},
		Tests:   []Test{{"./raftstore", "^TestVerifyLeaderIsNoReadBarrier$"}},
		Checks:  []string{"linearizable", "log order"},
		TimeBox: 10 * time.Minute,
	},
	{
		Name: "fence-off", Guard: "fence",
		Removed:  "A cluster stores whatever change comes last, also one that is older than what it has, and a change of a unit that a newer one has deleted.",
		Breaks:   "I5: a deposed leader's late message has no effect",
		Schedule: "The leader is paused with calls to clusters under way; they arrive after those of its successor. Slow links to the clusters make it likely.",
		Nemeses:  []string{"slow-clusters", "pause-leader", "kill-leader"}, Workloads: []string{"lifecycle"},
		Tests:   []Test{{"./deploy/local/agent", "^TestFences$"}, {"./deploy/crd", "^TestDeliveryRules$"}},
		Checks:  []string{"fences", "runtimes"},
		TimeBox: 10 * time.Minute, Agents: true,
	},
	{
		Name: "idempotency-off", Guard: "idempotency",
		Removed:  "The header Idempotency-Key is ignored.",
		Breaks:   "I11: a repeated request has one effect and one answer",
		Schedule: "A write takes effect and its answer is lost with the leader; the client asks again with the same key and gets another answer, or has a second effect.",
		Nemeses:  []string{"kill-leader", "partition-leader", "pause-leader"}, Workloads: []string{"idempotent"},
		Tests:   []Test{{"./api", "^TestIdempotency$"}},
		Checks:  []string{"idempotency", "linearizable"},
		TimeBox: 5 * time.Minute,
	},
	{
		Name: "tombstones-dropped", Guard: "tombstones",
		Removed:  "The tombstone of a unit whose cluster cannot be reached is forgotten at once, as if the cluster had confirmed.",
		Breaks:   "I7: no ClassRuntime outlives its tombstone",
		Schedule: "A cluster is away while one of its deployments is deleted, and comes back.",
		Nemeses:  []string{"unplug-agent"}, Workloads: []string{"lifecycle"},
		Tests:   []Test{{"./dispatch", "^TestTombstoneWaitsForConfirmation$"}},
		Checks:  []string{"runtimes"},
		TimeBox: 5 * time.Minute,
	},
	{
		Name: "stale-reads", Guard: "linearizable-reads",
		Removed:  "Reads without a consistency parameter are answered from the local state.",
		Breaks:   "I2: reads are linearizable",
		Schedule: "A follower is behind. It always is, by some milliseconds; a slow link, a pause or a partition makes it seconds.",
		Nemeses:  []string{"slow-link", "partition-follower", "pause-follower"}, Workloads: []string{"register"},
		Tests:   []Test{{"./api", "^TestConsistency$"}},
		Checks:  []string{"linearizable", "log order"},
		TimeBox: 3 * time.Minute,
	},
	{
		Name: "fsync-off", Guard: "fsync",
		Removed:  "The log store tells of a write before it is on disk.",
		Breaks:   "I1: a write that was acknowledged is not lost",
		Schedule: "A majority loses power at once: what was written and not synced is gone.",
		Nemeses:  []string{"power-cut-all", "power-cut-majority"}, Workloads: []string{"set", "register"},
		Checks:  []string{"set", "linearizable", "log order", "replicas", Healed},
		TimeBox: 5 * time.Minute,
	},
}
