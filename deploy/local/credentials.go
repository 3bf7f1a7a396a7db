package local

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"oaas.io/control-plane/deploy/local/pki"
)

// keyPair is a certificate with its key.
type keyPair = pki.Pair

// identity is what a certificate is issued for. One with names or addresses can also serve.
type identity struct {
	CommonName   string
	Organization []string
	DNSNames     []string
	IPs          []net.IP
}

// newCertificate issues a certificate for a client, and for a server if the identity has names or addresses.
func newCertificate(authority *keyPair, who identity, now time.Time) (*keyPair, error) {
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(who.DNSNames)+len(who.IPs) > 0 {
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	return pki.Issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: who.CommonName, Organization: who.Organization},
		NotBefore:   now.Add(-time.Hour),
		NotAfter:    now.Add(pki.Validity),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: usage,
		DNSNames:    who.DNSNames,
		IPAddresses: who.IPs,
	}, authority)
}

// credentials are all keys of one cluster.
type credentials struct {
	authority       *keyPair
	frontAuthority  *keyPair
	frontProxy      *keyPair
	apiserver       *keyPair
	admin           *keyPair
	controllers     *keyPair
	scheduler       *keyPair
	kubelet         *keyPair
	serviceAccounts *ecdsa.PrivateKey
}

// newCredentials makes the keys of one cluster. Nothing of them is shared with another cluster.
func newCredentials(now time.Time) (*credentials, error) {
	loopback := net.IPv4(127, 0, 0, 1)
	c := &credentials{}
	var err error
	if c.authority, err = pki.NewAuthority("local-kubernetes", now); err != nil {
		return nil, err
	}
	if c.frontAuthority, err = pki.NewAuthority("local-kubernetes-front-proxy", now); err != nil {
		return nil, err
	}
	issued := []struct {
		into      **keyPair
		authority *keyPair
		who       identity
	}{
		{&c.apiserver, c.authority, identity{
			CommonName: "kube-apiserver",
			DNSNames:   []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
			IPs:        []net.IP{loopback, net.IPv4(10, 96, 0, 1)},
		}},
		{&c.admin, c.authority, identity{CommonName: "admin", Organization: []string{"system:masters"}}},
		{&c.controllers, c.authority, identity{CommonName: "system:kube-controller-manager"}},
		{&c.scheduler, c.authority, identity{CommonName: "system:kube-scheduler"}},
		// kwok plays every kubelet at once and also serves their side of `kubectl logs`.
		{&c.kubelet, c.authority, identity{
			CommonName: "kwok", Organization: []string{"system:masters"}, DNSNames: []string{"localhost"}, IPs: []net.IP{loopback},
		}},
		{&c.frontProxy, c.frontAuthority, identity{CommonName: "front-proxy-client"}},
	}
	for _, item := range issued {
		if *item.into, err = newCertificate(item.authority, item.who, now); err != nil {
			return nil, err
		}
	}
	if c.serviceAccounts, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make service account key: %w", err)
	}
	return c, nil
}

// write puts every key and certificate as NAME.key and NAME.crt into dir, readable by the owner alone.
func (c *credentials) write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	files := map[string][]byte{}
	for name, pair := range map[string]*keyPair{
		"ca": c.authority, "front-proxy-ca": c.frontAuthority, "front-proxy": c.frontProxy, "apiserver": c.apiserver,
		"admin": c.admin, "kubelet": c.kubelet,
	} {
		files[name+".crt"], files[name+".key"] = pair.CertPEM, pair.KeyPEM
	}
	private, err := pki.KeyPEM(c.serviceAccounts)
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&c.serviceAccounts.PublicKey)
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	files["service-accounts.key"] = private
	files["service-accounts.pub"] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write credentials: %w", err)
		}
	}
	return nil
}

// writeKubeconfig writes a self-contained kubeconfig with one context named after the cluster.
func writeKubeconfig(path, cluster, server string, authority, user *keyPair) error {
	name := user.Cert.Subject.CommonName
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: authority.CertPEM}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: user.CertPEM, ClientKeyData: user.KeyPEM}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: name}
	config.CurrentContext = cluster
	// clientcmd writes with mode 0600.
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
