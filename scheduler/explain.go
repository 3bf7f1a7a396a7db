package scheduler

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/solver"
)

// explain collects the verdicts of all stages.
func explain(spec *Spec, mode Mode, picked *selection, p *Plan) Explanation {
	out := Explanation{
		Counts:      make(map[Code]int, len(picked.counts)+3),
		Candidates:  make([]Candidate, 0, len(picked.chosen)+explained),
		Warnings:    warnings(spec, mode, picked, p),
		Relaxations: relaxations(spec, mode, picked, p),
	}
	out.Binding = picked.binding
	spare := picked.spare(mode)
	for i := range picked.chosen {
		c := explainChosen(mode, picked, i)
		c.ReplaceWith = picked.replacement(i, spare)
		out.Counts[c.Code]++
		out.Candidates = append(out.Candidates, c)
	}
	maps.Copy(out.Counts, picked.counts)
	picked.countLeft(out.Counts)
	room := explained
	for s := range picked.left {
		if room == 0 {
			break
		}
		out.Candidates = append(out.Candidates, explainLeft(picked, s))
		room--
	}
	for i := range picked.rejected {
		c := &picked.rejected[i]
		if picked.exempted(c.Cluster) {
			if out.Counts[c.Code]--; out.Counts[c.Code] == 0 {
				delete(out.Counts, c.Code)
			}
			continue
		}
		if room > 0 {
			out.Candidates = append(out.Candidates, *c)
			room--
		} else if len(picked.exempt) == 0 {
			break
		}
	}
	return out
}

// left yields the usable clusters that were not chosen, best first.
func (o *selection) left(yield func(scored) bool) {
	for one := range o.all {
		if !o.has(one.leaf) && !yield(o.valued(one)) {
			return
		}
	}
}

func (o *selection) has(leaf int) bool {
	return slices.ContainsFunc(o.chosen, func(s scored) bool { return s.leaf == leaf })
}

// countLeft counts the usable clusters that were not chosen by the reason.
func (o *selection) countLeft(counts map[Code]int) {
	left := o.usable() - len(o.chosen)
	if left == 0 {
		return
	}
	if o.nearness != nil {
		for s := range o.left {
			counts[leftCode(o, &s)]++
		}
		return
	}
	switch {
	case o.met:
		crowded, spared := 0, 0
		reason := CodeSharedDomain
		if o.q.priced {
			reason = CodeCostsMore
		}
		if o.fleet.placed || o.q.priced {
			crowded = o.betterLeft(o.worst())
		}
		if o.spared {
			spared = o.discouragedLeft(&crowded)
		}
		if spared > 0 {
			counts[CodeDiscouraged] += spared
			left -= spared
		}
		if crowded > 0 {
			counts[reason] += crowded
		}
		if left > crowded {
			counts[CodeNotNeeded] += left - crowded
		}
	case o.limited:
		counts[CodeOverLimit] += left
	default:
		counts[CodeNotHelpful] += left
	}
}

// discouragedLeft counts the discouraged clusters that were not chosen, and takes those
// of them that are up more often than the worst chosen one out of crowded.
func (o *selection) discouragedLeft(crowded *int) int {
	n, worst := 0, o.worst()
	for one := range o.all {
		// As leftCode sees it: a cluster that is only suspect is not discouraged where the
		// deployment runs.
		if !o.valued(one).discouraged || o.has(one.leaf) {
			continue
		}
		n++
		if (o.fleet.placed || o.q.priced) && o.fleet.up[one.leaf] > worst {
			*crowded--
		}
	}
	return n
}

// betterLeft counts the clusters that are up more often than p and were not chosen.
func (o *selection) betterLeft(p float64) int {
	n := o.above(p)
	for i := range o.chosen {
		if o.chosen[i].p > p {
			n--
		}
	}
	return n
}

// worst is the availability of the chosen cluster that is up least often.
func (o *selection) worst() float64 {
	p := 1.0
	for i := range o.chosen {
		p = min(p, o.chosen[i].p)
	}
	return p
}

// availabilityOf is what a set would achieve.
func (o *selection) availabilityOf(set []int) float64 {
	_, up := o.scratch.chances(set, o.q.rule.Need(len(set)))
	return up
}

func explainChosen(mode Mode, picked *selection, i int) Candidate {
	s := &picked.chosen[i]
	c := described(s, Selected)
	c.Numbers["rank"] = float64(i + 1)
	if len(picked.chosen) <= DefaultMaxClusters {
		// A list of targets can be longer than any set that is chosen here; the
		// cost of this number grows with the cube of its length.
		c.Numbers["availability_without"] = picked.availabilityOf(slices.Delete(leaves(picked.chosen), i, i+1))
	}
	switch {
	case mode == Explicit:
		c.Stage, c.Code = StageFilter, CodeExplicitTarget
		c.Message = s.cluster.Name + ": named by the deployment"
	case picked.sticky && s.current:
		c.Code = CodeKeptCurrent
		c.Message = s.cluster.Name + ": runs there already, and the target is met without moving (" + percent(s.p) + ")"
	case picked.met && picked.q.priced && picked.betterLeft(s.p) > 0:
		c.Code = CodeCheapest
		c.Message = s.cluster.Name + ": belongs to the cheapest set that meets the target (" + percent(s.p) + ")"
	case picked.betterLeft(s.p) > 0:
		c.Code = CodeBestTogether
		c.Message = s.cluster.Name + ": less often up (" + percent(s.p) + ") than others that would go down together with the chosen ones"
	default:
		c.Code = CodeBestAvailability
		c.Message = s.cluster.Name + ": number " + strconv.Itoa(i+1) + " by availability (" + percent(s.p) + ")"
	}
	if s.cluster.Cost != nil {
		c.Numbers["cost"] = *s.cluster.Cost
	}
	if s.assumed {
		c.Message += ", assumed"
	}
	return c
}

// leftCode is why a cluster that could be used was not.
func leftCode(picked *selection, s *scored) Code {
	switch {
	case picked.farFrom(s) != "":
		return CodeTooFar
	case picked.met && picked.spared && s.discouraged:
		return CodeDiscouraged
	case picked.met && picked.q.priced && s.p > picked.worst():
		return CodeCostsMore
	case picked.met && picked.fleet.placed && s.p > picked.worst():
		return CodeSharedDomain
	case picked.met:
		return CodeNotNeeded
	case picked.limited:
		return CodeOverLimit
	default:
		return CodeNotHelpful
	}
}

func explainLeft(picked *selection, s scored) Candidate {
	c := described(&s, Feasible)
	c.Code = leftCode(picked, &s)
	name, n := s.cluster.Name, len(picked.chosen)
	usable := name + ": could be used (" + percent(s.p) + "), but "
	switch c.Code {
	case CodeTooFar:
		c.Message = usable + "more than " + price(picked.nearness.limit) + " ms from " + picked.farFrom(&s) + ", or nobody said how far"
	case CodeSharedDomain:
		c.Message = usable + "the chosen ones do better together"
		if domain, with := picked.sharedWith(&s); domain != "" {
			c.Message = usable + "would go down with " + with + " when " + domain + " does"
		}
	case CodeCostsMore:
		c.Message = usable + "the chosen ones cost less together"
	case CodeDiscouraged:
		c.Message = usable + "others are preferred, and these meet the target"
	case CodeNotNeeded:
		c.Message = usable + strconv.Itoa(n) + " already " + meets(n) + " the target"
	case CodeOverLimit:
		c.Message = usable + "no more than " + strconv.Itoa(n) + " are permitted"
	default:
		with := picked.availabilityOf(append(leaves(picked.chosen), s.leaf))
		c.Numbers["availability_with"] = with
		c.Message = usable + "does not raise the availability above " + percent(picked.achieved)
	}
	if s.cluster.Cost != nil {
		c.Numbers["cost"] = *s.cluster.Cost
	}
	return c
}

func described(s *scored, v Verdict) Candidate {
	p := s.p
	return Candidate{
		Cluster: s.cluster.Name, Verdict: v, Stage: StageSelect,
		Availability: &p, Source: s.cluster.Source, Assumed: s.assumed,
		Numbers: map[string]float64{"availability": p}, Findings: s.findings,
	}
}

func warnings(spec *Spec, mode Mode, picked *selection, p *Plan) []Warning {
	out := []Warning{}
	n := len(picked.chosen)
	if mode == Explicit && n%2 == 0 && spec.Kind == Quorum {
		out = append(out, Warning{StageSelect, CodeEvenCount, fmt.Sprintf(
			"%d environments are no better than %d: %d have to be up, so dropping any one loses nothing",
			n, n-1, availability.Majority(n))})
	}
	if spec.Strong && n < StrongMinimum {
		out = append(out, Warning{StageSelect, CodeStrongUnderReplicated, fmt.Sprintf(
			"strong consistency wants at least %d environments to survive the loss of one, there %s %d",
			StrongMinimum, isAre(n), n)})
	}
	if n > 1 && picked.domainsAssumed() {
		shares := availability.DefaultShares()
		out = append(out, Warning{StageSelect, CodeDomainsAssumed, "nobody has measured how often environments fail together: " +
			percent(shares.Zone) + " of the outages of a zone and " + percent(shares.Region) + " of those of a region are assumed to be common"})
	}
	if p := spec.Placement; mode == Explicit && p != nil && p.MaxLatency != nil {
		if text := picked.tooFar(*p.MaxLatency); text != "" {
			out = append(out, Warning{StageSelect, CodeTooFar, text})
		}
	}
	if picked.unproven {
		out = append(out, Warning{StageSelect, CodeSearchEnded, "the search for a better set was given up"})
	}
	if picked.held != "" {
		out = append(out, Warning{StageSelect, CodeMovesHeld, picked.held})
	}
	if a := picked.passedOver; a != nil {
		out = append(out, Warning{StageSelect, CodeKeptDespite, a.Message})
	}
	if text := degradedOnTheWay(picked, p); text != "" {
		out = append(out, Warning{StageAssign, CodeDegradedOnTheWay, text})
	}
	if text := withoutAutoscaler(spec, picked); text != "" {
		out = append(out, Warning{StageAssign, CodeNoAutoscaler, text})
	}
	out = append(out, aboutVoters(picked, p)...)
	if picked.met || p.TargetMet {
		return out
	}
	if !halfUp(picked) {
		out = append(out, Warning{StageSelect, CodeQuorumCannotHelp,
			"no environment is up for more than half of the time, so more of them would make it worse"})
	}
	target, _ := spec.target()
	if text := limitingDomain(picked, permittedLoss(target)); text != "" {
		out = append(out, Warning{StageSelect, CodeLimitingDomain, text})
	}
	return append(out, Warning{StageSelect, CodeTargetUnreachable, unreachable(target, mode, picked)})
}

// aboutVoters tells when the replicas of the shards are not one in each cluster.
func aboutVoters(picked *selection, p *Plan) []Warning {
	n := len(p.Clusters)
	if p.Loss == picked.loss {
		return nil
	}
	what := fmt.Sprintf("each shard has %s on the data nodes of %d environments: an object can be reached %s of the time, enough environments are up %s of it",
		replicas(p.Voters), n, percent(p.Achieved), percent(picked.achieved))
	if picked.met && !p.TargetMet {
		return []Warning{{StageAssign, CodeVotersMissTarget, what + ", and the target is " + percent(p.Target)}}
	}
	return []Warning{{StageAssign, CodeVotersDiffer, what}}
}

// domainsAssumed says whether any domain of the chosen clusters was not measured.
func (o *selection) domainsAssumed() bool {
	t := o.fleet.tree
	for i := range o.chosen {
		for d := t.DomainOf(o.chosen[i].leaf); d >= 0; d = t.Parent(d) {
			if _, known := o.fleet.measured[t.DomainName(d)]; !known {
				return true
			}
		}
	}
	return false
}

// degradedOnTheWay tells of steps that are less available than what runs and than the
// target; empty when there are none.
func degradedOnTheWay(picked *selection, p *Plan) string {
	low := lowest(p.Steps)
	if low == nil || *low.Loss <= picked.q.permitted {
		return ""
	}
	var running []int
	for _, name := range slices.Concat(p.Changes.Keep, p.Changes.Remove) {
		i, known := picked.fleet.byName[name]
		if !known {
			return "" // of what runs now, less is known than of the way
		}
		running = append(running, i)
	}
	if now, _ := picked.scratch.chances(running, picked.q.rule.Need(len(running))); *low.Loss <= now*(1+1e-9) {
		return ""
	}
	return fmt.Sprintf("after %s of %s it is available %s of the time, less than before", low.Action, low.Cluster, percent(*low.Achieved))
}

func unreachable(target float64, mode Mode, picked *selection) string {
	got, want, n := percent(picked.achieved), percent(target), len(picked.chosen)
	among := ""
	if near := picked.nearness; near != nil {
		among = " that are within " + price(near.limit) + " ms of each other"
	}
	switch {
	case mode == Explicit:
		return fmt.Sprintf("the named environments achieve %s of %s", got, want)
	case picked.limited:
		return fmt.Sprintf("the %d best environments achieve %s of %s, and no more are permitted", n, got, want)
	case picked.q.rule == solver.Any:
		return fmt.Sprintf("no set of the %d usable environments%s achieves more than %s of %s", picked.usable(), among, got, want)
	default:
		return fmt.Sprintf("no odd number of the %d usable environments%s achieves more than %s of %s", picked.usable(), among, got, want)
	}
}

// relaxations finds single changes that would meet the target.
func relaxations(spec *Spec, mode Mode, picked *selection, p *Plan) []Relaxation {
	out := []Relaxation{}
	if picked.met && !p.TargetMet {
		n := len(p.Clusters)
		out = append(out, Relaxation{Code: CodeChangeReplicas, Value: float64(n), Message: fmt.Sprintf(
			"set odgm.replica_count to %d, or leave it and odgm.env_node_ids out", n)})
	}
	if picked.met || p.TargetMet {
		return out
	}
	target, _ := spec.target()
	out = append(out, picked.admissions...)
	if mode == Automatic {
		if extra, p, ok := clustersToAdd(spec, picked, permittedLoss(target)); ok {
			out = append(out, Relaxation{Code: CodeAddClusters, Value: float64(extra), Message: fmt.Sprintf(
				"add %d more with an availability of %s", extra, percent(p))})
		}
	}
	// Rounded down, so that asking for it succeeds.
	possible := math.Floor(picked.achieved*1e12) / 1e12
	return append(out, Relaxation{Code: CodeLowerTarget, Value: possible, Message: "ask for at most " + percent(possible)})
}

// clustersToAdd is the smallest number of further clusters, each as good as the
// best one there is, with which the target could be met.
func clustersToAdd(spec *Spec, picked *selection, permitted float64) (extra int, p float64, ok bool) {
	var have []float64
	for one := range picked.all {
		have = append(have, picked.fleet.up[one.leaf])
	}
	p = slices.Max(have)
	if picked.fleet.placed {
		return regionsToAdd(spec, picked, permitted, p)
	}
	limit := spec.limit()
	for extra = 1; extra <= limit; extra++ {
		q := spec.asked(extra+len(have), false)
		d := availability.NewDistribution(q.high)
		// The new ones are among the best, so they come first.
		for n := 1; n <= q.high; n++ {
			if n <= extra {
				d.Add(p)
			} else {
				d.Add(have[n-extra-1])
			}
			if n >= q.low && (n%2 == 1 || q.rule == solver.Any) && d.Loss(q.rule.Need(n)) <= permitted {
				return extra, p, true
			}
		}
	}
	return 0, p, false
}

// regionsToAdd is clustersToAdd where clusters share domains: each of the new ones
// is in a region of its own. To a quorum they come in pairs, as an even number is no
// better.
func regionsToAdd(spec *Spec, picked *selection, permitted, p float64) (int, float64, bool) {
	s := picked.scratch
	s.votes = s.votes[:0]
	for i := range picked.chosen {
		s.votes = append(s.votes, availability.Vote{Leaf: picked.chosen[i].leaf, Weight: 1})
	}
	more := []float64{p}
	if picked.q.rule == solver.Majority {
		more = append(more, p)
	}
	step := len(more)
	for ; len(s.votes)+len(more) <= spec.limit(); more = append(more, more[:step]...) {
		if s.e.LossWith(s.votes, more, picked.q.rule.Need(len(s.votes)+len(more))) <= permitted {
			return len(more), p, true
		}
	}
	return 0, 0, false
}

// halfUp says whether any usable cluster is up for more than half of the time; it does
// not matter where one is enough.
func halfUp(picked *selection) bool {
	return picked.q.rule == solver.Any || picked.above(0.5) > 0
}

func summarize(p *Plan) string {
	var b strings.Builder
	n := len(p.Clusters)
	if n == 1 {
		fmt.Fprintf(&b, "%s: available %s of the time", p.Clusters[0], percent(p.Achieved))
	} else {
		fmt.Fprintf(&b, "%d environments (%s), %d of which %s to be up: available %s of the time", n, list(p.Clusters), p.Quorum, hasHave(p.Quorum), percent(p.Achieved))
	}
	verb := "meets"
	if !p.TargetMet {
		verb = "misses"
	}
	fmt.Fprintf(&b, " (%s down in 30 days), %s the target of %s", downtime(p.DowntimeSeconds30d), verb, percent(p.Target))
	return b.String()
}

// percent shows a probability with all the nines it has, without ever rounding
// up to 100.
func percent(p float64) string {
	digits := 2
	if loss := 1 - p; loss > 0 && loss < 0.01 {
		digits = min(int(math.Ceil(-math.Log10(loss))), 15)
	}
	s := strconv.FormatFloat(p*100, 'f', digits, 64)
	if p < 1 && strings.HasPrefix(s, "100") {
		s = strconv.FormatFloat(math.Nextafter(100, 0), 'f', -1, 64)
	}
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s + " %"
}

// downtime shows seconds in the unit that fits.
func downtime(seconds float64) string {
	switch {
	case seconds < 1:
		return strconv.FormatFloat(seconds, 'g', 2, 64) + " s"
	case seconds < 120:
		return strconv.FormatFloat(seconds, 'f', 0, 64) + " s"
	case seconds < 2*60*60:
		return strconv.FormatFloat(seconds/60, 'f', 0, 64) + " min"
	default:
		return strconv.FormatFloat(seconds/3600, 'f', 1, 64) + " h"
	}
}

func meets(n int) string {
	if n == 1 {
		return "meets"
	}
	return "meet"
}

func hasHave(n int) string {
	if n == 1 {
		return "has"
	}
	return "have"
}

func replicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return strconv.Itoa(n) + " replicas"
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
