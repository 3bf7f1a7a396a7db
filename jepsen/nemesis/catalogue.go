package nemesis

import "slices"

// All is the catalogue.
func All() []Nemesis {
	return slices.Concat(processes(), links(), disks(), times(), memberships(), elections(), upgrades(), snapshots(), managers())
}

// Missing is a nemesis that cannot be done here.
type Missing struct {
	Name   string
	Reason string
}

// Split parts the nemeses that can be done to a target from those that cannot, with the reasons.
func Split(t *Target, of []Nemesis) (can []Nemesis, cannot []Missing) {
	for _, n := range of {
		if err := n.Available(t); err != nil {
			cannot = append(cannot, Missing{Name: n.Name(), Reason: err.Error()})
		} else {
			can = append(can, n)
		}
	}
	return can, cannot
}
