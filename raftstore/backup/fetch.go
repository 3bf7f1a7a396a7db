package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrDamaged says that a backup is not what was stored under its name.
var ErrDamaged = errors.New("backup: damaged")

// List gives the backups that a target holds, of whichever cluster, newest first.
// It needs no node, as there may be none left.
func List(ctx context.Context, t Target) ([]Backup, error) {
	objects, err := t.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []Backup
	for _, o := range objects {
		if b, ok := parseName(o.Name, o.Size); ok {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b Backup) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Name, a.Name)) })
	return out, nil
}

// Fetch writes the backup of that name to w and compares it with the digest in its
// name; the result has all digits of it. After an error, which matches ErrNotFound when there is no such backup and
// ErrDamaged when it is another one, what was written is of no use.
func Fetch(ctx context.Context, t Target, name string, w io.Writer) (*Backup, error) {
	b, ok := parseName(name, 0)
	if !ok {
		return nil, fmt.Errorf("%w: %.200q is not the name of one", ErrNotFound, name)
	}
	size, sum, err := copyTo(ctx, w, t, name)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(sum, b.Digest) {
		return nil, fmt.Errorf("%w: %s has the SHA-256 %s", ErrDamaged, name, sum)
	}
	b.Size, b.Digest = size, sum
	return &b, nil
}

// copyTo writes what is under name to w and gives its size and its SHA-256 in hex.
func copyTo(ctx context.Context, w io.Writer, t Target, name string) (size int64, sum string, err error) {
	r, err := t.Get(ctx, name)
	if err != nil {
		return 0, "", fmt.Errorf("backup: reading %s: %w", name, err)
	}
	defer func() { _ = r.Close() }() // only read
	digest := sha256.New()
	size, err = io.Copy(io.MultiWriter(w, digest), &contextReader{ctx, r})
	if err != nil {
		return size, "", fmt.Errorf("backup: reading %s: %w", name, err)
	}
	return size, hex.EncodeToString(digest.Sum(nil)), nil
}
