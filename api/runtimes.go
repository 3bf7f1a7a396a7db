package api

import (
	"net/http"
	"strings"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// classRuntime is a ClassRuntime as its cluster last reported it.
type classRuntime struct {
	ID                string          `json:"id"`
	DeploymentUnitID  string          `json:"deployment_unit_id"`
	PackageName       string          `json:"package_name"`
	ClassKey          string          `json:"class_key"`
	TargetEnvironment string          `json:"target_environment"`
	ClusterName       *string         `json:"cluster_name"`
	Status            *runtimeStatus  `json:"status"`
	NFRCompliance     *nfrCompliance  `json:"nfr_compliance"`
	ResourceRefs      []resourceRef   `json:"resource_refs"`
	CreatedAt         string          `json:"created_at"`
	UpdatedAt         string          `json:"updated_at"`
	PartitionCount    uint32          `json:"partition_count"`
	Conditions        []runtimeDetail `json:"conditions,omitempty"` // extension
}

type runtimeStatus struct {
	Condition   string           `json:"condition"`
	Phase       string           `json:"phase"`
	Message     *string          `json:"message"`
	LastUpdated string           `json:"last_updated"`
	Functions   []functionStatus `json:"functions,omitempty"`
}

type functionStatus struct {
	FunctionKey        string  `json:"function_key"`
	Service            string  `json:"service"`
	Port               uint16  `json:"port"`
	PredictedURL       string  `json:"predicted_url"`
	ObservedURL        *string `json:"observed_url"`
	Template           string  `json:"template"`
	Ready              *bool   `json:"ready"`
	Reason             *string `json:"reason"`
	Message            *string `json:"message"`
	LastTransitionTime *string `json:"last_transition_time"`
}

type nfrCompliance struct {
	OverallStatus      string  `json:"overall_status"`
	ThroughputStatus   *string `json:"throughput_status"`
	LatencyStatus      *string `json:"latency_status"`
	AvailabilityStatus *string `json:"availability_status"`
	LastChecked        string  `json:"last_checked"`
}

type resourceRef struct {
	Kind      string  `json:"kind"`
	Name      string  `json:"name"`
	Namespace *string `json:"namespace"`
	UID       *string `json:"uid"`
}

// runtimeDetail is a Kubernetes condition of the object.
type runtimeDetail struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
	LastTransitionTime string `json:"last_transition_time"`
}

// newClassRuntime needs a unit that has a report.
func newClassRuntime(u *pmpb.Unit) *classRuntime {
	rt, env := u.GetRuntime(), u.GetEnv()
	pkg := rt.GetPackageName()
	if pkg == "" {
		pkg = desiredOf(u).GetPackageName()
	}
	out := &classRuntime{
		ID: firstOf(rt.GetId(), u.GetId()), DeploymentUnitID: firstOf(rt.GetDeploymentUnitId(), u.GetId()),
		PackageName: pkg, ClassKey: rt.GetClassKey(),
		TargetEnvironment: rt.GetTargetEnvironment(), ClusterName: &env, Status: newRuntimeStatus(rt.GetStatus()),
		ResourceRefs: []resourceRef{}, CreatedAt: rt.GetCreatedAt(), UpdatedAt: rt.GetUpdatedAt(),
		PartitionCount: max(rt.GetPartitionCount(), 1),
	}
	if c := rt.GetNfrCompliance(); c != nil {
		out.NFRCompliance = &nfrCompliance{
			OverallStatus: c.GetOverallStatus(), ThroughputStatus: c.ThroughputStatus, LatencyStatus: c.LatencyStatus,
			AvailabilityStatus: c.AvailabilityStatus, LastChecked: c.GetLastChecked(),
		}
	}
	for _, ref := range rt.GetResourceRefs() {
		out.ResourceRefs = append(out.ResourceRefs, resourceRef{Kind: ref.GetKind(), Name: ref.GetName(), Namespace: ref.Namespace, UID: ref.Uid})
	}
	for _, c := range rt.GetConditions() {
		out.Conditions = append(out.Conditions, runtimeDetail{
			Type: c.GetType(), Status: c.GetStatus(), Reason: c.GetReason(), Message: c.GetMessage(), LastTransitionTime: c.GetLastTransitionTime(),
		})
	}
	return out
}

func newRuntimeStatus(st *oaaspb.ClassRuntimeStatus) *runtimeStatus {
	if st == nil {
		return nil
	}
	out := &runtimeStatus{
		Condition: conditionName(st.GetCondition()), Phase: phaseName(st.GetPhase()), Message: st.Message, LastUpdated: st.GetLastUpdated(),
	}
	for _, f := range st.GetFunctions() {
		out.Functions = append(out.Functions, functionStatus{
			FunctionKey: f.GetFunctionKey(), Service: f.GetService(), Port: uint16(f.GetPort()), //nolint:gosec // the contract truncates
			PredictedURL: f.GetPredictedUrl(), ObservedURL: f.ObservedUrl, Template: f.GetTemplate(), Ready: f.Ready,
			Reason: f.Reason, Message: f.Message, LastTransitionTime: f.LastTransitionTime,
		})
	}
	return out
}

func conditionName(c oaaspb.DeploymentCondition) string {
	switch c {
	case oaaspb.DeploymentCondition_PENDING:
		return "Pending"
	case oaaspb.DeploymentCondition_DEPLOYING:
		return "Deploying"
	case oaaspb.DeploymentCondition_RUNNING:
		return "Running"
	case oaaspb.DeploymentCondition_DOWN:
		return "Down"
	case oaaspb.DeploymentCondition_DELETED:
		return "Deleted"
	default:
		return "Unknown"
	}
}

func phaseName(p oaaspb.DeploymentPhase) string {
	switch p {
	case oaaspb.DeploymentPhase_RESOURCE_PROVISIONING:
		return "RESOURCE_PROVISIONING"
	case oaaspb.DeploymentPhase_PHASE_RUNNING:
		return "RUNNING"
	case oaaspb.DeploymentPhase_FAILED:
		return "FAILED"
	default:
		return "UNKNOWN"
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// listClassRuntimes answers from the state: what each cluster last reported.
// Offset and limit count over the whole filtered list.
func (s *Server) listClassRuntimes(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	keep, p := newRuntimeFilter(q), q.page()
	if q.err != nil {
		return q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	found := []*pmpb.Unit{}
	for _, u := range unitsIn(snap, keep.cluster) {
		if u.GetRuntime() != nil && keep.match(u) {
			found = append(found, u)
		}
	}
	list := []*classRuntime{}
	for _, u := range cut(found, p) {
		list = append(list, newClassRuntime(u))
	}
	return writeJSON(w, http.StatusOK, list)
}

// unitsIn gives the units of an environment, or all.
func unitsIn(snap *fsm.Snapshot, env string) []*pmpb.Unit {
	if env != "" {
		return snap.UnitsByEnv(env)
	}
	return snap.Units()
}

// runtimeFilter holds the filters of listClassRuntimes; empty ones match all.
type runtimeFilter struct {
	cluster, pkg, class, environment, status string
}

func newRuntimeFilter(q *query) runtimeFilter {
	return runtimeFilter{
		cluster: firstOf(q.text("env"), q.text("cluster")), pkg: q.text("package_name"), class: q.text("class_key"),
		environment: q.text("environment"), status: q.text("status"),
	}
}

// match compares with what the cluster reported and with what it was sent:
// managers differ in whether a class key carries its package.
func (f runtimeFilter) match(u *pmpb.Unit) bool {
	rt := u.GetRuntime()
	if !among(f.environment, u.GetEnv(), rt.GetTargetEnvironment()) ||
		!amongFold(f.status, conditionName(rt.GetStatus().GetCondition()), phaseName(rt.GetStatus().GetPhase()), rt.GetStatus().GetMessage()) {
		return false
	}
	if f.pkg == "" && f.class == "" {
		return true // what was sent need not be decoded
	}
	want := desiredOf(u)
	pkg := firstOf(want.GetPackageName(), rt.GetPackageName())
	return among(f.pkg, rt.GetPackageName(), want.GetPackageName()) &&
		among(f.class, rt.GetClassKey(), want.GetClassKey(), pkg+"."+want.GetClassKey(), strings.TrimPrefix(rt.GetClassKey(), pkg+"."))
}

// desiredOf gives nil, the message without contents, for what cannot be decoded.
func desiredOf(u *pmpb.Unit) *oaaspb.DeploymentUnit {
	d, err := fsm.Desired(u)
	if err != nil {
		return nil
	}
	return d
}

func among(want string, have ...string) bool {
	if want == "" {
		return true
	}
	for _, h := range have {
		if h == want {
			return true
		}
	}
	return false
}

func amongFold(want string, have ...string) bool {
	if want == "" {
		return true
	}
	for _, h := range have {
		if strings.EqualFold(h, want) {
			return true
		}
	}
	return false
}

func (s *Server) getClassRuntime(w http.ResponseWriter, r *http.Request) error {
	u, err := s.readUnit(w, r)
	if err != nil {
		return err
	}
	if u.GetRuntime() == nil {
		return fail(registry.NotFound, "Class runtime not found")
	}
	return writeJSON(w, http.StatusOK, newClassRuntime(u))
}

// readUnit gives the unit that the path names, nil when there is none in the
// environment that ?env or ?cluster asks for.
func (s *Server) readUnit(w http.ResponseWriter, r *http.Request) (*pmpb.Unit, error) {
	q := parseQuery(r.URL.RawQuery)
	env := firstOf(q.text("env"), q.text("cluster"))
	if q.err != nil {
		return nil, q.err
	}
	snap, err := s.read(w, r)
	if err != nil {
		return nil, err
	}
	if env != "" && snap.Cluster(env) == nil {
		return nil, fail(registry.InvalidArgument, "Invalid env: %s", env)
	}
	u := snap.Unit(pathVar(r, "id"))
	if u != nil {
		callOf(r.Context()).deployment = u.GetDeploymentKey()
	}
	if env != "" && u.GetEnv() != env {
		return nil, nil //nolint:nilnil // the callers have different texts for it
	}
	return u, nil
}

// deploymentStatus is the short status of one unit.
type deploymentStatus struct {
	ID          string  `json:"id"`
	Status      string  `json:"status"`
	Phase       string  `json:"phase"`
	Message     *string `json:"message"`
	LastUpdated string  `json:"last_updated"`
}

func (s *Server) getDeploymentStatus(w http.ResponseWriter, r *http.Request) error {
	u, err := s.readUnit(w, r)
	if err != nil {
		return err
	}
	if u == nil {
		return fail(registry.NotFound, "Deployment status not found")
	}
	st := u.GetRuntime().GetStatus()
	out := deploymentStatus{ID: u.GetId(), Status: "Pending", Phase: phaseName(st.GetPhase())}
	switch fsm.UnitCondition(u) {
	case model.ConditionRunning:
		out.Status = "Running"
	case model.ConditionDown, model.ConditionDeleted:
		out.Status = "Down"
	default:
	}
	message := "The cluster has not reported yet"
	switch {
	case u.GetWaiting() != nil && !fsm.Acknowledged(u):
		message = u.GetWaiting().GetMessage()
	case st != nil:
		message = st.GetMessage()
	}
	out.Message = &message
	updated, err := time.Parse(time.RFC3339Nano, st.GetLastUpdated())
	if err != nil {
		updated = s.opts.Now()
	}
	out.LastUpdated = offsetForm(updated)
	return writeJSON(w, http.StatusOK, out)
}

// offsetForm writes a time in UTC with the offset +00:00, as some answers of the
// contract do.
func offsetForm(t time.Time) string {
	return strings.TrimSuffix(zulu(t), "Z") + "+00:00"
}
