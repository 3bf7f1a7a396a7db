package system

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"oaas.io/control-plane/deploy/local/pki"
)

// certificates makes an authority and a certificate for all nodes in dir, and gives the arguments of a pmd and what makes those
// of the crm of a cluster.
func certificates(dir string) (pm []string, crm func(cluster string) ([]string, error), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	authority, err := pki.NewAuthority("local-system", time.Now())
	if err != nil {
		return nil, nil, err
	}
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, authority.CertPEM, 0o600); err != nil {
		return nil, nil, fmt.Errorf("write authority: %w", err)
	}
	issue := func(name string, usage x509.ExtKeyUsage) (cert, key string, err error) {
		pair, err := pki.Issue(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(pki.Validity),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		}, authority)
		if err != nil {
			return "", "", err
		}
		return pair.Write(dir, name)
	}
	cert, key, err := issue("pmd.local", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, nil, err
	}
	pm = []string{
		"--crm-tls-ca=" + ca, "--crm-tls-cert=" + cert, "--crm-tls-key=" + key,
		"--crm-tls-server-name={cluster}.crm.local", "--crm-tls-required",
	}
	return pm, func(cluster string) ([]string, error) {
		cert, key, err := issue(cluster+".crm.local", x509.ExtKeyUsageServerAuth)
		if err != nil {
			return nil, err
		}
		return []string{"--tls-cert=" + cert, "--tls-key=" + key, "--tls-client-ca=" + ca, "--tls-client-names=pmd.local"}, nil
	}, nil
}
