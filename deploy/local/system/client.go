package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Client speaks to the REST API of one node. It knows only what tests and the demo need.
type Client struct {
	// Base is the URL of the node without a trailing slash.
	Base string
	// HTTP makes the requests.
	HTTP *http.Client
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Method, Path string
	Status       int
	Body         string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Status, strings.TrimSpace(e.Body))
}

// IsStatus reports whether err is an answer with that status.
func IsStatus(err error, status int) bool {
	var answer *StatusError
	return errors.As(err, &answer) && answer.Status == status
}

// Do sends a request; body is JSON or nil. A 2xx answer is decoded into out unless that is nil; others are a *StatusError.
func (c *Client) Do(ctx context.Context, method, path string, body []byte, out any) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end below
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return response.Header, fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return response.Header, &StatusError{Method: method, Path: path, Status: response.StatusCode, Body: string(answer)}
	}
	if out == nil || len(answer) == 0 {
		return response.Header, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return response.Header, fmt.Errorf("%s %s: decode answer %.200q: %w", method, path, answer, err)
	}
	return response.Header, nil
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	_, err := c.Do(ctx, http.MethodGet, path, nil, out)
	return err
}

// Member is a node of the Package Manager as the API lists it.
type Member struct {
	ServerID    string `json:"server_id"`
	RaftAddress string `json:"raft_address"`
	GRPCAddress string `json:"grpc_address"`
	HTTPAddress string `json:"http_address"`
	Leader      bool   `json:"leader"`
	Voter       bool   `json:"voter"`
}

// Members lists the nodes.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var members []Member
	return members, c.get(ctx, "/api/v1/members", &members)
}

// Env is a cluster as the API lists it.
type Env struct {
	Name string `json:"name"`
	// Address at which the cluster's manager is reached.
	Address string `json:"address"`
	Health  struct {
		Status   string     `json:"status"`
		LastSeen *time.Time `json:"last_seen"`
	} `json:"health"`
}

// Envs lists the clusters.
func (c *Client) Envs(ctx context.Context) ([]Env, error) {
	var envs []Env
	return envs, c.get(ctx, "/api/v1/envs", &envs)
}

// Deployment is the part of a deployment that tells its state.
type Deployment struct {
	Key         string `json:"key"`
	PackageName string `json:"package_name"`
	ClassKey    string `json:"class_key"`
	Condition   string `json:"condition"`
	Status      struct {
		SelectedEnvs []string `json:"selected_envs"`
		LastError    string   `json:"last_error"`
	} `json:"status"`
}

// Deployment reads one deployment.
func (c *Client) Deployment(ctx context.Context, key string) (*Deployment, error) {
	var deployment Deployment
	return &deployment, c.get(ctx, "/api/v1/deployments/"+url.PathEscape(key), &deployment)
}

// UnitIDs maps each cluster of a deployment to the id of its unit, which is the name of its ClassRuntime.
func (c *Client) UnitIDs(ctx context.Context, key string) (map[string]string, error) {
	var mappings struct {
		EnvIDs map[string]string `json:"env_ids"`
	}
	return mappings.EnvIDs, c.get(ctx, "/api/v1/deployments/"+url.PathEscape(key)+"/env-mappings", &mappings)
}

// Unit is what is known of a deployment's share of one cluster.
type Unit struct {
	ID           string `json:"id"`
	Env          string `json:"env"`
	Phase        string `json:"phase"`
	Acknowledged bool   `json:"acknowledged"`
	Generation   uint64 `json:"generation"`
	// Waiting is why the cluster has not confirmed it; nil when nothing is in the way.
	Waiting *struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Permanent bool   `json:"permanent"`
	} `json:"waiting"`
}

// Units lists a deployment's shares of its clusters.
func (c *Client) Units(ctx context.Context, key string) ([]Unit, error) {
	var units []Unit
	return units, c.get(ctx, "/api/v1/deployments/"+url.PathEscape(key)+"/units", &units)
}

// Deletion is a deployment whose objects are still being removed.
type Deletion struct {
	Key         string `json:"key"`
	PendingEnvs []struct {
		Env    string `json:"env"`
		Reason string `json:"reason"`
	} `json:"pending_envs"`
}

// Deletions lists the deletions that not every cluster has confirmed.
func (c *Client) Deletions(ctx context.Context) ([]Deletion, error) {
	var deletions []Deletion
	return deletions, c.get(ctx, "/api/v1/deletions", &deletions)
}

// WaitAvailable waits until a deployment runs in all of its clusters.
func (c *Client) WaitAvailable(ctx context.Context, key string) error {
	return Poll(ctx, "deployment "+key+" is available", func(ctx context.Context) (bool, error) {
		deployment, err := c.Deployment(ctx, key)
		if err != nil {
			return false, err
		}
		if deployment.Condition != "RUNNING" {
			return false, fmt.Errorf("its condition is %s %s", deployment.Condition, deployment.Status.LastError)
		}
		return true, nil
	})
}
