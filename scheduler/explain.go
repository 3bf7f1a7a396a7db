package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"oaas.io/control-plane/scheduler/availability"
)

// explain collects the verdicts of all stages.
func explain(spec Spec, mode Mode, pool filtered, picked selection) Explanation {
	out := Explanation{
		Counts:      map[Code]int{},
		Warnings:    warnings(spec, mode, picked),
		Relaxations: relaxations(spec, mode, picked),
	}
	for i := range picked.chosen {
		c := explainChosen(mode, picked, i)
		out.Counts[c.Code]++
		out.Candidates = append(out.Candidates, c)
	}
	room := explained
	for i := range picked.left {
		out.Counts[leftCode(picked, i)]++
		// What is not shown is not worked out either: there may be thousands.
		if room > 0 {
			out.Candidates = append(out.Candidates, explainLeft(picked, i))
			room--
		}
	}
	for _, c := range pool.rejected {
		out.Counts[c.Code]++
		if room > 0 {
			out.Candidates = append(out.Candidates, c)
			room--
		}
	}
	return out
}

func explainChosen(mode Mode, picked selection, i int) Candidate {
	s := picked.chosen[i]
	c := described(s, Selected)
	c.Numbers["rank"] = float64(i + 1)
	if len(picked.chosen) <= DefaultMaxClusters {
		// A list of targets can be longer than any set that is chosen here; the
		// cost of this number grows with the cube of its length.
		without := picked.model.evaluate(slices.Concat(picked.chosen[:i], picked.chosen[i+1:]), 0)
		c.Numbers["availability_without"] = without.achieved
	}
	switch {
	case mode == Explicit:
		c.Stage, c.Code = StageFilter, CodeExplicitTarget
		c.Message = fmt.Sprintf("%s: named by the deployment", s.cluster.Name)
	case picked.sticky && s.current:
		c.Code = CodeKeptCurrent
		c.Message = fmt.Sprintf("%s: runs there already, and the target is met without moving (%s)", s.cluster.Name, percent(s.p))
	case slices.ContainsFunc(picked.left, func(l scored) bool { return l.p > s.p }):
		c.Code = CodeBestTogether
		c.Message = fmt.Sprintf("%s: less often up (%s) than others that would go down together with the chosen ones", s.cluster.Name, percent(s.p))
	default:
		c.Code = CodeBestAvailability
		c.Message = fmt.Sprintf("%s: number %d by availability (%s)", s.cluster.Name, i+1, percent(s.p))
	}
	if s.assumed {
		c.Message += ", assumed"
	}
	return c
}

// leftCode is why a cluster that could be used was not.
func leftCode(picked selection, i int) Code {
	switch {
	case picked.met && picked.model.crowded(&picked.left[i], picked.chosen):
		return CodeSharedDomain
	case picked.met:
		return CodeNotNeeded
	case picked.limited:
		return CodeOverLimit
	default:
		return CodeNotHelpful
	}
}

func explainLeft(picked selection, i int) Candidate {
	s := picked.left[i]
	c := described(s, Feasible)
	c.Code = leftCode(picked, i)
	name, n := s.cluster.Name, len(picked.chosen)
	switch c.Code {
	case CodeSharedDomain:
		c.Message = fmt.Sprintf("%s: could be used (%s), but the chosen ones do better together", name, percent(s.p))
		if domain, with := picked.model.sharedWith(&s, picked.chosen); domain != "" {
			c.Message = fmt.Sprintf("%s: could be used (%s), but would go down with %s when %s does", name, percent(s.p), with, domain)
		}
	case CodeNotNeeded:
		c.Message = fmt.Sprintf("%s: could be used (%s), but %d already %s the target", name, percent(s.p), n, meets(n))
	case CodeOverLimit:
		c.Message = fmt.Sprintf("%s: could be used (%s), but no more than %d are permitted", name, percent(s.p), n)
	default:
		with := picked.model.evaluate(slices.Concat(picked.chosen, picked.left[:i+1]), 0)
		c.Numbers["availability_with"] = with.achieved
		c.Message = fmt.Sprintf("%s: could be used (%s), but does not raise the availability above %s", name, percent(s.p), percent(picked.achieved))
	}
	return c
}

func described(s scored, v Verdict) Candidate {
	p := s.p
	return Candidate{
		Cluster: s.cluster.Name, Verdict: v, Stage: StageSelect,
		Availability: &p, Assumed: s.assumed,
		Numbers: map[string]float64{"availability": p}, Findings: s.findings,
	}
}

func warnings(spec Spec, mode Mode, picked selection) []Warning {
	out := []Warning{}
	n := len(picked.chosen)
	if mode == Explicit && n%2 == 0 {
		out = append(out, Warning{StageSelect, CodeEvenCount, fmt.Sprintf(
			"%d environments are no better than %d: %d have to be up, so dropping any one loses nothing",
			n, n-1, availability.Majority(n))})
	}
	if spec.Strong && n < StrongMinimum {
		out = append(out, Warning{StageSelect, CodeStrongUnderReplicated, fmt.Sprintf(
			"strong consistency wants at least %d environments to survive the loss of one, there %s %d",
			StrongMinimum, isAre(n), n)})
	}
	if picked.model.tree != nil && n > 1 {
		shares := availability.DefaultShares()
		out = append(out, Warning{StageSelect, CodeDomainsAssumed, fmt.Sprintf(
			"nobody has measured how often environments fail together: %s of the outages of a zone and %s of those of a region are assumed to be common",
			percent(shares.Zone), percent(shares.Region))})
	}
	if picked.unproven {
		out = append(out, Warning{StageSelect, CodeSearchEnded, "the search for a better set was given up"})
	}
	if picked.met {
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

func unreachable(target float64, mode Mode, picked selection) string {
	got, want, n := percent(picked.achieved), percent(target), len(picked.chosen)
	switch {
	case mode == Explicit:
		return fmt.Sprintf("the named environments achieve %s of %s", got, want)
	case picked.limited:
		return fmt.Sprintf("the %d best environments achieve %s of %s, and no more are permitted", n, got, want)
	default:
		return fmt.Sprintf("no odd number of the %d usable environments achieves more than %s of %s", n+len(picked.left), got, want)
	}
}

// relaxations finds single changes that would meet the target.
func relaxations(spec Spec, mode Mode, picked selection) []Relaxation {
	out := []Relaxation{}
	if picked.met {
		return out
	}
	target, _ := spec.target()
	if mode == Automatic {
		if extra, p, ok := clustersToAdd(spec, picked, permittedLoss(target)); ok {
			out = append(out, Relaxation{CodeAddClusters, float64(extra), fmt.Sprintf(
				"add %d more with an availability of %s", extra, percent(p))})
		}
	}
	// Rounded down, so that asking for it succeeds.
	possible := math.Floor(picked.achieved*1e12) / 1e12
	return append(out, Relaxation{CodeLowerTarget, possible, fmt.Sprintf("ask for at most %s", percent(possible))})
}

// clustersToAdd is the smallest number of further clusters, each as good as the
// best one there is, with which the target could be met.
func clustersToAdd(spec Spec, picked selection, permitted float64) (extra int, p float64, ok bool) {
	have := slices.Concat(picked.chosen, picked.left)
	for i := range have {
		p = max(p, have[i].p)
	}
	if picked.model.tree != nil {
		return regionsToAdd(spec, picked, permitted, p)
	}
	limit := spec.limit()
	for extra = 1; extra <= limit; extra++ {
		b := sizes(extra+len(have), spec)
		d := availability.NewDistribution(b.high)
		// The new ones are among the best, so they come first.
		for n := 1; n <= b.high; n++ {
			if n <= extra {
				d.Add(p)
			} else {
				d.Add(have[n-extra-1].p)
			}
			if n%2 == 1 && n >= b.low && d.Loss(availability.Majority(n)) <= permitted {
				return extra, p, true
			}
		}
	}
	return 0, p, false
}

// regionsToAdd is clustersToAdd where clusters share domains: each of the new ones
// is in a region of its own. They come to the chosen ones in pairs, as an even number
// is no better.
func regionsToAdd(spec Spec, picked selection, permitted, p float64) (int, float64, bool) {
	votes := votesOf(picked.chosen)
	var more []float64
	for len(votes)+len(more)+2 <= spec.limit() {
		more = append(more, p, p)
		if picked.model.e.LossWith(votes, more, availability.Majority(len(votes)+len(more))) <= permitted {
			return len(more), p, true
		}
	}
	return 0, 0, false
}

func halfUp(picked selection) bool {
	return slices.ContainsFunc(slices.Concat(picked.chosen, picked.left), func(s scored) bool { return s.p > 0.5 })
}

func summarize(p *Plan) string {
	var b strings.Builder
	n := len(p.Clusters)
	if n == 1 {
		fmt.Fprintf(&b, "%s: available %s of the time", p.Clusters[0], percent(p.Achieved))
	} else {
		fmt.Fprintf(&b, "%d environments (%s), %d of which have to be up: available %s of the time", n, list(p.Clusters), p.Quorum, percent(p.Achieved))
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

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
