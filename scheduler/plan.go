package scheduler

// Plan is the decision for one deployment. Its JSON form is kept with the
// deployment and shown to users.
type Plan struct {
	// Clusters in the order of preference; the first one answers for the
	// deployment where one environment has to.
	Clusters []string `json:"clusters"`
	Mode     Mode     `json:"mode"`
	// Kind is what it takes for the deployment to be available.
	Kind Kind `json:"kind"`
	// Target and Achieved are probabilities within 0..1. What is achieved is that enough
	// clusters are up, or, where the shards have their replicas in others than all of
	// them, the average over the shards.
	Target         float64 `json:"target"`
	TargetDeclared bool    `json:"target_declared"`
	Achieved       float64 `json:"achieved"`
	// Loss is 1-Achieved without rounding away its digits.
	Loss      float64 `json:"loss"`
	TargetMet bool    `json:"target_met"`
	// IfIndependent is the availability of a majority of the clusters if no two shared
	// a domain. The original system calculates so for every kind of deployment, and its
	// clients expect it in the status of a deployment.
	IfIndependent float64 `json:"-"`
	// DowntimeSeconds30d is the expected downtime within 30 days.
	DowntimeSeconds30d float64 `json:"downtime_seconds_30d"`
	// Quorum is the number of clusters that have to be up.
	Quorum int `json:"quorum"`
	// Voters are the replicas of each shard, of which a majority decides where the kind
	// is Quorum; absent without shards.
	Voters int `json:"voters,omitempty"`
	// Assignments have what each cluster gets, in the order of Clusters.
	Assignments []Assignment `json:"assignments"`
	// Changes against the clusters that the deployment runs in.
	Changes Changes `json:"changes"`
	// Steps are the order of the moves of a deployment that runs.
	Steps []Step `json:"steps,omitempty"`
	// Cost for 30 days; absent unless the prices of all clusters are known.
	Cost *float64 `json:"cost,omitempty"`
	// LatencyMS is the longest round trip between two of the clusters, in milliseconds;
	// absent unless all are known.
	LatencyMS *float64 `json:"latency_ms,omitempty"`
	// Alternative is what would be better if the deployment did not run already.
	Alternative *Alternative `json:"alternative,omitempty"`
	Explanation Explanation  `json:"explanation"`
	Summary     string       `json:"summary"`
}

// Unreachable is nil when the plan meets its target, and otherwise the error
// for callers that would rather refuse than deploy below the target.
func (p *Plan) Unreachable() *UnreachableTargetError {
	if p.TargetMet {
		return nil
	}
	reason := ""
	for _, w := range p.Explanation.Warnings {
		if w.Code == CodeTargetUnreachable || w.Code == CodeVotersMissTarget {
			reason = w.Message
		}
	}
	return &UnreachableTargetError{Target: p.Target, Best: p.Achieved, BestSet: p.Clusters, Reason: reason}
}

// Mode is who chose the clusters.
type Mode string

const (
	// Explicit means that the user named the clusters.
	Explicit Mode = "explicit"
	// Automatic means that the planner chose them.
	Automatic Mode = "automatic"
)

// Changes is the difference between the plan and what runs. Each list is
// sorted by name.
type Changes struct {
	Keep   []string `json:"keep"`
	Add    []string `json:"add"`
	Remove []string `json:"remove"`
}

// Explanation says how the plan came about.
type Explanation struct {
	// Counts has the number of considered clusters per code.
	Counts map[Code]int `json:"counts"`
	// Candidates has every selected cluster, in plan order, and then at most
	// explained others: the best first.
	Candidates []Candidate `json:"candidates"`
	// Warnings in the order of the stages that gave them.
	Warnings []Warning `json:"warnings"`
	// Relaxations are single changes that would meet the target, when it is not
	// met.
	Relaxations []Relaxation `json:"relaxations"`
	// Binding are the filters without one of which a better set would meet the target.
	Binding []Binding `json:"binding,omitempty"`
}

// Binding is a reason for rejections that changes the plan.
type Binding struct {
	// Code is the reason.
	Code Code `json:"code"`
	// Clusters are rejected for it alone, and would be in the better set.
	Clusters []string `json:"clusters"`
	// Value of the better set: its cost for 30 days, or without prices its size. Instead
	// is that of the best set without these clusters.
	Value   float64 `json:"value"`
	Instead float64 `json:"instead"`
	Message string  `json:"message"`
}

// explained bounds the clusters that are explained though not selected.
const explained = 20

// Verdict is what became of a cluster.
type Verdict string

const (
	// Selected clusters are in the plan.
	Selected Verdict = "selected"
	// Feasible clusters could have been in the plan.
	Feasible Verdict = "feasible"
	// Rejected clusters may not be used.
	Rejected Verdict = "rejected"
)

// Stage names a step of the planner.
type Stage string

// The stages in their order.
const (
	StageFilter Stage = "filter"
	StageScore  Stage = "score"
	StageSelect Stage = "select"
	StageAssign Stage = "assign"
)

// Candidate is the verdict on one cluster.
type Candidate struct {
	Cluster string  `json:"cluster"`
	Verdict Verdict `json:"verdict"`
	// Stage that gave the verdict.
	Stage   Stage  `json:"stage"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Availability the planner calculated with; absent when the cluster says
	// something senseless.
	Availability *float64 `json:"availability,omitempty"`
	// Source of the availability.
	Source Source `json:"availability_source,omitempty"`
	// Assumed is true when there is none.
	Assumed bool `json:"availability_assumed,omitempty"`
	// Numbers behind the verdict; probabilities within 0..1.
	Numbers map[string]float64 `json:"numbers,omitempty"`
	// ReplaceWith is what would be the best in the place of a selected cluster; absent
	// when there is nothing.
	ReplaceWith *Replacement `json:"replace_with,omitempty"`
	// Findings of the filters: for a rejected cluster everything that is wrong
	// with it, not only the first; for others what the user should know.
	Findings []Finding `json:"findings,omitempty"`
}

// Replacement is a cluster in the place of another one.
type Replacement struct {
	Cluster string `json:"cluster"`
	// Achieved with it instead, and whether that meets the target.
	Achieved  float64 `json:"achieved"`
	TargetMet bool    `json:"target_met"`
	// CostChange for 30 days; absent unless both prices are known.
	CostChange *float64 `json:"cost_change,omitempty"`
}

// Finding is one observation about a cluster.
type Finding struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Warning is something a user should know about the whole plan.
type Warning struct {
	Stage   Stage  `json:"stage"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Relaxation is one change that would make the target reachable.
type Relaxation struct {
	Code Code `json:"code"`
	// Value is the new target, or the number of clusters to add or to let in.
	Value   float64 `json:"value"`
	Message string  `json:"message"`
	// Clusters are those that would be needed, and Reason why they are rejected, when
	// that is what to change.
	Clusters []string `json:"clusters,omitempty"`
	Reason   Code     `json:"reason,omitempty"`
}
