package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/shard"
)

const (
	// unitPrefixMax keeps "<unit id>-odgm-svc", the longest name that is derived
	// from a unit id, within the 63 characters of a Kubernetes Service name.
	unitPrefixMax = 45
	unitSuffixLen = 8
	suffixDigits  = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// UnitID names the share of a deployment that one environment has. It is a
// DNS-1035 label of at most 54 characters: the class key for people, and a
// suffix that is a pure function of (deployment uid, environment), so that
// every attempt to deliver the unit, by any leader, names the same runtime.
func UnitID(uid, env, classKey string) string { return dnsLabel(classKey) + "-" + unitSuffix(uid, env) }

// IsUnitID reports whether an id is that of a share of the deployment with that uid that the
// environment has, whatever its class.
func IsUnitID(id, uid, env string) bool {
	label, ours := strings.CutSuffix(id, "-"+unitSuffix(uid, env))
	return ours && label == dnsLabel(label)
}

func unitSuffix(uid, env string) string {
	sum := sha256.Sum256([]byte(uid + "\x00" + env))
	suffix := make([]byte, unitSuffixLen)
	for i := range suffix {
		// 36 does not divide 65536: the bias of 0.05 % does not matter for a name.
		suffix[i] = suffixDigits[(int(sum[2*i])<<8|int(sum[2*i+1]))%len(suffixDigits)]
	}
	return string(suffix)
}

// dnsLabel turns any text into the start of a DNS-1035 label: lower case, every
// character outside a-z 0-9 a dash, no dash at the ends, a letter first.
func dnsLabel(s string) string {
	mapped := strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c + ('a' - 'A')
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		default:
			return '-'
		}
	}, s)
	label := strings.Trim(mapped, "-")
	if label == "" {
		label = "x"
	}
	if label[0] < 'a' || label[0] > 'z' {
		label = "a" + label
	}
	if len(label) > unitPrefixMax {
		label = strings.TrimRight(label[:unitPrefixMax], "-")
	}
	return label
}

// ContentHash identifies the content of a unit: lower-case hex SHA-256 over its
// deterministic encoding without delivery and created_at, which change without
// the content changing.
func ContentHash(unit *oaaspb.DeploymentUnit) (string, error) {
	content := proto.CloneOf(unit)
	content.Delivery, content.CreatedAt = nil, nil
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("encode unit %s: %w", unit.GetId(), err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// buildUnit makes the content that a cluster is to run for the effective deployment dep
// of class cls.
func buildUnit(uid string, share *scheduler.Assignment, dep *model.OClassDeployment, cls *model.OClass) *oaaspb.DeploymentUnit {
	env := share.Cluster
	unit := &oaaspb.DeploymentUnit{
		Id:          UnitID(uid, env, dep.ClassKey),
		PackageName: dep.PackageName,
		ClassKey:    dep.ClassKey,
		TargetEnv:   env,
		Telemetry:   telemetrySpec(dep.Telemetry),
		Pods:        podSettings(dep.Pods),
	}
	for i := range dep.Functions {
		if runnable(&dep.Functions[i]) {
			unit.Functions = append(unit.Functions, functionSpec(&dep.Functions[i], share.Pods[dep.Functions[i].FunctionKey], dep.NFRRequirements))
		}
	}
	for i := range cls.FunctionBindings {
		unit.FunctionBindings = append(unit.FunctionBindings, functionBinding(&cls.FunctionBindings[i]))
	}
	if dep.ODGM != nil {
		unit.OdgmConfig = odgmConfig(env, dep, cls)
	}
	if name, ok := dep.EnvTemplates[env]; ok && name != "" {
		unit.SelectedTemplate = &name
	}
	return unit
}

// runnable reports that a cluster has something to run for a function. Built-in,
// macro and logical functions need not have.
func runnable(f *model.FunctionDeploymentSpec) bool {
	return f.ProvisionConfig != nil && (!blank(f.ProvisionConfig.ContainerImage) || !blank(f.ProvisionConfig.WasmModuleURL))
}

func functionSpec(f *model.FunctionDeploymentSpec, pods int, nfr model.NFRRequirements) *oaaspb.FunctionDeploymentSpec {
	return &oaaspb.FunctionDeploymentSpec{
		FunctionKey:       f.FunctionKey,
		Description:       f.Description,
		AvailableLocation: f.AvailableLocation,
		NfrRequirements: &oaaspb.NfrRequirements{
			MinThroughputRps:     nfr.MinThroughputRPS,
			Availability:         nfr.Availability,
			CpuUtilizationTarget: nfr.CPUUtilizationTarget,
		},
		ProvisionConfig: provisionConfig(f.ProvisionConfig, pods),
		Config:          f.Config,
	}
}

// provisionConfig copies the user's wish. The number of pods is the user's as well, by
// cluster or divided over all of them: how many clusters the planner chose says nothing
// about pods per cluster.
func provisionConfig(p *model.ProvisionConfig, pods int) *oaaspb.ProvisionConfig {
	if p == nil {
		return &oaaspb.ProvisionConfig{}
	}
	out := &oaaspb.ProvisionConfig{
		ContainerImage: p.ContainerImage,
		WasmModuleUrl:  p.WasmModuleURL,
		MaxConcurrency: p.MaxConcurrency,
		NeedHttp2:      p.NeedHTTP2,
		CpuRequest:     p.CPURequest,
		MemoryRequest:  p.MemoryRequest,
		CpuLimit:       p.CPULimit,
		MemoryLimit:    p.MemoryLimit,
		MinScale:       p.MinScale,
		MaxScale:       p.MaxScale,
	}
	if pods > 0 {
		least := uint32(pods)
		out.MinScale = &least
	}
	if p.Port != nil {
		port := uint32(*p.Port)
		out.Port = &port
	}
	return out
}

// accessNames are the access modifiers as the gRPC contract spells them.
var accessNames = map[model.AccessModifier]string{
	model.AccessPublic:   "Public",
	model.AccessInternal: "Internal",
	model.AccessPrivate:  "Private",
}

func functionBinding(b *model.FunctionBinding) *oaaspb.ClassFunctionBinding {
	access := accessNames[b.AccessModifier]
	stateless := b.Stateless
	return &oaaspb.ClassFunctionBinding{
		Name:           b.Name,
		FunctionKey:    b.FunctionKey,
		AccessModifier: &access,
		Stateless:      &stateless,
		Parameters:     b.Parameters,
	}
}

func odgmConfig(env string, dep *model.OClassDeployment, cls *model.OClass) *oaaspb.OdgmConfig {
	spec := dep.ODGM
	out := &oaaspb.OdgmConfig{
		Collections:    spec.Collections,
		PartitionCount: spec.PartitionCount,
		ShardType:      spec.ShardType,
		Log:            spec.Log,
		Invocations:    invocations(dep, cls),
	}
	layGrid(out, env, spec, shardTable(spec))
	return out
}

// maxShards is how many shards a command could hold if each took two bytes only,
// the least that there is.
const maxShards = raftstore.MaxCommandSize / 2

// checkShards refuses shard tables that no command can hold before they are made:
// a short request can ask for gigabytes.
func checkShards(spec *model.ODGMDataSpec, envs int) error {
	partitions, replicas := shardCounts(spec)
	if n := uint64(partitions) * uint64(replicas) * uint64(len(spec.Collections)) * uint64(envs); n > maxShards {
		return errorf(TooLarge, "The deployment needs %d shards (%d partitions, %d replicas, %d collections, in each of %d environments), at most %d fit into one change: "+
			"lower odgm.partition_count or odgm.replica_count", n, partitions, replicas, len(spec.Collections), envs, maxShards)
	}
	return nil
}

func shardCounts(spec *model.ODGMDataSpec) (partitions, replicas uint32) {
	partitions, replicas = 1, 1
	if spec.PartitionCount != nil {
		partitions = max(*spec.PartitionCount, 1)
	}
	if spec.ReplicaCount != nil {
		replicas = max(*spec.ReplicaCount, 1)
	}
	return partitions, replicas
}

// shardTable is the first one of a deployment, and the same for each of its collections.
func shardTable(spec *model.ODGMDataSpec) []*oaaspb.ShardAssignmentSpec {
	partitions, replicas := shardCounts(spec)
	return tableSpec(shard.Assign(int(partitions), int(replicas), membersOf(spec, nil)))
}

// invocations has a route per binding whose function runs in the clusters.
// The cluster fills in the URLs.
func invocations(dep *model.OClassDeployment, cls *model.OClass) *oaaspb.InvocationRoutes {
	if len(cls.FunctionBindings) == 0 {
		return nil
	}
	present := map[string]bool{}
	for i := range dep.Functions {
		present[dep.Functions[i].FunctionKey] = runnable(&dep.Functions[i])
	}
	routes := map[string]*oaaspb.FunctionRoute{}
	for _, b := range cls.FunctionBindings {
		if !present[b.FunctionKey] {
			continue
		}
		stateless, standby, key := b.Stateless, false, b.FunctionKey
		routes[b.Name] = &oaaspb.FunctionRoute{Stateless: &stateless, Standby: &standby, FunctionKey: &key}
	}
	return &oaaspb.InvocationRoutes{FnRoutes: routes}
}

func telemetrySpec(t *model.TelemetryConfig) *oaaspb.TelemetrySpec {
	if t == nil {
		return nil
	}
	return &oaaspb.TelemetrySpec{
		Enabled:            t.Enabled == nil || *t.Enabled,
		Traces:             t.Traces,
		Metrics:            t.Metrics,
		Logs:               t.Logs,
		SamplingRate:       t.SamplingRate,
		ServiceName:        t.ServiceName,
		ResourceAttributes: t.ResourceAttributes,
	}
}

// uidIsFree reports that none of the ids that uid makes belongs to another
// deployment. The suffix has 41 bits, so this fails once in a lifetime, but then
// it would hand one deployment's runtime to another.
func uidIsFree(snap *fsm.Snapshot, uid, classKey string, envs []string) bool {
	for _, env := range envs {
		if u := snap.Unit(UnitID(uid, env, classKey)); u != nil && u.GetDeploymentUid() != uid {
			return false
		}
	}
	return true
}
