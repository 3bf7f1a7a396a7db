package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultRetryAttempts  = 3
	defaultClusterTimeout = 30 * time.Second
	// defaultName is the cluster of CRM_DEFAULT_URL, and the preferred default
	// environment.
	defaultName = "default"
	// maxName is what a Kubernetes label value can hold.
	maxName = 63
)

// StaticConfig is what the environment variables say.
type StaticConfig struct {
	// Candidates in the order they are configured; by name for the JSON object
	// form, which has no order.
	Candidates []Candidate
	// Default is the environment for requests that name none; empty when
	// nothing is configured.
	Default string
	// Warnings are about settings that have no effect; for the log.
	Warnings []string
}

// ConfigError is a mistake in one environment variable.
type ConfigError struct {
	Variable string
	Problem  string
}

func (e *ConfigError) Error() string {
	return e.Variable + ": " + e.Problem
}

// Static reads the statically configured clusters. CRM_CLUSTERS_JSON comes
// before CRM_CLUSTERS, and that before CRM_DEFAULT_URL; only the first one that
// is not empty is looked at. None of them is no error: there are no static
// clusters then. Mistakes are *ConfigError.
func Static(getenv func(string) string) (*StaticConfig, error) {
	s := &staticParser{getenv: getenv, out: &StaticConfig{}}
	var err error
	switch {
	case getenv("CRM_CLUSTERS_JSON") != "":
		err = s.fromJSON("CRM_CLUSTERS_JSON")
	case getenv("CRM_CLUSTERS") != "":
		err = s.fromList("CRM_CLUSTERS")
	case getenv("CRM_DEFAULT_URL") != "":
		err = s.fromDefault()
	}
	if err != nil {
		return nil, err
	}
	s.chooseDefault()
	return s.out, nil
}

type staticParser struct {
	getenv func(string) string
	out    *StaticConfig
}

func (s *staticParser) warn(format string, args ...any) {
	s.out.Warnings = append(s.out.Warnings, fmt.Sprintf(format, args...))
}

func wrong(variable, format string, args ...any) error {
	return &ConfigError{Variable: variable, Problem: fmt.Sprintf(format, args...)}
}

// add appends a cluster after checking its name.
func (s *staticParser) add(variable string, c Candidate) error {
	if err := validName(c.Name); err != nil {
		return wrong(variable, "cluster name %q %v", c.Name, err)
	}
	if slices.ContainsFunc(s.out.Candidates, func(o Candidate) bool { return o.Name == c.Name }) {
		return wrong(variable, "cluster %q is configured twice", c.Name)
	}
	c.Source = SourceStatic
	if err := s.checkTLS(c); err != nil {
		return wrong(variable, "cluster %q: tls: %v", c.Name, err)
	}
	s.out.Candidates = append(s.out.Candidates, c)
	return nil
}

// checkTLS refuses half a configuration, and tells of what is set in vain or weakens
// the connection.
func (s *staticParser) checkTLS(c Candidate) error {
	_, secure := SplitAddress(c.Address)
	switch {
	case c.TLS == nil:
		return nil
	case !secure:
		// oaas-rs takes such settings and connects without TLS; so a configuration that
		// works there goes on working.
		s.warn("the TLS settings of cluster %q have no effect: its URL does not begin with https://", c.Name)
		return nil
	case (c.TLS.ClientCert == "") != (c.TLS.ClientKey == ""):
		return errors.New("the client's certificate and its key are only possible together")
	case c.TLS.Insecure && (c.TLS.CACert != "" || c.TLS.ServerName != ""):
		return errors.New("to accept any certificate, and to ask for a certain one, exclude each other")
	case c.TLS.ServerName != "" && (len(c.TLS.ServerName) > maxHost || strings.ContainsFunc(c.TLS.ServerName, notInHost)):
		return fmt.Errorf("server name %q is not a host", c.TLS.ServerName)
	case c.TLS.Insecure:
		s.warn("cluster %q: any certificate is accepted, so that anybody on the way can pretend to be its manager", c.Name)
	}
	return nil
}

// fromJSON reads {name: settings} or [{"name": …, settings}].
func (s *staticParser) fromJSON(variable string) error {
	text := strings.TrimSpace(s.getenv(variable))
	switch {
	case strings.HasPrefix(text, "{"):
		var clusters map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &clusters); err != nil {
			return wrong(variable, "%s", jsonProblem(err))
		}
		names := make([]string, 0, len(clusters))
		for name := range clusters {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			members, err := object(clusters[name])
			if err != nil {
				return wrong(variable, "cluster %q: %v", name, err)
			}
			if err := s.addJSON(variable, name, members); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(text, "["):
		var clusters []json.RawMessage
		if err := json.Unmarshal([]byte(text), &clusters); err != nil {
			return wrong(variable, "%s", jsonProblem(err))
		}
		for i, raw := range clusters {
			members, err := object(raw)
			if err != nil {
				return wrong(variable, "element %d: %v", i, err)
			}
			name, ok, err := member[string](members, "name")
			if err != nil || !ok {
				return wrong(variable, `element %d: needs a "name" that is a string`, i)
			}
			if err := s.addJSON(variable, name, members); err != nil {
				return err
			}
		}
		return nil
	default:
		return wrong(variable, "must be a JSON object {name: settings} or an array of settings with a name")
	}
}

func (s *staticParser) addJSON(variable, name string, members map[string]json.RawMessage) error {
	fail := func(err error) error { return wrong(variable, "cluster %q: %v", name, err) }
	c := Candidate{Name: name, RetryAttempts: defaultRetryAttempts}

	address, ok, err := member[string](members, "url")
	if err != nil {
		return fail(err)
	}
	if !ok {
		return fail(errors.New(`needs a "url"`))
	}
	if c.Address, err = dialAddress(address); err != nil {
		return fail(fmt.Errorf("url: %w", err))
	}
	if seconds, ok, err := member[uint64](members, "timeout"); err != nil {
		return fail(err)
	} else if ok {
		if c.Timeout, err = timeout(seconds); err != nil {
			return fail(err)
		}
	}
	if attempts, ok, err := member[uint32](members, "retry_attempts"); err != nil {
		return fail(err)
	} else if ok {
		c.RetryAttempts = attempts
	}
	if _, ok, err := member[string](members, "api_key"); err != nil {
		return fail(err)
	} else if ok {
		s.warn("%s: the api_key of cluster %q has no effect", variable, name)
	}
	if raw, ok, err := member[json.RawMessage](members, "tls"); err != nil {
		return fail(err)
	} else if ok {
		if c.TLS, err = tlsJSON(raw); err != nil {
			return fail(fmt.Errorf("tls: %w", err))
		}
	}
	return s.add(variable, c)
}

func tlsJSON(raw json.RawMessage) (*TLS, error) {
	members, err := object(raw)
	if err != nil {
		return nil, err
	}
	t := &TLS{}
	for key, to := range map[string]*string{"ca_cert": &t.CACert, "client_cert": &t.ClientCert, "client_key": &t.ClientKey, "server_name": &t.ServerName} {
		if *to, _, err = member[string](members, key); err != nil {
			return nil, err
		}
	}
	// Documented examples leave it out.
	if t.Insecure, _, err = member[bool](members, "insecure"); err != nil {
		return nil, err
	}
	return t, nil
}

// object keeps the members apart by their exact names, unlike decoding into a
// struct. Unknown members are ignored.
func object(raw json.RawMessage) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, errors.New("must be a JSON object")
	}
	return members, nil
}

// member reads one member; ok is false when it is absent or null.
func member[T any](members map[string]json.RawMessage, key string) (value T, ok bool, err error) {
	raw, ok := members[key]
	if !ok || string(raw) == "null" {
		return value, false, nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return value, false, fmt.Errorf("%q must be a %s", key, kind(value))
	}
	return value, true, nil
}

func kind(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case uint32:
		return "whole number from 0 to 4294967295"
	case uint64:
		return "whole number of seconds"
	default:
		return "JSON value"
	}
}

func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("invalid JSON at byte %d: %v", syntax.Offset, err)
	}
	return fmt.Sprintf("invalid JSON: %v", err)
}

// fromList reads a list of names; the settings of each are in variables whose
// names contain the cluster's name.
func (s *staticParser) fromList(variable string) error {
	for _, name := range strings.Split(s.getenv(variable), ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if err := validName(name); err != nil {
			return wrong(variable, "cluster name %q %v", name, err)
		}
		c, err := s.prefixed("CRM_CLUSTER_"+suffix(name), name)
		if err != nil {
			return err
		}
		if err := s.add(variable, c); err != nil {
			return err
		}
	}
	if len(s.out.Candidates) == 0 {
		return wrong(variable, "has no cluster name in it")
	}
	return nil
}

func (s *staticParser) prefixed(prefix, name string) (Candidate, error) {
	c := Candidate{Name: name, RetryAttempts: defaultRetryAttempts}
	address := s.getenv(prefix + "_URL")
	if address == "" {
		return c, wrong(prefix+"_URL", "is required for cluster %q", name)
	}
	var err error
	if c.Address, err = dialAddress(address); err != nil {
		return c, wrong(prefix+"_URL", "%v", err)
	}
	if v := s.getenv(prefix + "_TIMEOUT"); v != "" {
		// A value that cannot be read counts as unset here; the other forms
		// refuse it.
		if c.Timeout, err = parseTimeout(v); err != nil {
			s.warn("%s_TIMEOUT: %v; it counts as unset", prefix, err)
		}
	}
	if v := s.getenv(prefix + "_RETRY_ATTEMPTS"); v != "" {
		if n, err := strconv.ParseUint(v, 10, 32); err == nil {
			c.RetryAttempts = uint32(n)
		} else {
			s.warn("%s_RETRY_ATTEMPTS: %q is not a whole number; %d is used", prefix, v, defaultRetryAttempts)
		}
	}
	if s.getenv(prefix+"_API_KEY") != "" {
		s.warn("%s_API_KEY has no effect", prefix)
	}
	c.TLS = s.tlsVariables(prefix + "_TLS")
	return c, nil
}

// tlsVariables is nil when nothing asks for TLS.
func (s *staticParser) tlsVariables(prefix string) *TLS {
	t := &TLS{
		CACert:     s.getenv(prefix + "_CA_CERT_PATH"),
		ClientCert: s.getenv(prefix + "_CLIENT_CERT_PATH"),
		ClientKey:  s.getenv(prefix + "_CLIENT_KEY_PATH"),
		ServerName: s.getenv(prefix + "_SERVER_NAME"),
	}
	insecure := s.getenv(prefix + "_INSECURE")
	t.Insecure, _ = boolean(insecure)
	enabled, known := boolean(s.getenv(prefix + "_ENABLED"))
	if v := s.getenv(prefix + "_ENABLED"); v != "" && !known {
		s.warn("%s_ENABLED: %q is neither yes nor no; it is ignored", prefix, v)
	}
	if !enabled && insecure == "" && *t == (TLS{}) {
		return nil
	}
	return t
}

func (s *staticParser) fromDefault() error {
	c := Candidate{Name: defaultName, Timeout: defaultClusterTimeout, RetryAttempts: defaultRetryAttempts}
	var err error
	if c.Address, err = dialAddress(s.getenv("CRM_DEFAULT_URL")); err != nil {
		return wrong("CRM_DEFAULT_URL", "%v", err)
	}
	if v := s.getenv("CRM_DEFAULT_TIMEOUT"); v != "" {
		if c.Timeout, err = parseTimeout(v); err != nil {
			return wrong("CRM_DEFAULT_TIMEOUT", "%v", err)
		}
	}
	if v := s.getenv("CRM_DEFAULT_RETRY_ATTEMPTS"); v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return wrong("CRM_DEFAULT_RETRY_ATTEMPTS", "%q is not a whole number from 0 to 4294967295", v)
		}
		c.RetryAttempts = uint32(n)
	}
	return s.add("CRM_DEFAULT_URL", c)
}

// chooseDefault picks the environment for requests that name none.
func (s *staticParser) chooseDefault() {
	known := func(name string) bool {
		return slices.ContainsFunc(s.out.Candidates, func(c Candidate) bool { return c.Name == name })
	}
	wish := s.getenv("CRM_DEFAULT_CLUSTER")
	switch {
	case wish != "" && known(wish):
		s.out.Default = wish
		return
	case wish != "":
		s.warn("CRM_DEFAULT_CLUSTER: cluster %q is not configured", wish)
	}
	switch {
	case known(defaultName):
		s.out.Default = defaultName
	case len(s.out.Candidates) > 0:
		s.out.Default = s.out.Candidates[0].Name
	}
}

// schemes say which URLs of CRMs mean TLS, and the port of those without one.
var schemes = map[string]struct {
	secure bool
	port   string
}{
	"http": {false, "80"}, "https": {true, "443"}, "grpc": {false, "80"}, "grpcs": {true, "443"},
}

// dialAddress turns the URL of a CRM into an address.
func dialAddress(raw string) (string, error) {
	raw = strings.TrimSpace(raw)
	name, _, complete := strings.Cut(raw, "://")
	scheme, known := schemes[name]
	if !complete || !known {
		return "", fmt.Errorf("%q must begin with http:// or https://", raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("is not a URL: %w", err)
	}
	if u.User != nil {
		return "", fmt.Errorf("must not contain a user name or password")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q: only a host and a port are possible, nothing after them", raw)
	}
	port := u.Port()
	if port == "" {
		port = scheme.port
	}
	address := net.JoinHostPort(u.Hostname(), port)
	if err := validAddress(address); err != nil {
		return "", fmt.Errorf("%q: %w", raw, err)
	}
	return joinAddress(address, scheme.secure), nil
}

func parseTimeout(v string) (time.Duration, error) {
	seconds, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number of seconds", v)
	}
	return timeout(seconds)
}

func timeout(seconds uint64) (time.Duration, error) {
	if seconds == 0 || seconds > math.MaxInt64/uint64(time.Second) {
		return 0, fmt.Errorf("a timeout of %d seconds is not possible", seconds)
	}
	return time.Duration(seconds) * time.Second, nil
}

// boolean reads the spellings of yes and no; known is false for all others.
func boolean(v string) (value, known bool) {
	switch strings.ToLower(v) {
	case "1", "true", "yes", "on":
		return true, true
	case "0", "false", "no", "off":
		return false, true
	default:
		return false, false
	}
}

// suffix is the part of a variable's name that stands for the cluster. Names
// that differ in punctuation or case only share it, and thereby their settings.
func suffix(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, name)
}

// validName is the rule for the names of clusters.
func validName(name string) error {
	if name == "" {
		return errors.New("is empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("has more than %d characters", maxName)
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		default:
			return fmt.Errorf("contains %q; only letters, digits, - and _ are possible", r)
		}
	}
	return nil
}
