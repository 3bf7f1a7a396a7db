package local

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// knativeFolder is the nested module of Knative's reconcilers, relative to this package.
const knativeFolder = "knative"

// The files beside the program in the folder of a build of Knative.
const (
	knativeDefinitions   = "crds.yaml"
	knativeConfiguration = "config.yaml"
)

// KnativeBinaries are Knative Serving of one version.
type KnativeBinaries struct {
	// Program runs the reconcilers.
	Program string
	// Definitions is a file with the CustomResourceDefinitions, Configuration one with
	// Knative's namespace and settings.
	Definitions, Configuration string
	// Version is that of Knative Serving, for example v0.50.0.
	Version string
}

// BuildKnative is Build for Knative Serving. It takes about two minutes when Kubernetes was never built here either.
func BuildKnative(ctx context.Context, options BuildOptions) (*KnativeBinaries, error) {
	module, err := moduleDir(options.ModuleDir, knativeFolder)
	if err != nil {
		return nil, err
	}
	version, err := requiredVersion(module, "knative.dev/serving")
	if err != nil {
		return nil, err
	}
	dir, err := nested{
		folder: knativeFolder, dir: module, version: version, flags: []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w"}, target: ".",
		title: "Knative Serving " + version, takes: "about two minutes",
		finish: func(ctx context.Context, partial string) error { return collectKnative(ctx, module, partial) },
	}.build(ctx, options)
	if err != nil {
		return nil, err
	}
	return &KnativeBinaries{
		Program: filepath.Join(dir, knativeFolder), Version: version,
		Definitions: filepath.Join(dir, knativeDefinitions), Configuration: filepath.Join(dir, knativeConfiguration),
	}, nil
}

// collectKnative takes the manifests out of the modules. In Knative Serving's repository some of them are symbolic links into
// other modules, which the archive of a module leaves out, so those come from where they belong.
func collectKnative(ctx context.Context, module, into string) error {
	manifests := []struct{ file, module, pattern string }{
		{knativeDefinitions, "knative.dev/serving", "config/core/300-resources/*.yaml"},
		{knativeDefinitions, "knative.dev/networking", "config/ingress.yaml"},
		{knativeDefinitions, "knative.dev/networking", "config/certificate.yaml"},
		{knativeDefinitions, "knative.dev/networking", "config/serverlessservice.yaml"},
		{knativeDefinitions, "knative.dev/networking", "config/domain-claim.yaml"},
		{knativeDefinitions, "knative.dev/caching", "config/image.yaml"},
		{knativeConfiguration, "knative.dev/serving", "config/core/100-namespace.yaml"},
		{knativeConfiguration, "knative.dev/serving", "config/core/configmaps/*.yaml"},
		{knativeConfiguration, "knative.dev/networking", "config/config-network.yaml"},
	}
	texts := map[string]*bytes.Buffer{knativeDefinitions: {}, knativeConfiguration: {}}
	for _, m := range manifests {
		dir, err := output(goCommand(ctx, module, "list", "-m", "-f", "{{.Dir}}", m.module))
		if err != nil {
			return fmt.Errorf("find %s: %w", m.module, err)
		}
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(dir), filepath.FromSlash(m.pattern)))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("%s has no %s: %w", m.module, m.pattern, os.ErrNotExist)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			fmt.Fprintf(texts[m.file], "---\n%s\n", text)
		}
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(into, name), text.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}
