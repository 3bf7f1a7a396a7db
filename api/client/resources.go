package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"oaas.io/control-plane/model"
)

const prefix = "/api/v1/"

// path joins segments below the API's prefix. Names are escaped, so one may hold
// any character.
func path(resource string, names ...string) string {
	out := prefix + resource
	for _, name := range names {
		out += "/" + url.PathEscape(name)
	}
	return out
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.do(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

func write[T any](ctx context.Context, c *Client, method, path string, doc json.Marshaler) (*T, error) {
	out := new(T)
	if err := c.do(ctx, method, path, nil, doc, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Packages lists all packages.
func (c *Client) Packages(ctx context.Context) ([]model.OPackage, error) {
	return get[[]model.OPackage](ctx, c, path("packages"), nil)
}

// Package gives one package.
func (c *Client) Package(ctx context.Context, name string) (*model.OPackage, error) {
	return get[*model.OPackage](ctx, c, path("packages", name), nil)
}

// CreatePackage stores a package under a name that is not taken.
func (c *Client) CreatePackage(ctx context.Context, pkg *model.OPackage) (*Response, error) {
	return write[Response](ctx, c, http.MethodPost, path("packages"), pkg)
}

// UpdatePackage replaces a stored package as a whole.
func (c *Client) UpdatePackage(ctx context.Context, pkg *model.OPackage) (*Response, error) {
	return write[Response](ctx, c, http.MethodPost, path("packages", pkg.Name), pkg)
}

// DeletePackage removes a package.
func (c *Client) DeletePackage(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, path("packages", name), nil, nil, nil)
}

// Classes lists the classes of all packages under the key <package>.<class>.
func (c *Client) Classes(ctx context.Context) ([]model.OClass, error) {
	return get[[]model.OClass](ctx, c, path("classes"), nil)
}

// Functions lists the functions of all packages.
func (c *Client) Functions(ctx context.Context) ([]model.OFunction, error) {
	return get[[]model.OFunction](ctx, c, path("functions"), nil)
}

// DeploymentFilter narrows Deployments. Empty fields match everything.
type DeploymentFilter struct {
	PackageName, ClassKey, TargetEnv string
}

// Deployments lists deployments with their present condition.
func (c *Client) Deployments(ctx context.Context, f DeploymentFilter) ([]model.OClassDeployment, error) {
	return get[[]model.OClassDeployment](ctx, c, path("deployments"),
		params("package_name", f.PackageName, "class_key", f.ClassKey, "target_env", f.TargetEnv))
}

// Deployment gives one deployment.
func (c *Client) Deployment(ctx context.Context, key string) (*model.OClassDeployment, error) {
	return get[*model.OClassDeployment](ctx, c, path("deployments", key), nil)
}

// Deploy creates or replaces a deployment.
func (c *Client) Deploy(ctx context.Context, dep *model.OClassDeployment) (*Response, error) {
	return write[Response](ctx, c, http.MethodPost, path("deployments"), dep)
}

// DeleteDeployment deletes a deployment. Environments confirm later, see
// Deletions.
func (c *Client) DeleteDeployment(ctx context.Context, key string) (*DeleteResponse, error) {
	return write[DeleteResponse](ctx, c, http.MethodDelete, path("deployments", key), nil)
}

// ForceDelete deletes a deployment and gives up waiting for environments that cannot be
// reached, or for those of the given names; what they have is left behind. When there is no
// deployment it does that for the last deletion of the key.
func (c *Client) ForceDelete(ctx context.Context, key string, envs []string) (*Abandoned, error) {
	return c.abandon(ctx, path("deployments", key), envs)
}

// AbandonDeletion is ForceDelete for the deletion of the deployment with that uid.
func (c *Client) AbandonDeletion(ctx context.Context, uid string, envs []string) (*Abandoned, error) {
	return c.abandon(ctx, path("deletions", uid), envs)
}

func (c *Client) abandon(ctx context.Context, path string, envs []string) (*Abandoned, error) {
	query := url.Values{"force": {"true"}, "orphan": {"true"}}
	if len(envs) > 0 {
		query["env"] = envs
	}
	out := new(Abandoned)
	if err := c.do(ctx, http.MethodDelete, path, query, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Units lists what each environment has of a deployment.
func (c *Client) Units(ctx context.Context, key string) ([]Unit, error) {
	return get[[]Unit](ctx, c, path("deployments", key)+"/units", nil)
}

// Plan gives the last plan of a deployment with its explanation.
func (c *Client) Plan(ctx context.Context, key string) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, path("deployments", key)+"/plan", nil)
}

// PlanEntry is one of the last plans of a deployment in short. Index names it.
type PlanEntry struct {
	Index      uint64   `json:"index"`
	Generation uint64   `json:"generation"`
	Present    bool     `json:"present"`
	Clusters   []string `json:"clusters"`
	TargetMet  bool     `json:"target_met"`
	Summary    string   `json:"summary"`
}

// Plans lists the last plans of a deployment, the newest first.
func (c *Client) Plans(ctx context.Context, key string) ([]PlanEntry, error) {
	return get[[]PlanEntry](ctx, c, path("deployments", key)+"/plans", nil)
}

// PastPlan gives one of the last plans with its explanation.
func (c *Client) PastPlan(ctx context.Context, key string, index uint64) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, path("deployments", key)+"/plans/"+strconv.FormatUint(index, 10), nil)
}

// Preview tells what Deploy would do. It is a read, and any node answers.
func (c *Client) Preview(ctx context.Context, dep *model.OClassDeployment) (json.RawMessage, error) {
	var out json.RawMessage
	return out, c.do(ctx, http.MethodPost, path("deployments"), params("dry_run", "true"), dep, &out)
}

// Replan plans a deployment anew, from what was asked for and the environments as they
// are now. To rebalance is to move it to something better where that is worth while.
func (c *Client) Replan(ctx context.Context, key string, rebalance bool) (*Replanned, error) {
	return write[Replanned](ctx, c, http.MethodPost, path("deployments", key)+"/replan", replanBody(rebalance))
}

// PreviewReplan tells what Replan would do, as Preview does.
func (c *Client) PreviewReplan(ctx context.Context, key string, rebalance bool) (json.RawMessage, error) {
	var out json.RawMessage
	return out, c.do(ctx, http.MethodPost, path("deployments", key)+"/replan", params("dry_run", "true"), replanBody(rebalance), &out)
}

func replanBody(rebalance bool) json.RawMessage {
	if rebalance {
		return json.RawMessage(`{"rebalance":true}`)
	}
	return json.RawMessage(`{}`)
}

// Scenario is what could happen; see Simulate.
type Scenario struct {
	// Lose are selectors of the environments that are lost: region=NAME, zone=NAME,
	// env=NAME or LABEL=VALUE.
	Lose []string `json:"lose,omitempty"`
	// Drain are those of the environments that are to be left.
	Drain       []string `json:"drain,omitempty"`
	Target      *float64 `json:"target,omitempty"`
	Deployments []string `json:"deployments,omitempty"`
	Limit       int      `json:"limit,omitempty"`
}

// Simulate tells what would become of deployments.
func (c *Client) Simulate(ctx context.Context, s Scenario) (json.RawMessage, error) {
	doc, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var out json.RawMessage
	return out, c.do(ctx, http.MethodPost, path("plan", "simulate"), nil, json.RawMessage(doc), &out)
}

// EnvMappings gives the unit id of each environment of a deployment.
func (c *Client) EnvMappings(ctx context.Context, key string) (*EnvMappings, error) {
	return get[*EnvMappings](ctx, c, path("deployments", key)+"/env-mappings", nil)
}

// RuntimeFilter narrows ClassRuntimes. Zero fields match everything.
type RuntimeFilter struct {
	PackageName, ClassKey, Env string
	Limit                      int
}

// ClassRuntimes lists the runtimes of all environments.
func (c *Client) ClassRuntimes(ctx context.Context, f RuntimeFilter) ([]ClassRuntime, error) {
	limit := ""
	if f.Limit > 0 {
		limit = strconv.Itoa(f.Limit)
	}
	return get[[]ClassRuntime](ctx, c, path("class-runtimes"),
		params("package_name", f.PackageName, "class_key", f.ClassKey, "cluster", f.Env, "limit", limit))
}

// ClassRuntime gives one runtime by the id of its unit.
func (c *Client) ClassRuntime(ctx context.Context, id string) (*ClassRuntime, error) {
	return get[*ClassRuntime](ctx, c, path("class-runtimes", id), nil)
}

// Envs lists the environments with their health.
func (c *Client) Envs(ctx context.Context) ([]Env, error) {
	return get[[]Env](ctx, c, path("envs"), nil)
}

// EnvHealth gives the health of one environment.
func (c *Client) EnvHealth(ctx context.Context, name string) (*EnvHealth, error) {
	return get[*EnvHealth](ctx, c, path("envs", name)+"/health", nil)
}

// RemoveEnv forgets an environment that nothing is deployed to.
func (c *Client) RemoveEnv(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, path("envs", name), nil, nil, nil)
}

// Deletions lists the deployments whose deletion is not confirmed everywhere.
func (c *Client) Deletions(ctx context.Context) ([]Deletion, error) {
	return get[[]Deletion](ctx, c, path("deletions"), nil)
}

// Deletion tells how far the deletion of the deployment with that uid is. One that is
// complete is not found.
func (c *Client) Deletion(ctx context.Context, uid string) (Deletion, error) {
	return get[Deletion](ctx, c, path("deletions", uid), nil)
}

// Members lists the nodes of the package manager as the node that answers knows
// them, so that there is an answer when there is no leader.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	return get[[]Member](ctx, c, path("members"), params("consistency", "stale"))
}

// Health asks the node that answers how it is.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	return get[*Health](ctx, c, "/health", nil)
}

// params makes a query of the pairs that have a value.
func params(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}
