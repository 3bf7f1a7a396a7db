package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
)

// extras are what few calls need besides path, query and body.
type extras struct {
	match string
	seen  func(http.Header)
	once  bool
}

type extrasKey struct{}

func extrasOf(ctx context.Context) extras {
	e, _ := ctx.Value(extrasKey{}).(extras)
	return e
}

// withHeaders has seen called with the headers of the answer.
func withHeaders(ctx context.Context, seen func(http.Header)) context.Context {
	e := extrasOf(ctx)
	e.seen = seen
	return context.WithValue(ctx, extrasKey{}, e)
}

// OnceAround has the calls with the context give up after every server was tried
// once, however long the client goes on otherwise.
func OnceAround(ctx context.Context) context.Context {
	e := extrasOf(ctx)
	e.once = true
	return context.WithValue(ctx, extrasKey{}, e)
}

// withMatch makes a write conditional on a version; none when that is empty.
func withMatch(ctx context.Context, version string) context.Context {
	e := extrasOf(ctx)
	e.match = version
	return context.WithValue(ctx, extrasKey{}, e)
}

// digester passes bytes on and digests them.
type digester struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func newDigest(w io.Writer) *digester { return &digester{w: w, sum: sha256.New()} }

func (d *digester) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.n += int64(n)
	d.sum.Write(p[:n])
	return n, err
}

func (d *digester) hex() string { return hex.EncodeToString(d.sum.Sum(nil)) }
