package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/registry"
)

const (
	gatewayPrefix         = "/api/gateway/"
	gatewayConnectTimeout = 10 * time.Second
)

var gatewayMethods = []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut}

// gateway proxies to the data plane's gateway. Bodies are streamed both ways and
// bounded: the request's by Options.MaxBodyBytes, everything by GatewayTimeout.
func (s *Server) gateway() http.Handler {
	proxy := s.gatewayProxy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		callOf(r.Context()).route = gatewayPrefix + "{path}"
		if !contains(gatewayMethods, r.Method) {
			w.Header().Set("Allow", strings.Join(gatewayMethods, ", "))
			s.writeProblem(w, r, fail(codeMethod, "The gateway knows only %s", strings.Join(gatewayMethods, ", ")))
			return
		}
		if proxy == nil {
			s.writeProblem(w, r, fail(codeNotConfigured, "Gateway proxy not configured. Set GATEWAY_URL environment variable."))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.opts.GatewayTimeout)
		defer cancel()
		// A client that stops sending or receiving must not hold the connection.
		limit := time.Now().Add(s.opts.GatewayTimeout + time.Second)
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(limit)
		_ = control.SetWriteDeadline(limit)
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, s.opts.MaxBodyBytes)
		proxy.ServeHTTP(w, r)
	})
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

func (s *Server) gatewayProxy() *httputil.ReverseProxy {
	if s.opts.GatewayURL == nil {
		return nil
	}
	base := *s.opts.GatewayURL
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.Host = ""
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.URL.User = base.Scheme, base.Host, base.User
			// The rest of the path goes on exactly as it came, encoded slashes included.
			rest := strings.TrimPrefix(p.In.URL.EscapedPath(), gatewayPrefix)
			raw := strings.TrimSuffix(base.EscapedPath(), "/") + "/" + rest
			p.Out.URL.RawPath = raw
			p.Out.URL.Path = strings.TrimSuffix(base.Path, "/") + "/" + strings.TrimPrefix(p.In.URL.Path, gatewayPrefix)
			p.Out.URL.RawQuery = p.In.URL.RawQuery
		},
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: gatewayConnectTimeout}).DialContext,
			TLSHandshakeTimeout:   gatewayConnectTimeout,
			MaxIdleConnsPerHost:   64,
			MaxConnsPerHost:       512,
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
			ResponseHeaderTimeout: s.opts.GatewayTimeout,
			// Bodies pass as they are, compressed or not.
			DisableCompression: true,
		},
		FlushInterval: -1,
		ErrorLog:      s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		ModifyResponse: func(resp *http.Response) error {
			// The browser must see one answer to its CORS question: ours.
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					resp.Header.Del(name)
				}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var tooLarge *http.MaxBytesError
			switch {
			case errors.As(err, &tooLarge):
				s.writeProblem(w, r, err)
			case errors.Is(err, context.Canceled):
				s.writeProblem(w, r, fail(registry.DeadlineExceeded, "The client went away"))
			default:
				s.writeProblem(w, r, &problem{code: codeGatewayFailed, detail: "Gateway request failed: " + err.Error(), cause: err})
			}
		},
	}
}
