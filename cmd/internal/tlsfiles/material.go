package tlsfiles

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

const (
	outcomeLoaded = "loaded"
	outcomeFailed = "failed"

	// maxFile bounds what is read: the bundle of a system has some hundred KiB.
	maxFile = 4 << 20
)

// KeyPair is a certificate with its key.
type KeyPair struct{ material }

func (p *KeyPair) certificate() *tls.Certificate { return p.current().pair }

// Pool is a bundle of authorities.
type Pool struct{ material }

func (p *Pool) pool() *x509.CertPool { return p.current().pool }

// Vouches says whether one of the chains that a handshake has found good is so still: it
// ends at an authority that the bundle has now, and all of it is valid. Nothing is
// computed, so that it can be asked of many connections again and again.
func (p *Pool) Vouches(chains [][]*x509.Certificate) error {
	now, authorities := p.store.opts.Clock(), p.current().authorities
	err := errors.New("no chain of certificates was verified")
	for _, chain := range chains {
		if err = vouched(chain, authorities, now); err == nil {
			return nil
		}
	}
	return err
}

func vouched(chain []*x509.Certificate, authorities map[string]bool, now time.Time) error {
	for _, cert := range chain {
		if now.After(cert.NotAfter) {
			return fmt.Errorf("the certificate of %q is not valid after %s", cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if len(chain) == 0 || !authorities[string(chain[len(chain)-1].Raw)] {
		return errors.New("its authority is none of those that are trusted now")
	}
	return nil
}

// content is what the files held when they were last whole.
type content struct {
	digest [sha256.Size]byte
	pair   *tls.Certificate
	pool   *x509.CertPool
	// authorities are the certificates in the pool, which does not tell.
	authorities map[string]bool
	notBefore   time.Time
	notAfter    time.Time
}

func (c *content) valid(now time.Time) bool {
	return !now.Before(c.notBefore) && !now.After(c.notAfter)
}

// material keeps the content of files. Only load and look change it, which one
// goroutine calls; handshakes read it.
type material struct {
	store *Store
	files []string
	parse func(texts [][]byte) (*content, error)

	now atomic.Pointer[content]
	// suspect is the content that was found unusable at the last look, and told is
	// that of which this was said.
	suspect, told [sha256.Size]byte
}

func (m *material) name() string       { return m.files[0] }
func (m *material) current() *content  { return m.now.Load() }
func (m *material) expires() time.Time { return m.current().notAfter }

// load reads the files for the first time.
func (m *material) load() error {
	c, err := m.read()
	if err != nil {
		return err
	}
	m.now.Store(c)
	return nil
}

// look takes in what has changed.
func (m *material) look() {
	old := m.current()
	c, err := m.read()
	if err == nil && c.digest == old.digest {
		m.suspect, m.told = [sha256.Size]byte{}, [sha256.Size]byte{}
		return
	}
	if now := m.store.opts.Clock(); err == nil && !c.valid(now) && old.valid(now) {
		err = fmt.Errorf("%s: not valid now, but from %s to %s", m.name(), c.notBefore.UTC().Format(time.RFC3339), c.notAfter.UTC().Format(time.RFC3339))
	}
	if err == nil {
		m.now.Store(c)
		m.suspect, m.told = [sha256.Size]byte{}, [sha256.Size]byte{}
		m.store.reload.WithLabelValues(m.name(), outcomeLoaded).Inc()
		m.store.opts.Logger.Info("certificate file changed, new connections use it", "file", m.name(), "not_after", c.notAfter)
		return
	}
	// What is wrong is told once, and not before it was seen twice: between two files
	// that are being written nothing fits.
	broken := sha256.Sum256([]byte(err.Error()))
	if c != nil {
		broken = c.digest
	}
	if broken == m.suspect && broken != m.told {
		m.told = broken
		m.store.reload.WithLabelValues(m.name(), outcomeFailed).Inc()
		m.store.opts.Logger.Warn("certificate file cannot be used, the one before stays in use", "file", m.name(), "not_after", old.notAfter, "error", err)
	}
	m.suspect = broken
}

// read gives what the files hold now.
func (m *material) read() (*content, error) {
	digest := sha256.New()
	texts := make([][]byte, len(m.files))
	for i, file := range m.files {
		text, err := readFile(file)
		if err != nil {
			return nil, err
		}
		texts[i] = text
		sum := sha256.Sum256(text)
		digest.Write(sum[:])
	}
	c, err := m.parse(texts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name(), err)
	}
	digest.Sum(c.digest[:0])
	return c, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: has more than %d bytes", name, maxFile)
	}
	return text, nil
}

// parseKeyPair wants a chain, the certificate of the key first, and the key.
func parseKeyPair(texts [][]byte) (*content, error) {
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return nil, err
	}
	c := &content{pair: &pair}
	for i, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		// A chain is valid while all of it is.
		if c.notBefore.Before(cert.NotBefore) {
			c.notBefore = cert.NotBefore
		}
		if c.notAfter.IsZero() || c.notAfter.After(cert.NotAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	return c, nil
}

// parsePool wants at least one certificate, and no block that it cannot read: half a
// bundle would refuse half of the others.
func parsePool(texts [][]byte) (*content, error) {
	c := &content{pool: x509.NewCertPool(), authorities: map[string]bool{}}
	rest := texts[0]
	for i := 1; ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("block %d is no certificate but %q", i, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		c.pool.AddCert(cert)
		c.authorities[string(cert.Raw)] = true
		// A bundle is of use while one of it is: old ones are in it until all that they
		// have signed are replaced.
		if c.notBefore.IsZero() || c.notBefore.After(cert.NotBefore) {
			c.notBefore = cert.NotBefore
		}
		if c.notAfter.Before(cert.NotAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	if c.notAfter.IsZero() {
		return nil, errors.New("has no PEM block with a certificate")
	}
	return c, nil
}
