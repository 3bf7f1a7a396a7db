package crd

import (
	_ "embed"
)

// YAML is the CustomResourceDefinition classruntimes.oaas.io as one YAML
// document. It is meant for server-side apply.
//
//go:embed oaas.io_classruntimes.yaml
var YAML []byte
