// Package template turns a ClassRuntime's spec into the Kubernetes objects
// that run it.
//
// # Flow
//
// A Registry holds the templates. Select picks one: by the name or alias that
// the spec asks for, else the one that rendered this spec before, else by the
// highest score in the Environment. Render
// validates the spec and returns a Rendered: server-side-apply
// configurations in a fixed order, the endpoints of the functions, and
// warnings. The controller applies the objects; this package does no I/O.
//
// # Adding a template
//
// A template is a type with the four methods of Template, and a fifth if it needs an
// API that a cluster may lack (Requiring). It goes into its own file here, as the one
// for Knative does, and into Builtin; or into its own package, and is handed to
// NewRegistry. All share the builders of this package (podsOf, functionEnv,
// renderODGM), so a rule about pods is written once.
//
// # What pods have
//
// PodOptions holds what the pods of a cluster have. podsOf makes of it what the pods of
// one class have: what the class says (spec.pods), else the cluster, else the template;
// a function's own resources come before all of them. It is done once at the start of a
// rendering; every pod then passes through PodOptions.apply. Beside its pods a
// workload may have a budget (disruption.go) and a policy of who calls it (network.go).
//
// # Invariants
//
//   - Rendering is a pure function: the same Input gives the same bytes. Every
//     list that comes from a map is sorted, because the text is part of a pod
//     template and a changed order would roll the pods.
//   - Every object name is a DNS-1035 label of at most 63 characters and every
//     label value is valid, whatever the class is called. A name that had to be
//     cut ends in a hash of the whole name, so that two long names stay apart.
//   - An object configuration is complete: it holds every field that this
//     manager owns. A field left out is given up.
//   - A class keeps the template that rendered its current spec, unless it asks for
//     another one: an API that comes or goes moves nothing by itself.
//   - Who decides the replicas of a Deployment is no part of its pods: an autoscaler
//     that comes or goes rolls nothing.
//   - Selector labels hold nothing that may change, because selectors cannot.
//   - Either everything renders or nothing does; the error names every wrong
//     field at once.
package template
