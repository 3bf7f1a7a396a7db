package move

// AtOnce reports that all that leaves may be withdrawn together, because nothing has to take
// its place: all that stays is available, and enough. Without anything that stays it is not,
// nor where votes would go with what holds them: those that stay need not know all that the
// majority knew, and cannot ask any more.
func AtOnce(s State) bool {
	var all, stay, serve []string
	for _, m := range s.Members {
		if m.Serves {
			serve = append(serve, m.Name)
		}
		if all = append(all, m.Name); m.Leaving {
			if s.Voting && m.Voter {
				return false
			}
			continue
		}
		if !m.Available {
			return false
		}
		stay = append(stay, m.Name)
	}
	return len(stay) > 0 && s.Loss(stay, len(stay)) <= max(s.Permitted, s.Loss(serve, len(all)))*(1+rounding)
}
