package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"oaas.io/control-plane/model"
)

// server is a Package Manager as far as pmctl can see: it stores documents and
// answers what the test says the clusters are doing.
type server struct {
	*httptest.Server
	mu          sync.Mutex
	packages    []*model.OPackage
	deployments []*model.OClassDeployment
	// units are the answers to successive looks at a deployment's units; the last
	// one stays.
	units map[string][]string
	// rollouts are the answers to successive looks at a deployment's rollout, which has
	// none without them; timeline those at its events.
	rollouts, timeline map[string][]string
	revisions          string
	// deletions are the answers to successive looks at the deletions.
	deletions []string
	envs      string
	runtimes  string
	members   string
	// fail answers a request instead of the handlers when it is not nil.
	fail func(w http.ResponseWriter, r *http.Request) bool
	// writes are the requests that were not GET.
	writes []string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{units: map[string][]string{}, rollouts: map[string][]string{}, timeline: map[string][]string{}, revisions: "[]", envs: "[]", runtimes: "[]", members: "[]"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", reply(func() string { return `{"status":"healthy","service":"oprc-pm","version":"1.2.3"}` }))
	mux.HandleFunc("GET /api/v1/envs", reply(func() string { return s.envs }))
	mux.HandleFunc("GET /api/v1/class-runtimes", reply(func() string { return s.runtimes }))
	mux.HandleFunc("GET /api/v1/members", reply(func() string { return s.members }))
	mux.HandleFunc("GET /api/v1/deletions", reply(func() string { return next(&s.deletions, "[]") }))
	mux.HandleFunc("DELETE /api/v1/deletions/{uid}", func(w http.ResponseWriter, r *http.Request) { s.abandon(w, "shop.Old", r.PathValue("uid")) })
	mux.HandleFunc("GET /api/v1/packages", s.listPackages)
	mux.HandleFunc("POST /api/v1/packages", s.putPackage)
	mux.HandleFunc("GET /api/v1/packages/{name}", s.getPackage)
	mux.HandleFunc("POST /api/v1/packages/{name}", s.putPackage)
	mux.HandleFunc("DELETE /api/v1/packages/{name}", s.deletePackage)
	mux.HandleFunc("GET /api/v1/classes", s.listClasses)
	mux.HandleFunc("GET /api/v1/functions", s.listFunctions)
	mux.HandleFunc("GET /api/v1/deployments", s.listDeployments)
	mux.HandleFunc("POST /api/v1/deployments", s.deploy)
	mux.HandleFunc("GET /api/v1/deployments/{key}", s.getDeployment)
	mux.HandleFunc("DELETE /api/v1/deployments/{key}", s.deleteDeployment)
	mux.HandleFunc("GET /api/v1/deployments/{key}/units", s.getUnits)
	mux.HandleFunc("GET /api/v1/deployments/{key}/rollout", s.successive(s.rollouts))
	mux.HandleFunc("GET /api/v1/deployments/{key}/events", s.successive(s.timeline))
	mux.HandleFunc("GET /api/v1/deployments/{key}/revisions", reply(func() string { return s.revisions }))
	mux.HandleFunc("POST /api/v1/deployments/{key}/rollout/{verb}", s.changeRollout)
	mux.HandleFunc("POST /api/v1/deployments/{key}/rollback", s.changeRollout)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.Method != http.MethodGet {
			s.writes = append(s.writes, strings.TrimSuffix(r.Method+" "+r.URL.Path+"?"+forced(r), "?"))
		}
		if s.fail != nil && s.fail(w, r) {
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// forced is the query of a request that gives something up.
func forced(r *http.Request) string {
	if !r.URL.Query().Has("force") {
		return ""
	}
	return r.URL.RawQuery
}

func (s *server) abandon(w http.ResponseWriter, key, uid string) {
	answer(w, map[string]any{
		"id": key, "message": "1 unit is left behind", "deleted_envs": []string{"oaas-1", "oaas-2"}, "deployment_uid": uid,
		"orphaned": []map[string]string{{"env": "oaas-2", "unit_id": "cart-x81f02ab"}}, "pending_envs": []string{"oaas-1"},
	})
}

// next takes the next of several answers and stays with the last.
func next(answers *[]string, none string) string {
	if len(*answers) == 0 {
		return none
	}
	out := (*answers)[0]
	if len(*answers) > 1 {
		*answers = (*answers)[1:]
	}
	return out
}

func reply(body func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body()) }
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func problem(w http.ResponseWriter, status int, code, detail string, retryable bool) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	answer(w, map[string]any{"code": code, "detail": detail, "error": detail, "request_id": "req-1", "retryable": retryable})
}

func (s *server) findPackage(name string) int {
	return slices.IndexFunc(s.packages, func(p *model.OPackage) bool { return p.Name == name })
}

func (s *server) findDeployment(key string) int {
	return slices.IndexFunc(s.deployments, func(d *model.OClassDeployment) bool { return d.Key == key })
}

func (s *server) listPackages(w http.ResponseWriter, _ *http.Request) { answer(w, s.packages) }

func (s *server) getPackage(w http.ResponseWriter, r *http.Request) {
	i := s.findPackage(r.PathValue("name"))
	if i < 0 {
		problem(w, 404, "not-found", "Package not found: "+r.PathValue("name"), false)
		return
	}
	answer(w, s.packages[i])
}

func (s *server) putPackage(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p, err := model.DecodePackage(body)
	if err != nil {
		problem(w, 422, "schema-mismatch", err.Error(), false)
		return
	}
	if i := s.findPackage(p.Name); i >= 0 {
		s.packages[i] = p
	} else {
		s.packages = append(s.packages, p)
	}
	answer(w, map[string]any{"id": p.Name, "status": "created", "message": nil})
}

func (s *server) deletePackage(w http.ResponseWriter, r *http.Request) {
	i := s.findPackage(r.PathValue("name"))
	if i < 0 {
		problem(w, 404, "not-found", "Package not found: "+r.PathValue("name"), false)
		return
	}
	s.packages = slices.Delete(s.packages, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) listClasses(w http.ResponseWriter, _ *http.Request) {
	var out []model.OClass
	for _, p := range s.packages {
		for _, c := range p.Classes {
			c.Key = p.Name + "." + c.Key
			out = append(out, c)
		}
	}
	answer(w, out)
}

func (s *server) listFunctions(w http.ResponseWriter, _ *http.Request) {
	var out []model.OFunction
	for _, p := range s.packages {
		out = append(out, p.Functions...)
	}
	answer(w, out)
}

func (s *server) listDeployments(w http.ResponseWriter, r *http.Request) {
	out := []*model.OClassDeployment{}
	for _, d := range s.deployments {
		pkg, env := r.URL.Query().Get("package_name"), r.URL.Query().Get("target_env")
		if (pkg == "" || pkg == d.PackageName) && (env == "" || slices.Contains(d.TargetEnvs, env)) {
			out = append(out, d)
		}
	}
	answer(w, out)
}

func (s *server) deploy(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d, err := model.DecodeDeployment(body)
	if err != nil {
		problem(w, 422, "schema-mismatch", err.Error(), false)
		return
	}
	if s.findPackage(d.PackageName) < 0 {
		problem(w, 404, "not-found", "Package not found: "+d.PackageName, false)
		return
	}
	d.UpdatedAt = &fixedNow
	if i := s.findDeployment(d.Key); i >= 0 {
		s.deployments[i] = d
	} else {
		s.deployments = append(s.deployments, d)
	}
	answer(w, map[string]any{"id": "unit-1", "status": "created", "message": nil})
}

func (s *server) getDeployment(w http.ResponseWriter, r *http.Request) {
	i := s.findDeployment(r.PathValue("key"))
	if i < 0 {
		problem(w, 404, "not-found", "Deployment not found: "+r.PathValue("key"), false)
		return
	}
	answer(w, s.deployments[i])
}

func (s *server) deleteDeployment(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	if forced(r) != "" {
		s.abandon(w, key, "uid-1")
		return
	}
	i := s.findDeployment(key)
	if i < 0 {
		problem(w, 404, "not-found", "Deployment not found: "+key, false)
		return
	}
	envs := s.deployments[i].TargetEnvs
	s.deployments = slices.Delete(s.deployments, i, i+1)
	answer(w, map[string]any{"id": key, "message": "Deployment deleted across environments", "deleted_envs": envs})
}

func (s *server) getUnits(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	answers := s.units[key]
	if s.findDeployment(key) < 0 {
		problem(w, 404, "not-found", "Deployment not found: "+key, false)
		return
	}
	body := next(&answers, "[]")
	s.units[key] = answers
	_, _ = io.WriteString(w, body)
}

// successive answers with one after the other.
func (s *server) successive(answers map[string][]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key := r.PathValue("key")
		if len(answers[key]) == 0 {
			problem(w, 404, "not-found", "Deployment not found: "+key, false)
			return
		}
		list := answers[key]
		_, _ = io.WriteString(w, next(&list, ""))
		answers[key] = list
	}
}

// changeRollout answers with what was asked for as the phase.
func (s *server) changeRollout(w http.ResponseWriter, r *http.Request) {
	if s.findDeployment(r.PathValue("key")) < 0 {
		problem(w, 404, "not-found", "Deployment not found: "+r.PathValue("key"), false)
		return
	}
	body, _ := io.ReadAll(r.Body)
	phase := map[string]string{"pause": "Paused", "resume": "Progressing", "abort": "RollingBack", "": "None"}[r.PathValue("verb")]
	if strings.Contains(string(body), `"revision":9`) {
		problem(w, 404, "not-found", "Revision not found: shop.Cart has none of the number 9 among its last 10", false)
		return
	}
	answer(w, map[string]any{"id": r.PathValue("key"), "phase": phase, "revision": 3, "message": "done"})
}

// load puts a manifest into the server.
func (s *server) load(t *testing.T, text string) {
	t.Helper()
	docs, err := model.DecodeManifest([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if d.Deployment != nil {
			s.deployments = append(s.deployments, d.Deployment)
			continue
		}
		for i := range d.Package.Deployments {
			s.deployments = append(s.deployments, &d.Package.Deployments[i])
		}
		d.Package.Deployments = nil
		s.packages = append(s.packages, d.Package)
	}
}

// unit is the JSON of a unit; functions are written name=state, where the state
// is ready, unknown or a reason.
func unit(env, phase string, acknowledged bool, extra string, functions ...string) string {
	runtime := "null"
	if len(functions) > 0 {
		var list []string
		for _, f := range functions {
			name, state, _ := strings.Cut(f, "=")
			fields := map[string]any{"function_key": name, "service": name, "port": 80, "template": "k8s_deployment",
				"predicted_url": "http://" + name + ".svc", "ready": state == "ready"}
			switch state {
			case "ready":
			case "unknown":
				fields["ready"] = nil
			default:
				fields["reason"], fields["message"] = state, "message of "+name
			}
			raw, _ := json.Marshal(fields)
			list = append(list, string(raw))
		}
		runtime = fmt.Sprintf(`{"id":"cart-%s","deployment_unit_id":"cart-%s","package_name":"shop","class_key":"shop.Cart","cluster_name":%q,`+
			`"created_at":"2026-03-05T19:00:00Z","updated_at":"2026-03-05T19:30:00Z","status":{"condition":"Deploying","phase":"RESOURCE_PROVISIONING","message":"what the runtime says","functions":[%s]}}`,
			env, env, env, strings.Join(list, ","))
	}
	if extra != "" {
		extra = "," + extra
	}
	return fmt.Sprintf(`{"id":"cart-%s","env":%q,"phase":%q,"acknowledged":%v,"generation":2,"fence":7,"runtime":%s%s}`, env, env, phase, acknowledged, runtime, extra)
}

func units(list ...string) string { return "[" + strings.Join(list, ",") + "]" }
