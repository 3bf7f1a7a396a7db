// Package oprcpb has the data plane's messages that the control plane writes,
// generated from proto/oprc. It writes them as JSON text whose order of members is
// fixed (package crm/template); its tests hold that text against these messages.
package oprcpb
