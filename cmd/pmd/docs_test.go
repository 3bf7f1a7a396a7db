package main

import (
	"maps"
	"slices"
	"testing"

	"github.com/spf13/pflag"

	"oaas.io/control-plane/cmd/internal/config"
	"oaas.io/control-plane/cmd/internal/config/configtest"
)

func TestDocumentationIsComplete(t *testing.T) {
	section := configtest.Section(t, "../../docs/configuration.md", "pmd")
	var o options
	fs := pflag.NewFlagSet("pmd", pflag.ContinueOnError)
	config.AddFileFlag(fs)
	o.bind(fs)
	configtest.Flags(t, section, "PMD", fs)
	configtest.Variables(t, section, slices.Concat(slices.Collect(maps.Values(legacy))...))
	configtest.Variables(t, section, slices.Collect(maps.Keys(ineffective)))
}

func TestDocumentedExamplesAreAccepted(t *testing.T) {
	section := configtest.Section(t, "../../docs/configuration.md", "pmd")
	for _, file := range configtest.Examples(t, section) {
		if _, err := parse([]string{"--config=" + file}, nil); err != nil {
			t.Error(err)
		}
	}
}
