package template

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

const (
	odgmImageDev = "ghcr.io/pawissanutt/oaas-rs/odgm:dev-alpha"
	odgmImage    = "ghcr.io/pawissanutt/oaas-rs/odgm:latest"
)

// renderODGM adds the object store's Service and Deployment to out, and the policy of
// who may call it if there is to be one.
//
// The one pod has a node id that it keeps, by which the object stores of all clusters
// know each other. Two pods with one id would both answer for the same shards, so a
// rollout waits until the old pod is gone (Recreate) before it starts the new one, and the
// class can do without its object store for that moment. It stays a Deployment and does not
// become a StatefulSet, because that is what oaas-rs made and what is taken over from it.
func renderODGM(in Input, defaultImage string, out *Rendered) error {
	env, warnings, err := odgmEnv(in)
	if err != nil {
		return err
	}
	c := newChild(in, ODGMName(in.Name), ComponentODGM, -1)
	options := in.Environment.ODGM
	image := defaultImage
	if options.Image != "" {
		image = options.Image
	}
	container := corev1ac.Container().
		WithName("odgm").
		WithImage(image).
		WithPorts(containerPort(portNameHTTP, ODGMContainerPort), containerPort(portNameZenoh, ZenohPort)).
		WithReadinessProbe(odgmReady(options)).
		WithEnv(envConfigurations(env)...)
	if options.PullPolicy != "" && (in.Spec.Pods == nil || in.Spec.Pods.ImagePullPolicy == "") {
		container.WithImagePullPolicy(corev1.PullPolicy(options.PullPolicy))
	}
	out.ODGM = c.name
	out.Warnings = append(out.Warnings, warnings...)
	out.Objects = append(out.Objects,
		serviceObject(in, c, ODGMServiceName(in.Name),
			servicePort(portNameHTTP, ServicePort, ODGMContainerPort),
			servicePort(portNameZenoh, ZenohPort, ZenohPort)))
	out.Objects = append(out.Objects, networkObjects(in, c, ODGMContainerPort, ZenohPort)...)
	out.Objects = append(out.Objects, deploymentObject(in, c, deploymentSpec(c, container).
		WithStrategy(appsv1ac.DeploymentStrategy().WithType(appsv1.RecreateDeploymentStrategyType)).
		WithReplicas(1)))
	return nil
}

// odgmReady takes the object store for ready when its port is open, or when a path of it
// answers, for images that have one.
func odgmReady(options ODGMOptions) *corev1ac.ProbeApplyConfiguration {
	if options.HealthPath == "" {
		return listening(portNameHTTP)
	}
	return corev1ac.Probe().
		WithHTTPGet(corev1ac.HTTPGetAction().
			WithPath(options.HealthPath).
			WithPort(intstr.FromString(portNameHTTP)).
			WithScheme(corev1.URISchemeHTTP)).
		WithPeriodSeconds(probePeriod)
}

// odgmEnv returns the variables of the object store in the order in which its
// documentation lists them. Names that already occurred are left out.
func odgmEnv(in Input) ([]envVar, []string, error) {
	env := []envVar{{"ODGM_CLUSTER_ID", in.Name}}
	var warnings []string
	if o := in.Spec.OdgmConfig; o != nil {
		if o.NodeID != nil {
			env = append(env, envVar{"ODGM_NODE_ID", strconv.FormatUint(uint64(*o.NodeID), 10)})
		}
		if members := odgmMembers(in); members != "" {
			env = append(env, envVar{"ODGM_MEMBERS", members})
		}
		if len(o.Collections) > 0 {
			text, more, err := collectionsJSON(in)
			if err != nil {
				return nil, nil, fmt.Errorf("encode ODGM_COLLECTION: %w", err)
			}
			warnings = more
			env = append(env, envVar{"ODGM_COLLECTION", text})
			if o.Log != "" {
				env = append(env, envVar{"ODGM_LOG", o.Log})
			}
			if peers, ok := zenohPeers(in.Environment.Router); ok {
				env = append(env,
					envVar{"OPRC_ZENOH_MODE", "peer"},
					envVar{"OPRC_ZENOH_PORT", strconv.Itoa(ZenohPort)},
					envVar{"OPRC_ZENOH_PEERS", peers})
			}
		}
	}
	env = append(env, telemetryEnv(in, in.Name+odgmSuffix)...)
	if in.Spec.PackageClassKey != "" {
		env = append(env, envVar{"OPRC_CLS_ID", in.Spec.PackageClassKey})
	}
	return append(env, envVar{"OPRC_DEPLOYMENT_ID", in.Name}), warnings, nil
}

// odgmMembers joins the sorted ids of all object stores of the deployment.
func odgmMembers(in Input) string {
	ids := map[uint64]struct{}{}
	for _, list := range in.Spec.OdgmConfig.EnvNodeIDs {
		for _, id := range list {
			ids[uint64(id)] = struct{}{}
		}
	}
	texts := make([]string, 0, len(ids))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		texts = append(texts, strconv.FormatUint(id, 10))
	}
	return strings.Join(texts, ",")
}

func servicePort(name string, port, target int32) *corev1ac.ServicePortApplyConfiguration {
	return corev1ac.ServicePort().
		WithName(name).
		WithProtocol(corev1.ProtocolTCP).
		WithPort(port).
		WithTargetPort(intstr.FromInt32(target))
}
