package template

import (
	"oaas.io/control-plane/crm/api/v1alpha1"
)

const (
	// ServicePort is the port on which every rendered Service listens.
	ServicePort = 80
	// ODGMContainerPort is the HTTP and gRPC port of the object store's container.
	ODGMContainerPort = 8080
	// ZenohPort is the default port of a Zenoh peer or router.
	ZenohPort = 17447
	// DefaultFunctionPort is the container port when the spec names none.
	DefaultFunctionPort = 80
)

// Endpoint is where a function will be reachable.
type Endpoint struct {
	// Index of the function in spec.functions.
	Index int
	// FunctionKey is the key, or the service name when the key is blank.
	FunctionKey string
	// WASM reports that the function runs inside the object store.
	WASM bool
	// Workload is the name of the function's Deployment; that of the object
	// store for a WASM function.
	Workload string
	// Service is the name of the function's Service; that of the object store
	// for a WASM function.
	Service string
	// Port on which the Service listens.
	Port int32
	// URL is absolute: http:// with the cluster-local name, or wasm://<key>.
	URL string
}

// Endpoints returns the endpoints of all functions in their order. They can be
// told before anything is rendered or applied.
func Endpoints(object, namespace string, functions []v1alpha1.FunctionSpec) []Endpoint {
	out := make([]Endpoint, len(functions))
	for i := range functions {
		out[i] = endpoint(object, namespace, functions, i)
	}
	return out
}

func endpoint(object, namespace string, functions []v1alpha1.FunctionSpec, i int) Endpoint {
	fn := &functions[i]
	name := FunctionName(object, i, len(functions))
	e := Endpoint{
		Index: i, FunctionKey: fn.FunctionKey, WASM: fn.IsWASM(),
		Workload: name, Service: name, Port: ServicePort,
	}
	if e.FunctionKey == "" {
		e.FunctionKey = name
	}
	if e.WASM {
		e.Workload, e.Service = ODGMName(object), ODGMServiceName(object)
		e.URL = WASMURL(e.FunctionKey)
		return e
	}
	e.URL = ServiceURL(name, namespace)
	return e
}

// ServiceURL is the cluster-local URL of a Service that listens on port 80.
func ServiceURL(service, namespace string) string {
	return "http://" + serviceHost(service, namespace) + "/"
}

// WASMURL is the URL by which the object store knows a WASM function.
func WASMURL(functionKey string) string {
	return "wasm://" + functionKey
}

func serviceHost(service, namespace string) string {
	return service + "." + namespace + ".svc.cluster.local"
}
