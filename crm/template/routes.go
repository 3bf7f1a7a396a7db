package template

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// finalInvocations returns the routes that the object store gets. Without
// routes in the spec every function is routed under the last part of its key.
// With routes in the spec exactly those are used: a method that was not bound
// must not become callable because a function of that name exists. The result
// is nil when there is nothing to say.
func finalInvocations(in Input) (*invocations, []string) {
	given := in.Spec.OdgmConfig.Invocations
	if given == nil && len(in.Spec.Functions) == 0 {
		return nil, nil
	}
	out := &invocations{FnRoutes: map[string]route{}, DisabledFn: []string{}}
	if given != nil && len(given.DisabledFn) > 0 {
		out.DisabledFn = given.DisabledFn
	}
	if given == nil || len(given.FnRoutes) == 0 {
		for name, r := range predictedRoutes(in) {
			out.FnRoutes[name] = r
		}
		return out, nil
	}
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(given.FnRoutes)) {
		r, ok := finalRoute(in, given.FnRoutes[name])
		if !ok {
			warnings = append(warnings, fmt.Sprintf(
				"spec.odgm_config.invocations.fn_routes[%s] was left out: it has no url and function_key %q is no function of this class",
				name, given.FnRoutes[name].FunctionKey))
			continue
		}
		out.FnRoutes[name] = r
	}
	return out, warnings
}

// predictedRoutes routes every function under the part of its key after the
// last dot. Of two functions with the same part the first one wins.
func predictedRoutes(in Input) map[string]route {
	out := map[string]route{}
	for i := range in.Spec.Functions {
		key := in.Spec.Functions[i].FunctionKey
		name := key[strings.LastIndexByte(key, '.')+1:]
		if _, taken := out[name]; name == "" || taken {
			continue
		}
		out[name] = functionRoute(in, i)
	}
	return out
}

// functionRoute is the route to function i.
func functionRoute(in Input, i int) route {
	e := endpoint(in.Name, in.Namespace, in.Spec.Functions, i)
	r := route{URL: e.URL, Stateless: true, ActiveGroup: []v1alpha1.NodeID{}}
	if e.WASM {
		r.WasmModuleURL = &in.Spec.Functions[i].ProvisionConfig.WasmModuleURL
	}
	return r
}

// finalRoute completes one route of the spec. ok is false when there is no
// telling where it leads.
func finalRoute(in Input, given v1alpha1.FunctionRoute) (r route, ok bool) {
	r = route{
		URL:         given.URL,
		Stateless:   valueOr(given.Stateless, true),
		Standby:     valueOr(given.Standby, false),
		ActiveGroup: given.ActiveGroup,
	}
	if r.ActiveGroup == nil {
		r.ActiveGroup = []v1alpha1.NodeID{}
	}
	if given.WasmModuleURL != "" {
		r.WasmModuleURL = &given.WasmModuleURL
	}
	target := slices.IndexFunc(in.Spec.Functions, func(f v1alpha1.FunctionSpec) bool {
		return given.FunctionKey != "" && f.FunctionKey == given.FunctionKey
	})
	if target >= 0 {
		predicted := functionRoute(in, target)
		if r.URL == "" {
			r.URL = predicted.URL
		}
		if r.WasmModuleURL == nil && strings.HasPrefix(r.URL, "wasm://") {
			r.WasmModuleURL = predicted.WasmModuleURL
		}
	}
	r.URL = normaliseURL(r.URL, in.Namespace)
	return r, r.URL != ""
}

// normaliseURL makes the host of an http URL absolute when it is the bare name
// of a Service, because the object store may run in another namespace. Port 80
// is dropped, every other port stays behind the host. Everything else comes
// back as it is.
func normaliseURL(text, namespace string) string {
	if !strings.HasPrefix(text, "http://") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	host, port := u.Hostname(), u.Port()
	if host == "" || host == "localhost" || strings.ContainsAny(host, ".:") {
		return text
	}
	u.Host = serviceHost(host, namespace)
	if port != "" && port != "80" {
		u.Host += ":" + port
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}
