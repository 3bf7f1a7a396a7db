// Package crd holds the custom resource definition that the Class Runtime
// Manager needs, for installers. The YAML is generated from the types in
// crm/api/v1alpha1 and is never edited by hand.
package crd
