package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// bucket is a target in an S3-compatible store.
type bucket struct {
	client *minio.Client
	name   string
	// prefix ends with a slash, or is empty.
	prefix string
	where  string
}

func openS3(u *url.URL, creds Credentials) (Target, error) {
	if u.Host == "" {
		return nil, errors.New("backup: want s3://bucket/prefix")
	}
	q := u.Query()
	for key := range q {
		switch key {
		case "endpoint", "region", "path-style":
		default:
			return nil, fmt.Errorf("backup: s3 targets have no setting %q; there are endpoint, region and path-style", key)
		}
	}
	endpoint, err := url.Parse(q.Get("endpoint"))
	if q.Get("endpoint") == "" {
		endpoint, err = &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}, nil
	}
	if err != nil || endpoint.Host == "" || endpoint.User != nil || (endpoint.Scheme != "http" && endpoint.Scheme != "https") {
		return nil, errors.New("backup: the endpoint of an s3 target must be http://host:port or https://host:port")
	}
	lookup := minio.BucketLookupAuto
	if q.Has("endpoint") {
		lookup = minio.BucketLookupPath
	}
	if text := q.Get("path-style"); text != "" {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return nil, errors.New("backup: path-style must be true or false")
		}
		if lookup = minio.BucketLookupDNS; on {
			lookup = minio.BucketLookupPath
		}
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(creds.AccessKey, creds.SecretKey, creds.SessionToken),
		Secure: endpoint.Scheme == "https", Region: q.Get("region"), BucketLookup: lookup, MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	b := &bucket{client: client, name: u.Host, prefix: strings.Trim(path.Clean(u.Path), "/.")}
	if b.prefix != "" {
		b.prefix += "/"
	}
	b.where = fmt.Sprintf("s3://%s/%s at %s", b.name, b.prefix, endpoint.Host)
	return b, nil
}

func (b *bucket) String() string { return b.where }

// Put is atomic by itself: an object appears when all of it has arrived.
func (b *bucket) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	_, err := b.client.PutObject(ctx, b.name, b.prefix+name, r, size, minio.PutObjectOptions{ContentType: "application/octet-stream"})
	return b.explain(name, err)
}

func (b *bucket) List(ctx context.Context) ([]Object, error) {
	// The listing runs in a goroutine of the client, which ends with the context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var out []Object
	for o := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, b.explain("", o.Err)
		}
		if name := strings.TrimPrefix(o.Key, b.prefix); !strings.Contains(name, "/") {
			out = append(out, Object{Name: name, Size: o.Size})
		}
	}
	return out, ctx.Err()
}

func (b *bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.explain(name, err)
	}
	// The client asks for nothing before the first read.
	if _, err := o.Stat(); err != nil {
		return nil, errors.Join(b.explain(name, err), o.Close())
	}
	return o, nil
}

func (b *bucket) Delete(ctx context.Context, name string) error {
	return b.explain(name, b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{}))
}

func (b *bucket) explain(name string, err error) error {
	if err == nil {
		return nil
	}
	answer := minio.ToErrorResponse(err)
	switch {
	case answer.StatusCode == http.StatusNotFound && answer.Code != "NoSuchBucket":
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	case answer.StatusCode == http.StatusUnauthorized, answer.StatusCode == http.StatusForbidden, answer.Code == "NoSuchBucket":
		return fmt.Errorf("%w %s: %w", ErrRefused, b.where, err)
	}
	return fmt.Errorf("backup: %s: %w", b.where, err)
}
