package version

// Version is set by the linker when a release is built.
var Version = "dev"
