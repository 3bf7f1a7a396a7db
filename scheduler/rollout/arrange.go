package rollout

// Arrange gives every environment its wave. Those that were changed keep theirs, and so do
// those whose turn it is; wave is the one that has it. The others follow in the order in
// which they are given: the first wave is filled up with canaries as long as it has its
// turn, so that it is never over because there was nobody in it.
func Arrange(envs []Env, wave int, l Limits) {
	first := l.MaxUnavailable
	if l.Canary > 0 {
		first = l.Canary
	}
	members := 0
	var rest []*Env
	for i := range envs {
		e := &envs[i]
		switch {
		case e.Updated, e.Wave >= 0 && e.Wave <= wave:
			e.Wave = min(max(e.Wave, 0), wave)
			if e.Wave == 0 && !e.Unchanged {
				members++
			}
		default:
			rest = append(rest, e)
		}
	}
	if wave == 0 {
		for ; members < first && len(rest) > 0; members++ {
			rest[0].Wave = 0
			rest = rest[1:]
		}
	}
	for i, e := range rest {
		e.Wave = wave + 1 + i/max(l.MaxUnavailable, 1)
	}
}
