package local

import (
	"context"

	"oaas.io/control-plane/deploy/local/nested"
)

// The files of a build of Knative.
const (
	knativeProgram     = "knative"
	knativeDefinitions = "crds"
)

// knativeModule has the program that runs Knative's reconcilers. In the repository of Knative Serving some definitions are
// symbolic links into other modules. The archive of a module has no links, so those files come from where they belong.
var knativeModule = nested.Module{
	Folder:   "knative",
	Title:    "Knative Serving",
	Patience: "about five minutes on two cores",
	Release:  "knative.dev/serving",
	Packages: ".",
	Programs: 1,
	Copies: []nested.Copy{
		{Module: "knative.dev/serving", Pattern: "config/core/300-resources/*.yaml", Into: knativeDefinitions},
		{Module: "knative.dev/networking", Pattern: "config/certificate.yaml", Into: knativeDefinitions},
		{Module: "knative.dev/networking", Pattern: "config/domain-claim.yaml", Into: knativeDefinitions},
		{Module: "knative.dev/networking", Pattern: "config/ingress.yaml", Into: knativeDefinitions},
		{Module: "knative.dev/networking", Pattern: "config/serverlessservice.yaml", Into: knativeDefinitions},
		{Module: "knative.dev/caching", Pattern: "config/image.yaml", Into: knativeDefinitions},
	},
}

// KnativeBinaries are Knative Serving of one version.
type KnativeBinaries struct {
	// Program runs the reconcilers.
	Program string
	// Definitions is a folder of CustomResourceDefinitions.
	Definitions string
	// Version is that of Knative Serving, for example v0.50.0.
	Version string
}

// BuildKnative is Build for Knative Serving, which package serving installs on a cluster.
func BuildKnative(ctx context.Context, options BuildOptions) (*KnativeBinaries, error) {
	built, err := knativeModule.Build(ctx, options)
	if err != nil {
		return nil, err
	}
	return &KnativeBinaries{
		Program: built.File(knativeProgram), Definitions: built.File(knativeDefinitions), Version: built.Version,
	}, nil
}
