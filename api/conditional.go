package api

import (
	"crypto/sha256"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"oaas.io/control-plane/registry"
)

const maxIdempotencyKey = 255

// etag names one version of one incarnation of an object. The incarnation is the
// uid of a deployment and the create index of anything else.
func etag(incarnation string, modifyIndex uint64) string {
	return `"` + incarnation + "." + formatIndex(modifyIndex) + `"`
}

// precondition reads If-Match and If-None-Match. Modify indexes are indexes of
// the log, so no two versions of anything share one, and the index alone decides.
func precondition(h http.Header) (registry.Precondition, error) {
	var p registry.Precondition
	switch value := strings.TrimSpace(h.Get("If-None-Match")); value {
	case "":
	case "*":
		p.MustNotExist = true
	default:
		return p, fail(registry.InvalidArgument, "A write understands If-None-Match: * only, got %q", value)
	}
	value := strings.TrimSpace(h.Get("If-Match"))
	if value == "" {
		return p, nil
	}
	if p.MustNotExist {
		return p, fail(registry.InvalidArgument, "If-Match and If-None-Match exclude each other")
	}
	if len(h.Values("If-Match")) > 1 || strings.Contains(value, ",") || value == "*" {
		return p, fail(registry.InvalidArgument, "If-Match must name one version: the ETag of an earlier answer")
	}
	inner, quoted := strings.CutPrefix(value, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	dot := strings.LastIndexByte(inner, '.')
	index, err := strconv.ParseUint(inner[dot+1:], 10, 64)
	if !quoted || !closed || dot < 1 || err != nil || index == 0 {
		return p, fail(registry.PreconditionFailed, "If-Match names no version of the object: %s", value)
	}
	p.ModifyIndex = &index
	return p, nil
}

// headerRetryKey carries the key that the node which took a request made for it.
// It means something between nodes only; a client's is dropped.
const headerRetryKey = "Pm-Retry-Key"

// idempotency reads the Idempotency-Key. A request without one gets a key of this
// node's own, so that it can be tried again when the leader is lost on the way:
// the client then need not know. body is the document without white space, so
// that the hash does not depend on the node that the request reached. How long its client
// waits for the effect is not part of what a request asks for.
func (s *Server) idempotency(r *http.Request, body []byte, reply func(any) (int, []byte)) (*registry.Idempotency, error) {
	if callOf(r.Context()).hop == nil {
		r.Header.Del(headerRetryKey)
	}
	key, ephemeral := r.Header.Get(headerIdempotencyKey), false
	if key == "" {
		if key = s.retryKey(r); key == "" {
			return nil, nil //nolint:nilnil // no key is not an error
		}
		ephemeral = true
	} else if len(key) > maxIdempotencyKey || !visibleASCII(key) {
		return nil, fail(registry.InvalidArgument, "Idempotency-Key must be at most %d visible ASCII characters", maxIdempotencyKey)
	}
	sum, parts := sha256.New(), []string{r.Method, r.URL.EscapedPath(), string(body)}
	if asked := r.URL.Query(); len(asked) > 0 {
		asked.Del("wait")
		if text := asked.Encode(); text != "" {
			parts = append(parts, text)
		}
	}
	for _, part := range parts {
		// Lengths keep the parts apart.
		sum.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return &registry.Idempotency{Key: key, Ephemeral: ephemeral, RequestHash: sum.Sum(nil), Reply: reply}, nil
}

// retryKey gives the key of a request whose client gave none, empty while the
// cluster has servers that do not know such keys. The space keeps it apart from
// every key that a client can give.
func (s *Server) retryKey(r *http.Request) string {
	if callOf(r.Context()).hop == nil && s.opts.Registry.State().Snapshot().FeatureLevel() >= 2 {
		r.Header.Set(headerRetryKey, "retry "+uuid.NewString())
	}
	return r.Header.Get(headerRetryKey)
}
