package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// shelf is the package that all deployments are of.
const (
	shelf      = "chaos"
	shelfClass = "Box"
)

const shelfDocument = `{"name":"chaos","classes":[{"key":"Box","function_bindings":[{"name":"get","function_key":"Box.get","access_modifier":"PUBLIC"}]}],
"functions":[{"key":"Box.get","function_type":"CUSTOM","provision_config":{"container_image":"registry.example.com/box:1","port":8080}}]}`

// stockShelf stores the package of the deployments. It tries until it is there or ctx ends.
func (e *Env) stockShelf(ctx context.Context, workload string) error {
	p := e.process(workload, -1)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		got := p.do(ctx, call{
			kind: history.Create, key: "package/" + shelf, method: http.MethodPost, path: "/api/v1/packages", body: []byte(shelfDocument),
			request: history.Request{Value: p.value()},
		})
		if got.outcome == history.OK || got.Code == history.RefusedExists {
			return nil
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("workload %s: package %s was not stored: %d %s", workload, shelf, got.Status, got.Code)
		}
	}
}

// The ways to ask for an object: packages and deployments alike.

func (p *process) readPackage(ctx context.Context, name string, want history.Request) result {
	return p.read(ctx, "/api/v1/packages/"+url.PathEscape(name), name, want, packageValue)
}

func (p *process) readDeployment(ctx context.Context, key string, want history.Request) result {
	return p.read(ctx, "/api/v1/deployments/"+url.PathEscape(key), key, want, deploymentValue)
}

func (p *process) read(ctx context.Context, path, key string, want history.Request, value func([]byte) (string, error)) result {
	q := url.Values{}
	switch want.Mode {
	case history.Stale:
		q.Set("consistency", "stale")
		if want.MaxStaleness > 0 {
			q.Set("max_staleness", want.MaxStaleness.String())
		}
	case history.AtIndex:
		q.Set("at_index", fmt.Sprint(want.AtIndex))
	}
	return p.do(ctx, call{kind: history.Read, key: key, method: http.MethodGet, path: path, query: q, request: want, value: value})
}

// packageCall makes the call of a write of a package.
func packageCall(kind, name string, want history.Request) call {
	c := call{kind: kind, key: name, method: http.MethodPut, path: "/api/v1/packages/" + url.PathEscape(name), request: want, header: http.Header{}}
	switch kind {
	case history.Create:
		c.method, c.path = http.MethodPost, "/api/v1/packages"
		c.header.Set("If-None-Match", "*")
	case history.Delete:
		c.method = http.MethodDelete
	}
	c.condition()
	if kind != history.Delete {
		c.body = packageBody(name, want.Value)
	}
	return c
}

// deploymentCall makes the call of a write of a deployment in the given environments, or
// wherever the planner likes it.
func deploymentCall(kind, key string, envs []string, want history.Request) call {
	c := call{kind: kind, key: key, method: http.MethodPost, path: "/api/v1/deployments", request: want, header: http.Header{}}
	switch kind {
	case history.Create:
		c.header.Set("If-None-Match", "*")
	case history.Delete:
		c.method, c.path = http.MethodDelete, "/api/v1/deployments/"+url.PathEscape(key)
	}
	c.condition()
	if kind != history.Delete {
		c.body = deploymentBody(key, envs, want.Value)
		if want.Wait > 0 {
			c.query = url.Values{"wait": {want.Wait.String()}}
		}
	}
	return c
}

// condition sets the headers that the request asks for.
func (c *call) condition() {
	if c.request.Version != 0 {
		c.header.Set("If-Match", matching(c.request.Version))
	}
	if c.request.IdempotencyKey != "" {
		c.header.Set("Idempotency-Key", c.request.IdempotencyKey)
	}
}

func packageBody(name, value string) []byte {
	return fmt.Appendf(nil, `{"name":%q,"version":%q,"classes":[],"functions":[]}`, name, value)
}

// wireDeployment is the part of a deployment that workloads give and read.
type wireDeployment struct {
	Key        string   `json:"key"`
	Package    string   `json:"package_name"`
	Class      string   `json:"class_key"`
	TargetEnvs []string `json:"target_envs,omitempty"`
	Telemetry  struct {
		// The value goes where it reaches the clusters, so that a change of it is one for them.
		Attributes map[string]string `json:"resource_attributes"`
	} `json:"telemetry"`
}

func deploymentBody(key string, envs []string, value string) []byte {
	d := wireDeployment{Key: key, Package: shelf, Class: shelfClass, TargetEnvs: envs}
	d.Telemetry.Attributes = map[string]string{"value": value}
	raw, err := json.Marshal(d)
	if err != nil { // texts only: cannot fail
		return nil
	}
	return raw
}

func packageValue(body []byte) (string, error) {
	var doc struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", fmt.Errorf("package: %w", err)
	}
	return doc.Version, nil
}

func deploymentValue(body []byte) (string, error) {
	var doc wireDeployment
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", fmt.Errorf("deployment: %w", err)
	}
	return doc.Telemetry.Attributes["value"], nil
}

// pick chooses one or more of the clusters; none stands for the planner's choice.
func (p *process) pick(clusters []string) []string {
	n := p.rng.IntN(min(len(clusters), 3) + 1)
	out := []string{}
	for _, i := range p.rng.Perm(len(clusters))[:n] {
		out = append(out, clusters[i])
	}
	return out
}
