package local

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func TestCredentialsVerify(t *testing.T) {
	now := time.Now()
	keys, err := newCredentials(now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(keys.authority.Cert)
	front := x509.NewCertPool()
	front.AddCert(keys.frontAuthority.Cert)
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	tests := []struct {
		name  string
		pair  *keyPair
		roots *x509.CertPool
		usage x509.ExtKeyUsage
		host  string
		ok    bool
	}{
		{"admin as client", keys.admin, roots, client, "", true},
		{"admin may not serve", keys.admin, roots, server, "", false},
		{"API server on loopback", keys.apiserver, roots, server, "127.0.0.1", true},
		{"API server elsewhere", keys.apiserver, roots, server, "192.0.2.1", false},
		{"kubelet on loopback", keys.kubelet, roots, server, "127.0.0.1", true},
		{"front proxy with its own authority", keys.frontProxy, front, client, "", true},
		{"front proxy is no client of the API", keys.frontProxy, roots, client, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.pair.Cert.Verify(x509.VerifyOptions{
				Roots: test.roots, DNSName: test.host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{test.usage},
			})
			if (err == nil) != test.ok {
				t.Errorf("got %v, want ok=%v", err, test.ok)
			}
			if _, err := tls.X509KeyPair(test.pair.CertPEM, test.pair.KeyPEM); err != nil {
				t.Errorf("key does not fit the certificate: %v", err)
			}
		})
	}
	if got := keys.admin.Cert.Subject.Organization; len(got) != 1 || got[0] != "system:masters" {
		t.Errorf("groups of the administrator: %v", got)
	}
}

func TestCredentialFilesArePrivate(t *testing.T) {
	keys, err := newCredentials(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "pki")
	if err := keys.write(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 14 {
		t.Errorf("%d files, want 14", len(entries))
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", entry.Name(), info.Mode().Perm())
		}
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := writeKubeconfig(path, "c1", "https://127.0.0.1:1", keys.authority, keys.admin); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig has mode %o", info.Mode().Perm())
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://127.0.0.1:1" || len(config.CertData) == 0 || len(config.CAData) == 0 {
		t.Errorf("incomplete configuration: %v", config)
	}
}
