package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotFound says that a target has nothing under a name.
var ErrNotFound = errors.New("backup: no such backup")

// ErrRefused says that a target does not let this node in, or that there is none
// of that name. Trying again does not help, another setting does.
var ErrRefused = errors.New("backup: refused by the target")

// Target is where backups are kept. Names have no directories. Its methods are
// safe for concurrent use.
type Target interface {
	// Put stores size bytes under name, whole or not at all.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	// List gives everything in the target, in any order; also what is no backup.
	List(ctx context.Context) ([]Object, error)
	// Get opens what is under name. The error matches ErrNotFound when there is
	// nothing.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// Delete removes what is under name, if there is something.
	Delete(ctx context.Context, name string) error
	// String says where it is, without secrets.
	String() string
}

// Object is one thing in a target.
type Object struct {
	Name string
	Size int64
}

// Credentials are those of a bucket.
type Credentials struct {
	AccessKey, SecretKey, SessionToken string
}

// String hides what must not be logged.
func (c Credentials) String() string { return "(hidden)" }

// GoString hides it too.
func (c Credentials) GoString() string { return "(hidden)" }

// Open makes a target from its address:
//
//	/var/backups/pm, file:///var/backups/pm    a directory, made when missing
//	s3://bucket/prefix                         Amazon S3
//	s3://bucket/prefix?endpoint=https://minio.example:9000&region=r&path-style=true
//
// path-style is on by default when an endpoint is named.
func Open(address string, creds Credentials) (Target, error) { return open(address, creds, Dir) }

// OpenExisting is Open for a reader, who makes no directory.
func OpenExisting(address string, creds Credentials) (Target, error) {
	return open(address, creds, func(path string) (Target, error) {
		if info, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("backup: %s is no directory", path)
		}
		return &directory{path: path}, nil
	})
}

func open(address string, creds Credentials, dir func(path string) (Target, error)) (Target, error) {
	if !strings.Contains(address, "://") {
		if address == "" || !filepath.IsAbs(address) {
			return nil, fmt.Errorf("backup: %q is neither an absolute path nor s3://bucket", address)
		}
		return dir(address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("backup: the target's address cannot be read") // it may hold a secret
	}
	if u.User != nil {
		return nil, errors.New("backup: a target's address must not hold credentials; put them into the environment or a file")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return nil, fmt.Errorf("backup: want file:///an/absolute/path")
		}
		return dir(u.Path)
	case "s3":
		return openS3(u, creds)
	default:
		return nil, fmt.Errorf("backup: targets of the kind %q are not known; there are file and s3", u.Scheme)
	}
}
