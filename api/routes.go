package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"oaas.io/control-plane/registry"
)

const (
	apiPrefix  = "/api/v1/"
	maxPathVar = 1024
)

// endpoint answers a request, or returns an error before anything was written.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// methods are the endpoints of one resource. GET serves HEAD as well.
type methods map[string]endpoint

// Route is one resource of the API.
type Route struct {
	// Path is the template, for instance /api/v1/packages/{name}.
	Path    string
	Methods []string
}

type route struct {
	path    string
	methods methods
	// quiet routes are logged at debug level.
	quiet bool
	// at says which node answers.
	at placement
	// stream is for bodies of any length: progress is bounded, not the whole.
	stream bool
}

func (s *Server) routes() []route {
	notConfigured := func(text string) endpoint {
		return func(http.ResponseWriter, *http.Request) error { return fail(codeNotConfigured, "%s", text) }
	}
	scripts := notConfigured("Script service not configured")
	return append([]route{
		{path: "/api/v1/packages", methods: methods{http.MethodGet: s.listPackages, http.MethodPost: s.createPackage}},
		{path: "/api/v1/packages/{name}", methods: methods{
			http.MethodGet: s.getPackage, http.MethodPost: s.updatePackage, http.MethodPut: s.updatePackage, http.MethodDelete: s.deletePackage,
		}},
		{path: "/api/v1/classes", methods: methods{http.MethodGet: s.listClasses}},
		{path: "/api/v1/functions", methods: methods{http.MethodGet: s.listFunctions}},

		{path: "/api/v1/deployments", methods: methods{http.MethodGet: s.listDeployments, http.MethodPost: s.deploy}},
		{path: "/api/v1/deployments/{key}", methods: methods{http.MethodGet: s.getDeployment, http.MethodDelete: s.deleteDeployment}},
		{path: "/api/v1/deployments/{key}/cluster-mappings", methods: methods{http.MethodGet: s.envMappings}},
		{path: "/api/v1/deployments/{key}/env-mappings", methods: methods{http.MethodGet: s.envMappings}},
		{path: "/api/v1/deployments/{key}/units", methods: methods{http.MethodGet: s.listUnits}},
		{path: "/api/v1/deployments/{key}/plan", methods: methods{http.MethodGet: s.getPlan}},
		{path: "/api/v1/deployments/{key}/replan", methods: methods{http.MethodPost: s.replan}},
		{path: "/api/v1/deployments/{key}/plans", methods: methods{http.MethodGet: s.listPlans}},
		{path: "/api/v1/deployments/{key}/plans/{index}", methods: methods{http.MethodGet: s.getPastPlan}},
		{path: "/api/v1/deployments/{key}/rollout", methods: methods{http.MethodGet: s.getRollout}},
		{path: "/api/v1/deployments/{key}/rollout/pause", methods: methods{http.MethodPost: s.pauseRollout}},
		{path: "/api/v1/deployments/{key}/rollout/resume", methods: methods{http.MethodPost: s.resumeRollout}},
		{path: "/api/v1/deployments/{key}/rollout/abort", methods: methods{http.MethodPost: s.abortRollout}},
		{path: "/api/v1/deployments/{key}/revisions", methods: methods{http.MethodGet: s.listRevisions}},
		{path: "/api/v1/deployments/{key}/rollback", methods: methods{http.MethodPost: s.rollback}},
		{path: "/api/v1/deployments/{key}/events", methods: methods{http.MethodGet: s.listEvents}},
		{path: "/api/v1/deployments/{key}/move", methods: methods{http.MethodGet: s.getMove}},
		{path: "/api/v1/plan/simulate", methods: methods{http.MethodPost: s.simulate}},
		{path: "/api/v1/deletions", methods: methods{http.MethodGet: s.listDeletions}},
		{path: "/api/v1/deletions/{uid}", methods: methods{http.MethodGet: s.getDeletion, http.MethodDelete: s.abandonDeletion}},

		{path: "/api/v1/class-runtimes", methods: methods{http.MethodGet: s.listClassRuntimes}},
		{path: "/api/v1/class-runtimes/{id}", methods: methods{http.MethodGet: s.getClassRuntime}},
		{path: "/api/v1/deployment-status/{id}", methods: methods{http.MethodGet: s.getDeploymentStatus}},

		{path: "/api/v1/envs", methods: methods{http.MethodGet: s.listEnvs}},
		{path: "/api/v1/envs/health", methods: methods{http.MethodGet: s.listEnvHealth}},
		{path: "/api/v1/envs/{name}", methods: methods{http.MethodDelete: s.removeEnv}},
		{path: "/api/v1/envs/{name}/health", methods: methods{http.MethodGet: s.getEnvHealth}},
		{path: "/api/v1/envs/{name}/policy", methods: methods{http.MethodGet: s.getPolicy, http.MethodPut: s.putPolicy}},
		{path: "/api/v1/envs/{name}/drain", methods: methods{http.MethodGet: s.getDrain}},
		{path: "/api/v1/fleet", methods: methods{http.MethodGet: s.getFleet}},
		{path: "/api/v1/watch", at: onNode, stream: true, methods: methods{http.MethodGet: s.watch}},
		{path: "/api/v1/topology", methods: methods{http.MethodGet: s.topology}},
		{path: "/api/v1/members", methods: methods{http.MethodGet: s.listMembers}},
		{path: "/api/v1/members/{id}", methods: methods{http.MethodDelete: s.removeMember}},
		{path: "/api/v1/members/{id}/vote", methods: methods{http.MethodPut: s.putVote}},

		{path: "/api/v1/operator/leader/transfer", methods: methods{http.MethodPost: s.transferLeader}},
		{path: "/api/v1/operator/autopilot", at: onTheLeader, methods: methods{http.MethodGet: s.getAutopilot}},
		{path: "/api/v1/operator/autopilot/config", methods: methods{http.MethodGet: s.getAutopilotConfig, http.MethodPut: s.putAutopilotConfig}},
		{path: "/api/v1/operator/feature-level", methods: methods{http.MethodGet: s.getFeatureLevel, http.MethodPost: s.raiseFeatureLevel}},
		{path: "/api/v1/operator/alarms", methods: methods{http.MethodGet: s.listAlarms}},
		{path: "/api/v1/operator/audit", methods: methods{http.MethodGet: s.listAudit}},
		{path: "/api/v1/operator/node", at: onNode, methods: methods{http.MethodGet: s.getNode}},
		{path: "/api/v1/operator/metrics", at: onNode, quiet: true, methods: methods{http.MethodGet: s.scrape()}},
		{path: "/api/v1/operator/chain", at: onNode, methods: methods{http.MethodGet: s.getChain}},
		{path: "/api/v1/operator/doctor", at: onNode, methods: methods{http.MethodGet: s.getDoctor}},
		{path: "/api/v1/operator/raft/log", at: onNode, stream: true, methods: methods{http.MethodGet: s.getRaftLog}},
		{path: "/api/v1/operator/raft/tuning", at: onNode, methods: methods{http.MethodGet: s.getTuning, http.MethodPatch: s.patchTuning}},
		{path: "/api/v1/operator/snapshot", at: onNode, stream: true, methods: methods{http.MethodGet: s.getSnapshot}},
		{path: "/api/v1/operator/snapshot/restore", at: onTheLeader, stream: true, methods: methods{http.MethodPost: s.restoreSnapshot}},
		{path: "/api/v1/operator/backups", at: onTheLeader, stream: true, methods: methods{http.MethodGet: s.listBackups, http.MethodPost: s.runBackup}},
		{path: "/api/v1/operator/backups/{name}", at: onTheLeader, stream: true, methods: methods{http.MethodGet: s.getBackup}},
		{path: "/api/v1/operator/logs", at: onNode, stream: true, methods: methods{http.MethodGet: s.getLogs}},
		{path: "/api/v1/operator/debug/pprof/{profile}", at: onNode, stream: true, methods: methods{http.MethodGet: s.getProfile}},

		{path: "/api/v1/artifacts", methods: methods{http.MethodGet: scripts}},
		{path: "/api/v1/artifacts/{id}", methods: methods{http.MethodGet: notConfigured("Artifact store not configured")}},
		{path: "/api/v1/scripts/compile", methods: methods{http.MethodPost: scripts}},
		{path: "/api/v1/scripts/build", methods: methods{http.MethodPost: scripts}},
		{path: "/api/v1/scripts/test", methods: methods{http.MethodPost: scripts}},
		{path: "/api/v1/scripts/deploy", methods: methods{http.MethodPost: scripts}},
		{path: "/api/v1/scripts/{package}/{function}", methods: methods{http.MethodGet: scripts}},

		{path: "/health", quiet: true, methods: methods{http.MethodGet: s.health}},
		{path: "/livez", quiet: true, methods: methods{http.MethodGet: s.livez}},
		{path: "/readyz", quiet: true, methods: methods{http.MethodGet: s.readyz}},
	}, s.opts.moreRoutes...)
}

// Routes lists the resources in the order in which they are matched.
func (s *Server) Routes() []Route {
	var out []Route
	for _, rt := range s.routes() {
		out = append(out, Route{Path: rt.path, Methods: rt.methods.names()})
	}
	return out
}

func (s *Server) router() http.Handler {
	// Paths are matched as they were sent: a name may hold an encoded slash, and
	// no redirect stands between a client and its answer.
	m := mux.NewRouter().UseEncodedPath().SkipClean(true)
	for _, rt := range s.routes() {
		m.Handle(rt.path, s.resource(rt))
	}
	m.Handle("/metrics", s.resource(route{path: "/metrics", quiet: true, methods: methods{http.MethodGet: s.scrape()}}))
	m.PathPrefix(gatewayPrefix).Handler(s.gateway())
	m.NotFoundHandler = s.fallback()
	return m
}

// scrape tells the node's metrics.
func (s *Server) scrape() endpoint {
	h := promhttp.HandlerFor(s.opts.Metrics, promhttp.HandlerOpts{})
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}

// resource picks the endpoint by method and bounds the request's time.
func (s *Server) resource(rt route) http.Handler {
	allow := strings.Join(rt.methods.names(), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		c.route, c.quiet = rt.path, rt.quiet
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handle, ok := rt.methods[method]
		if !ok {
			w.Header().Set("Allow", allow)
			s.writeProblem(w, r, fail(codeMethod, "%s is not possible here, only %s", r.Method, allow))
			return
		}
		if err := checkVars(r); err != nil {
			s.writeProblem(w, r, err)
			return
		}
		if rt.stream {
			streamed, request, end := s.unhurried(w, r)
			defer end()
			s.answer(streamed, request, rt, handle)
			return
		}
		timeout := s.opts.RequestTimeout
		if c.hop == nil {
			timeout += s.waitOf(r)
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		// A forwarded request's writer has no connection of its own.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + writeTimeout))
		s.answer(w, r.WithContext(ctx), rt, handle)
	})
}

// answer has the request answered here or by the node that it is for.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, rt route, handle endpoint) {
	r = withOrigin(r)
	relayed, err := s.place(w, r, rt.at)
	if !relayed && err == nil {
		err = handle(w, r)
	}
	if err != nil {
		s.writeProblem(w, r, err)
	}
}

func (m methods) names() []string {
	var out []string
	for name := range m {
		out = append(out, name)
		if name == http.MethodGet {
			out = append(out, http.MethodHead)
		}
	}
	slices.Sort(out)
	return out
}

// pathVar gives a path variable, percent-decoded once.
func pathVar(r *http.Request, name string) string {
	value, err := url.PathUnescape(mux.Vars(r)[name])
	if err != nil { // net/url has checked the path
		return ""
	}
	return value
}

// checkVars refuses path variables that cannot be names of anything.
func checkVars(r *http.Request) error {
	for name := range mux.Vars(r) {
		value := pathVar(r, name)
		switch {
		case value == "", len(value) > maxPathVar:
			return fail(registry.InvalidArgument, "The path's %s must have 1 to %d bytes", name, maxPathVar)
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			return fail(registry.InvalidArgument, "The path's %s is not valid text", name)
		}
	}
	return nil
}
