// Package selector answers whether a cluster is one that a user means.
//
// # Expressions
//
// [Compile] makes a [Program] of an expression in CEL, the Common Expression Language,
// over one variable:
//
//	cluster.region == "eu" && cluster.labels["tier"] in ["gold", "silver"]
//	"knative" in cluster.capabilities && cluster.free_memory >= 8.0 * 1024.0 * 1024.0 * 1024.0
//
// The fields are name, region, zone, provider (string), labels (map of strings),
// capabilities (list of strings), cost, availability, free_cpu, free_memory (double) and
// node_count (int). What is misspelt, or not of the type bool, is refused when it is
// compiled. What only some clusters have, such as a label, is an error when it is
// evaluated for one that does not: has(cluster.labels.tier) or "tier" in cluster.labels
// asks for it.
//
// # Labels
//
// [ParseLabels] reads label selectors as Kubernetes writes them in text:
// "a=b,c!=d,e in (x,y),!f".
//
// # Invariants
//
//   - Nothing that a user writes makes the process panic, or keep it busy: the text is
//     at most [MaxLength] bytes, and the evaluation ends at [MaxCost].
//   - The result is a function of the expression and the cluster. Expressions that go
//     over labels see them in the order of their keys, where the language leaves the
//     order open.
//   - Programs and label selectors are immutable and safe for concurrent use.
package selector
