package local

import (
	"fmt"
	"path/filepath"
	"strconv"

	"oaas.io/control-plane/deploy/local/process"
)

// The ports of a cluster, as indexes into its lease.
const (
	portAPIServer = iota
	portEtcdClient
	portEtcdPeer
	portKubelet
	portControllers
	portScheduler
	portCount
)

// Client limits of the controllers. Kubernetes' defaults (20 per second) would make the controllers the slowest part.
const (
	clientQPS   = "--kube-api-qps=200"
	clientBurst = "--kube-api-burst=400"
)

func (c *Cluster) address(portIndex int) string {
	return "127.0.0.1:" + strconv.Itoa(c.lease.Port(portIndex))
}

// spec describes one process of the cluster.
func (c *Cluster) spec(program string, args ...string) process.Spec {
	return process.Spec{
		Name:    fmt.Sprintf("%s of cluster %s", program, c.Name),
		Path:    c.binaries.path(program),
		Args:    args,
		Dir:     c.work.Path,
		LogFile: c.work.File("logs", program+".log"),
	}
}

func (c *Cluster) etcdSpec() process.Spec {
	client, peer := "http://"+c.address(portEtcdClient), "http://"+c.address(portEtcdPeer)
	args := []string{
		"--name=" + c.Name, "--data-dir=" + c.work.File("etcd"), "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=" + c.Name + "=" + peer,
	}
	if !c.fsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return c.spec(programEtcd, args...)
}

func (c *Cluster) apiserverSpec() process.Spec {
	pki := func(name string) string { return c.work.File("pki", name) }
	return c.spec(programAPIServer,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+strconv.Itoa(c.lease.Port(portAPIServer)),
		// Without this it would publish a loopback address as endpoint of the Service "kubernetes", which the API refuses.
		"--endpoint-reconciler-type=none",
		"--etcd-servers=http://"+c.address(portEtcdClient),
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"),
		"--client-ca-file="+pki("ca.crt"), "--anonymous-auth=false", "--authorization-mode=RBAC",
		"--service-account-key-file="+pki("service-accounts.pub"), "--service-account-signing-key-file="+pki("service-accounts.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true", "--profiling=false",
		// For aggregated APIs such as the metrics that a horizontal autoscaler reads.
		"--requestheader-client-ca-file="+pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+pki("front-proxy.crt"), "--proxy-client-key-file="+pki("front-proxy.key"),
		// For `kubectl logs`, which the API server forwards to the simulated kubelet.
		"--kubelet-certificate-authority="+pki("ca.crt"), "--kubelet-client-certificate="+pki("admin.crt"),
		"--kubelet-client-key="+pki("admin.key"), "--kubelet-preferred-address-types=InternalIP",
		// Pods leave a lost node after 5 seconds rather than 5 minutes.
		"--default-not-ready-toleration-seconds=5", "--default-unreachable-toleration-seconds=5",
	)
}

func (c *Cluster) controllersSpec() process.Spec {
	kubeconfig := c.work.File("controllers.kubeconfig")
	return c.spec(programControllers,
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port="+strconv.Itoa(c.lease.Port(portControllers)), "--cert-dir="+c.work.File("controllers-pki"),
		"--leader-elect=false", "--profiling=false", clientQPS, clientBurst,
		"--service-account-private-key-file="+c.work.File("pki", "service-accounts.key"), "--root-ca-file="+c.work.File("pki", "ca.crt"),
		"--use-service-account-credentials=true",
		// Everything that waits for minutes on a real cluster waits for seconds here.
		"--node-monitor-period=2s", "--node-monitor-grace-period=20s",
		"--horizontal-pod-autoscaler-sync-period=5s", "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
		"--horizontal-pod-autoscaler-initial-readiness-delay=5s", "--horizontal-pod-autoscaler-downscale-stabilization=15s",
	)
}

func (c *Cluster) schedulerSpec() process.Spec {
	kubeconfig := c.work.File("scheduler.kubeconfig")
	return c.spec(programScheduler,
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port="+strconv.Itoa(c.lease.Port(portScheduler)), "--cert-dir="+c.work.File("scheduler-pki"),
		"--leader-elect=false", "--profiling=false", clientQPS, clientBurst,
	)
}

func (c *Cluster) kwokSpec() process.Spec {
	port := strconv.Itoa(c.lease.Port(portKubelet))
	return c.spec(programKwok,
		"--kubeconfig="+c.work.File("kubelet.kubeconfig"), "--config="+filepath.Join(c.work.Path, kwokConfigFile),
		"--manage-all-nodes=true", "--node-ip=127.0.0.1", "--node-port="+port, "--server-address=127.0.0.1:"+port,
		"--cidr=10.128.0.1/16", "--node-lease-duration-seconds=40", "-v=WARN",
		"--tls-cert-file="+c.work.File("pki", "kubelet.crt"), "--tls-private-key-file="+c.work.File("pki", "kubelet.key"),
	)
}
