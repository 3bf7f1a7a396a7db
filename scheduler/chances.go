package scheduler

// Loss is the probability that a deployment of that kind is not available while it has so
// many members and only those of up can be up: a member whose cluster is not known, or that
// is not named, is down. It is 1 when too few are named.
func (f *Fleet) Loss(kind Kind, up []string, members int) float64 {
	var known []int
	for _, name := range up {
		if i, ok := f.byName[name]; ok {
			known = append(known, i)
		}
	}
	s := f.scratch.Get().(*scratch)
	defer f.scratch.Put(s)
	loss, _ := s.chances(known, kind.rule().Need(members))
	return loss
}
