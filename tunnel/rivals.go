package tunnel

// rival is one of several agents under one name.
type rival struct {
	Cluster
	instance string
}

// rivals remembers which of them are known to be several.
type rivals map[rival]route

// noteRivals counts and tells when further agents of one name are connected, at
// whatever node. One goroutine calls it.
func (h *Hub) noteRivals() {
	routes, _ := h.table.routes(Cluster{})
	named := map[string]rivals{}
	for _, r := range routes {
		if named[r.GetCluster()] == nil {
			named[r.GetCluster()] = rivals{}
		}
		who := rival{Cluster{r.GetCluster(), r.GetClusterUid()}, r.GetInstance()}
		if _, known := named[r.GetCluster()][who]; !known {
			named[r.GetCluster()][who] = r
		}
	}
	several := rivals{}
	for _, all := range named {
		if len(all) < 2 {
			continue
		}
		for who, r := range all {
			several[who] = r
			if _, told := h.several[who]; !told {
				h.tellRival(r, all)
			}
		}
	}
	h.several = several
}

// tellRival tells of one that is not alone, and counts it unless it was there first.
func (h *Hub) tellRival(r route, all rivals) {
	kind, first := "instance", true
	for who, other := range all {
		if who.UID != r.GetClusterUid() {
			kind = "identity"
		}
		first = first && !other.heard.Before(r.heard)
	}
	if first {
		return
	}
	h.metrics.conflicts.WithLabelValues(kind).Inc()
	log := h.log.With("cluster", r.GetCluster(), "uid", r.GetClusterUid(), "instance", r.GetInstance(), "remote", r.GetRemoteAddress(), "node", h.nodeOf(r))
	if kind == "identity" {
		log.Warn("a further cluster claims the name; the one that is registered stays")
		return
	}
	log.Info("a further agent of the cluster is connected; the newest is used")
}
