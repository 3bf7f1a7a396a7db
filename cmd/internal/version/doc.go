// Package version holds the version that the programs report.
package version
