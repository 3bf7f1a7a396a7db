package crmtest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/deploy/local/process"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/netlab"
)

func TestMain(m *testing.M) {
	localtest.Main(m)
}

// patience is longer than anything takes that works, on a machine that has other work too.
const patience = 2 * time.Minute

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bin(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(system.BinEnv); dir != "" {
		return dir
	}
	dir := t.TempDir()
	check(t, system.Build(within(t), dir))
	return dir
}

// status waits until the leader says that of a cluster.
func status(t *testing.T, c *cluster.Cluster, env string, good func(status string) bool) {
	t.Helper()
	check(t, system.Poll(within(t), "the health of "+env+" has changed", func(ctx context.Context) (bool, error) {
		name, _, err := c.Leader(ctx)
		if err != nil {
			return false, err
		}
		envs, err := c.Client(name).Envs(ctx)
		if err != nil {
			return false, err
		}
		for _, e := range envs {
			if e.Name == env {
				return good(e.Health.Status), fmt.Errorf("it is %s", e.Health.Status)
			}
		}
		return false, fmt.Errorf("it is not known")
	}))
}

func isHealthy(status string) bool    { return status == "Healthy" }
func isNotHealthy(status string) bool { return status != "Healthy" }

const pkg = `{"name":"shop","functions":[{"key":"add","function_type":"CUSTOM","provision_config":{"container_image":"example.org/add:1"}}],
"classes":[{"key":"Cart","function_bindings":[{"name":"add","function_key":"add","access_modifier":"PUBLIC"}]}]}`

func post(ctx context.Context, c *cluster.Cluster, path, body string) error {
	name, _, err := c.WaitLeader(ctx)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Node(name).URL()+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.HTTP().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only the status counts
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return nil
}

// deploy waits until a deployment runs in a cluster.
func deploy(t *testing.T, c *cluster.Cluster, key, env string) {
	t.Helper()
	body := fmt.Sprintf(`{"key":%q,"package_name":"shop","class_key":"Cart","target_envs":[%q]}`, key, env)
	check(t, post(within(t), c, "/api/v1/deployments", body))
	check(t, system.Poll(within(t), key+" runs in "+env, func(ctx context.Context) (bool, error) {
		name, _, err := c.Leader(ctx)
		if err != nil {
			return false, err
		}
		d, err := c.Client(name).Deployment(ctx, key)
		if err != nil {
			return false, err
		}
		return string(d.Condition) == "RUNNING", fmt.Errorf("it is %s", d.Condition)
	}))
}

// testManagers breaks what is around crm processes. The way to the API server takes long to be missed, and is tested in a
// laboratory alone.
func testManagers(t *testing.T, loopback bool) {
	kubernetes := localtest.Cluster(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreTopFunction(process.ForkLoop))
	c, err := cluster.Start(within(t), cluster.Options{
		Bin: bin(t), Dir: t.TempDir(), CRMs: 2, Loopback: loopback,
		Kubernetes: []cluster.Kubernetes{{Config: kubernetes.RESTConfig()}},
	})
	check(t, err)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, m := range c.Managers() {
				t.Logf("end of the log of %s:\n%s", m.Name(), process.Tail(m.LogPath(), 20))
			}
		}
	}()
	first := c.Managers()[0]
	check(t, post(within(t), c, "/api/v1/packages", pkg))
	deploy(t, c, "a", first.Name())

	check(t, c.Network().Cut(cluster.Any, first.Name(), cluster.PortCRM))
	status(t, c, first.Name(), isNotHealthy)
	check(t, c.Network().HealAll())
	status(t, c, first.Name(), isHealthy)

	if !loopback {
		testOutage(t, c, first)
	}

	check(t, first.Kill())
	check(t, first.Start(within(t)))
	check(t, c.WaitReady(within(t)))
	deploy(t, c, "b", first.Name())
}

// testOutage takes the API server from one manager, which is reached then, and does nothing.
func testOutage(t *testing.T, c *cluster.Cluster, first *cluster.Manager) {
	check(t, c.Network().Cut(first.Name(), first.KubeHost()))
	check(t, c.Network().Cut(first.KubeHost(), first.Name()))
	status(t, c, first.Name(), isNotHealthy)
	status(t, c, c.Managers()[1].Name(), isHealthy)
	check(t, c.Network().HealAll())
	status(t, c, first.Name(), isHealthy)
}

func TestManagersInALaboratory(t *testing.T) {
	if err := netlab.Available(); err != nil {
		t.Skipf("tested on loopback only, as far as that goes: %v", err)
	}
	testManagers(t, false)
}

func TestManagersOnLoopback(t *testing.T) { testManagers(t, true) }
