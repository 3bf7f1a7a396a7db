package discovery

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

const (
	// maxHost is the longest DNS name.
	maxHost = 253
	// maxText bounds region, zone and version.
	maxText = 63
	// maxInstance bounds the part of a member's name that changes with every
	// start.
	maxInstance = 64
)

// EncodeMeta gives the form in which a member's description travels. It refuses
// what DecodeMeta would; the limit on the size is memberlist's, which panics
// beyond it.
func EncodeMeta(m *pmpb.NodeMeta) ([]byte, error) {
	if err := validMeta(m); err != nil {
		return nil, fmt.Errorf("gossip meta: %w", err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("gossip meta: %w", err)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("gossip meta: %d bytes, no more than %d are possible: shorten the names", len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

// DecodeMeta reads what another member says about itself. Fields that it does
// not know are ignored, so that newer members can join.
func DecodeMeta(b []byte) (*pmpb.NodeMeta, error) {
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("gossip meta: %d bytes, no more than %d are possible", len(b), memberlist.MetaMaxSize)
	}
	m := &pmpb.NodeMeta{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("gossip meta: %w", err)
	}
	if err := validMeta(m); err != nil {
		return nil, fmt.Errorf("gossip meta: %w", err)
	}
	return m, nil
}

func validMeta(m *pmpb.NodeMeta) error {
	switch m.GetRole() {
	case pmpb.NodeMeta_ROLE_CRM:
		if err := validName(m.GetName()); err != nil {
			return fmt.Errorf("name %w", err)
		}
		if m.GetGrpcAddress() == "" {
			return errors.New("a CRM needs a gRPC address")
		}
	case pmpb.NodeMeta_ROLE_PM:
		// Nodes are often called like their hosts.
		if name := m.GetName(); name == "" || len(name) > maxHost || strings.ContainsFunc(name, notInHost) {
			return fmt.Errorf("name %q must consist of 1 to %d letters, digits, dots, - and _", name, maxHost)
		}
	default:
		return fmt.Errorf("role %d is unknown", m.GetRole())
	}
	if a := m.GetGrpcAddress(); a != "" {
		// Without a host it means the host that the member gossips from.
		if strings.HasPrefix(a, ":") {
			a = "host" + a
		}
		if err := validAddress(a); err != nil {
			return fmt.Errorf("gRPC address: %w", err)
		}
	}
	for field, text := range map[string]string{"region": m.GetRegion(), "zone": m.GetZone(), "version": m.GetVersion()} {
		if err := validText(text); err != nil {
			return fmt.Errorf("%s %w", field, err)
		}
	}
	return nil
}

func validText(s string) error {
	if len(s) > maxText {
		return fmt.Errorf("has more than %d bytes", maxText)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("has characters that cannot be printed")
	}
	return nil
}

// validAddress wants host:port, where host is an IP address or could be a DNS
// name.
func validAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if net.ParseIP(host) != nil {
		return nil
	}
	if host == "" || len(host) > maxHost || strings.ContainsFunc(host, notInHost) {
		return fmt.Errorf("%q is not a host", host)
	}
	return nil
}

func notInHost(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		return false
	default:
		return true
	}
}

var roleNames = map[pmpb.NodeMeta_Role]string{
	pmpb.NodeMeta_ROLE_PM:  "pm",
	pmpb.NodeMeta_ROLE_CRM: "crm",
}

// nodeName is what a member is called in the pool.
func nodeName(m *pmpb.NodeMeta, instance string) string {
	return roleNames[m.GetRole()] + "/" + m.GetName() + "/" + instance
}

// instanceOf finds the instance in a member's name, which has to agree with
// what the member says about itself.
func instanceOf(name string, m *pmpb.NodeMeta) (string, error) {
	instance, ok := strings.CutPrefix(name, nodeName(m, ""))
	if !ok {
		return "", fmt.Errorf("calls itself %q, which does not fit to its role and name", name)
	}
	return instance, validInstance(instance)
}

func validInstance(instance string) error {
	if instance == "" || len(instance) > maxInstance || strings.ContainsFunc(instance, notInHost) {
		return fmt.Errorf("instance %q must have 1 to %d letters, digits and -", instance, maxInstance)
	}
	return nil
}
