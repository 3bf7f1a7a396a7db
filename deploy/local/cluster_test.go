package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/deploy/local/process"
)

func TestMain(m *testing.M) { localtest.Main(m) }

func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// write puts a manifest into a file.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func kubectl(ctx context.Context, t *testing.T, c *local.Cluster, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {sim.kwok/behavior: BEHAVIOR}}
    spec:
      containers:
      - {name: web, image: "example.com/web:1"}
`

func TestDeploymentRunsOnSimulatedNodes(t *testing.T) {
	c := localtest.Cluster(t)
	ctx := withTimeout(t, 45*time.Second)
	namespace := localtest.Namespace(t, c)
	kubectl(ctx, t, c, "--namespace="+namespace, "apply", "--filename="+write(t, strings.Replace(deployment, "BEHAVIOR", "healthy", 1)))
	kubectl(ctx, t, c, "--namespace="+namespace, "rollout", "status", "deployment/web", "--timeout=30s")
	ready := kubectl(ctx, t, c, "--namespace="+namespace, "get", "deployment", "web", "--output=jsonpath={.status.readyReplicas}")
	if ready != "2" {
		t.Errorf("ready replicas: got %q, want 2", ready)
	}
	nodes := kubectl(ctx, t, c, "get", "nodes", `--output=jsonpath={.items[*].metadata.labels.topology\.kubernetes\.io/zone}`)
	if want := c.Name + "-a " + c.Name + "-b " + c.Name + "-c"; nodes != want {
		t.Errorf("zones: got %q, want %q", nodes, want)
	}
	if logs := kubectl(ctx, t, c, "--namespace="+namespace, "logs", "deployment/web"); !strings.Contains(logs, "simulated") {
		t.Errorf("logs of a pod: got %q", logs)
	}
}

// The switches are what all failure tests of the product stand on.
func TestBehaviors(t *testing.T) {
	c := localtest.Cluster(t)
	tests := []struct{ behavior, path, want string }{
		{"not-ready", `{.items[0].status.conditions[?(@.type=="Ready")].status}`, "False"},
		{"crash-loop", `{.items[0].status.containerStatuses[0].state.waiting.reason}`, "CrashLoopBackOff"},
		{"crash-loop", `{.items[0].status.containerStatuses[0].lastState.terminated.exitCode}`, "1"},
		{"image-pull", `{.items[0].status.containerStatuses[0].state.waiting.reason}`, "ImagePullBackOff"},
		{"fail", `{.items[0].status.phase}`, "Failed"},
	}
	for _, test := range tests {
		t.Run(test.behavior+" "+test.want, func(t *testing.T) {
			t.Parallel()
			ctx := withTimeout(t, 45*time.Second)
			namespace := localtest.Namespace(t, c)
			kubectl(ctx, t, c, "--namespace="+namespace, "apply", "--filename="+write(t, strings.Replace(deployment, "BEHAVIOR", test.behavior, 1)))
			// The first wait is for the pods to exist, which `kubectl wait` does not do for a selector; until then the path
			// is an error.
			for {
				out, err := c.Kubectl(ctx, "--namespace="+namespace, "get", "pods", "--selector=app=web", "--output=jsonpath="+test.path)
				if err == nil && strings.TrimSpace(out) == test.want {
					return
				}
				if ctx.Err() != nil {
					t.Fatalf("got %q (%v), want %q", out, err, test.want)
				}
			}
		})
	}
}

func TestRecoversOnALivePod(t *testing.T) {
	c := localtest.Cluster(t)
	ctx := withTimeout(t, 45*time.Second)
	namespace := localtest.Namespace(t, c)
	kubectl(ctx, t, c, "--namespace="+namespace, "apply", "--filename="+write(t, strings.Replace(deployment, "BEHAVIOR", "healthy", 1)))
	kubectl(ctx, t, c, "--namespace="+namespace, "rollout", "status", "deployment/web", "--timeout=30s")
	for _, step := range []struct{ annotation, wait string }{
		{"sim.kwok/behavior=not-ready", "condition=Ready=False"},
		{"sim.kwok/behavior=healthy", "condition=Ready"},
		{"sim.kwok/behavior=crash-loop", "condition=Ready=False"},
		{"sim.kwok/behavior-", "condition=Ready"},
	} {
		kubectl(ctx, t, c, "--namespace="+namespace, "annotate", "--overwrite", "pods", "--selector=app=web", step.annotation)
		kubectl(ctx, t, c, "--namespace="+namespace, "wait", "pods", "--selector=app=web", "--for="+step.wait, "--timeout=20s")
	}
}

func TestOutageOfTheAPIServer(t *testing.T) {
	c := localtest.Own(t, local.Options{Name: "outage", Nodes: 1})
	ctx := withTimeout(t, 60*time.Second)
	kubectl(ctx, t, c, "create", "configmap", "kept")

	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	if out, err := c.Kubectl(ctx, "get", "nodes", "--request-timeout=500ms"); err == nil {
		t.Errorf("a paused API server answered: %s", out)
	}
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	kubectl(ctx, t, c, "get", "configmap", "kept")

	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if out, err := c.Kubectl(ctx, "get", "nodes", "--request-timeout=500ms"); err == nil {
		t.Errorf("a killed API server answered: %s", out)
	}
	if err := c.Err(); err != nil {
		t.Errorf("an outage on purpose is not an error of the cluster: %v", err)
	}
	if err := c.RestartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	kubectl(ctx, t, c, "get", "configmap", "kept")
}

func TestNodesComeBackAfterACrash(t *testing.T) {
	c := localtest.Own(t, local.Options{Name: "crash", Nodes: 1})
	ctx := withTimeout(t, 60*time.Second)
	for range 2 {
		err := c.CrashNodes()
		for errors.Is(err, process.ErrNotRunning) && ctx.Err() == nil { // it is not back from the crash before
			runtime.Gosched()
			err = c.CrashNodes()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	kubectl(ctx, t, c, "apply", "--filename="+write(t, strings.Replace(deployment, "BEHAVIOR", "healthy", 1)))
	kubectl(ctx, t, c, "rollout", "status", "deployment/web", "--timeout=40s")
	if err := c.Err(); err != nil {
		t.Errorf("the cluster has what it needs again: %v", err)
	}
}

func TestFilesOfACluster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	c := localtest.Own(t, local.Options{Name: "files", Nodes: 1, Dir: dir})
	info, err := os.Stat(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the kubeconfig: got %o, want 600", info.Mode().Perm())
	}
	if !strings.HasPrefix(c.Server, "https://127.0.0.1:") {
		t.Errorf("server: got %s, want loopback", c.Server)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("state after Stop: %v, want it gone", err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestStartRefusesBadOptions(t *testing.T) {
	for _, options := range []local.Options{{}, {Name: "Upper"}, {Name: "-x"}, {Name: strings.Repeat("x", 41)}, {Name: "x", Nodes: -1}} {
		if c, err := local.Start(context.Background(), options); err == nil {
			t.Errorf("%+v: started %s", options, c)
		}
	}
}
