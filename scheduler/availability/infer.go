package availability

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Place is a cluster as its labels tell of it.
type Place struct {
	Name string
	// Up is the probability that it is up, whatever the reason when it is not.
	Up float64
	// Region and Zone are its labels; empty when they are not known. Zones belong to
	// their region: those of the same name elsewhere are others.
	Region, Zone string
}

// Shares are the parts of the outages of clusters that they have in common with the
// others of their zone and of their region, as long as nobody has measured it (the
// β-factor of common causes).
type Shares struct{ Zone, Region float64 }

// DefaultShares are assumptions, and are told as such.
func DefaultShares() Shares { return Shares{Zone: 0.1, Region: 0.02} }

// UnknownDomain is the name of the region, or of the zone within a region, of the
// clusters that do not say theirs. They count as together: to take them for
// independent would promise too much.
const UnknownDomain = "(unknown)"

// labels escapes what has a meaning in the name of a domain, so that no two domains
// have one name.
var labels = strings.NewReplacer("%", "%25", "/", "%2F", "(", "%28")

// RegionName and ZoneName are the names of the domains that Infer makes.
func RegionName(region string) string { return cmp.Or(labels.Replace(region), UnknownDomain) }

// ZoneName is that of a zone within its region.
func ZoneName(region, zone string) string {
	return RegionName(region) + "/" + cmp.Or(labels.Replace(zone), UnknownDomain)
}

// Infer describes the failure domains of clusters of which only labels and
// availabilities are known. The outages of a domain are the shared part of the mean
// outage of its clusters, and never more than the best of them can have had; what
// remains is each cluster's own, so that it is up as often as was said. known has the
// availabilities of domains, given that the one around them is up, that were measured
// or declared; they count instead, even if a cluster then is up less often than was
// said.
//
// The leaves have the order of the places. The result does not depend on that order
// otherwise. Errors are those of NewTree, and a *ModelError for a share beyond 0..1.
func Infer(places []Place, shares Shares, known map[string]float64) (*Tree, error) {
	if !Valid(shares.Zone) || !Valid(shares.Region) {
		return nil, &ModelError{Subject: "shares of common outages", Problem: notWithin(max(shares.Zone, shares.Region))}
	}
	for i := range places {
		if !Valid(places[i].Up) {
			return nil, &ModelError{Subject: "cluster " + places[i].Name, Problem: notWithin(places[i].Up)}
		}
	}
	regions, zones := map[string]*losses{}, map[string]*losses{}
	for i := range places {
		p := &places[i]
		lossesOf(regions, RegionName(p.Region)).add(1 - p.Up)
		lossesOf(zones, ZoneName(p.Region, p.Zone)).add(1 - p.Up)
	}
	var domains []Domain
	up := map[string]float64{}
	describe := func(name, parent string, assumed float64) {
		if measured, ok := known[name]; ok {
			assumed = measured
		}
		if _, there := up[name]; !there {
			up[name] = assumed
			domains = append(domains, Domain{Name: name, Parent: parent, Up: assumed})
		}
	}
	leaves := make([]Leaf, len(places))
	for i := range places {
		p := &places[i]
		region, zone := RegionName(p.Region), ZoneName(p.Region, p.Zone)
		r, z := regions[region], zones[zone]
		describe(region, "", 1-min(shares.Region*r.mean(), r.least()))
		describe(zone, region, 1-min(shares.Zone*z.mean(), own(z.least(), up[region])))
		leaves[i] = Leaf{Name: p.Name, Domain: zone, Up: 1 - own(1-p.Up, up[region]*up[zone])}
	}
	return NewTree(domains, leaves, nil)
}

// own is the loss that is left of one when the domains around, which are up with
// that probability, have had their part of it.
func own(loss, around float64) float64 {
	if around == 0 {
		return 0
	}
	// (loss - (1-around)) / around, which keeps the digits of small losses.
	return min(max((loss-(1-around))/around, 0), 1)
}

// losses are those of the clusters of a domain. They are summed in the order of their
// size, as the sum must not depend on the order in which the clusters came.
type losses struct {
	all    []float64
	sorted bool
}

func lossesOf(in map[string]*losses, name string) *losses {
	if in[name] == nil {
		in[name] = &losses{}
	}
	return in[name]
}

func (l *losses) add(loss float64) { l.all = append(l.all, loss) }

func (l *losses) sort() {
	if !l.sorted {
		slices.Sort(l.all)
		l.sorted = true
	}
}

func (l *losses) least() float64 {
	l.sort()
	return l.all[0]
}

func (l *losses) mean() float64 {
	l.sort()
	sum := 0.0
	for _, loss := range l.all {
		sum += loss
	}
	return math.Min(sum/float64(len(l.all)), 1)
}
