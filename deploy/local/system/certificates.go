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

// credentials are the arguments with which processes prove who they are; none without TLS.
type credentials struct {
	// pm are those of every node, agents those of its port for edge clusters.
	pm, agents []string
	// crm and edge give those of the crm of a cluster, by who dials whom.
	crm, edge func(cluster string) ([]string, error)
}

// plaintext proves nothing.
func plaintext() *credentials {
	return &credentials{
		agents: []string{"--agent-plaintext"},
		crm:    func(string) ([]string, error) { return nil, nil },
		edge:   func(string) ([]string, error) { return []string{"--control-plane-plaintext"}, nil },
	}
}

// certificates makes an authority and the certificates of all nodes in dir. Those of managers are made when they are asked for.
func certificates(dir string) (*credentials, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	authority, err := pki.NewAuthority("local-system", time.Now())
	if err != nil {
		return nil, err
	}
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, authority.CertPEM, 0o600); err != nil {
		return nil, fmt.Errorf("write authority: %w", err)
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
		return nil, err
	}
	serverCert, serverKey, err := issue("agents.pmd.local", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	return &credentials{
		pm: []string{
			"--crm-tls-ca=" + ca, "--crm-tls-cert=" + cert, "--crm-tls-key=" + key,
			"--crm-tls-server-name={cluster}.crm.local", "--crm-tls-required",
		},
		agents: []string{
			"--agent-tls-cert=" + serverCert, "--agent-tls-key=" + serverKey,
			"--agent-tls-client-ca=" + ca, "--agent-tls-client-name={cluster}.crm.local",
		},
		crm: func(cluster string) ([]string, error) {
			cert, key, err := issue(cluster+".crm.local", x509.ExtKeyUsageServerAuth)
			if err != nil {
				return nil, err
			}
			return []string{"--tls-cert=" + cert, "--tls-key=" + key, "--tls-client-ca=" + ca, "--tls-client-names=pmd.local"}, nil
		},
		edge: func(cluster string) ([]string, error) {
			cert, key, err := issue(cluster+".crm.local", x509.ExtKeyUsageClientAuth)
			if err != nil {
				return nil, err
			}
			return []string{
				"--control-plane-tls-ca=" + ca, "--control-plane-tls-cert=" + cert, "--control-plane-tls-key=" + key,
				"--control-plane-tls-server-name=agents.pmd.local",
			}, nil
		},
	}, nil
}
