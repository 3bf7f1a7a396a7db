package tunnel

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"

	"oaas.io/control-plane/proto/tunnelpb"
)

// Cluster tells clusters apart: two of one name and with different UIDs are two.
type Cluster struct {
	// Name is that of the environment.
	Name string
	// UID of the cluster's kube-system namespace.
	UID string
}

func (c Cluster) String() string { return c.Name + " (uid " + c.UID + ")" }

// Limits of what an agent says of itself.
const (
	maxName     = 63
	maxUID      = 64
	maxInstance = 64
	maxVersion  = 128
)

// CheckUID refuses what cannot be the UID of a cluster.
func CheckUID(uid string) error { return checkWord("cluster_uid", uid, maxUID, "-._") }

// checkHello refuses what cannot be stored, shown and compared as it is.
func checkHello(hello *tunnelpb.Hello) error {
	if err := checkWord("cluster", hello.GetCluster(), maxName, "-_"); err != nil {
		return err
	}
	if err := CheckUID(hello.GetClusterUid()); err != nil {
		return err
	}
	if err := checkWord("instance", hello.GetInstance(), maxInstance, "-"); err != nil {
		return err
	}
	if v := hello.GetVersion(); len(v) > maxVersion || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("version has more than %d bytes, or some that cannot be printed", maxVersion)
	}
	return nil
}

// checkWord wants ASCII letters, digits and some marks.
func checkWord(what, word string, limit int, marks string) error {
	if word == "" {
		return fmt.Errorf("%s is missing", what)
	}
	if len(word) > limit {
		return fmt.Errorf("%s has %d characters, %d are possible", what, len(word), limit)
	}
	for _, r := range word {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(marks, r):
		default:
			return fmt.Errorf("%s has %q in it; letters, digits and any of %s are possible", what, r, marks)
		}
	}
	return nil
}

// newInstance begins with the time, so that a later start compares greater.
func newInstance(now time.Time) (string, error) {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("tunnel: instance: %w", err)
	}
	return fmt.Sprintf("%012x-%s", max(now.UnixMilli(), 0), hex.EncodeToString(random[:])), nil
}
