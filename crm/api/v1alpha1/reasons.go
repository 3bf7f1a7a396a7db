package v1alpha1

// ConditionType is the type of a condition.
type ConditionType string

// Condition types. The first block is what oaas-rs knows; the second follows
// kstatus, so that generic tools can wait for a ClassRuntime.
const (
	// ConditionAvailable is True while every function can be called with the
	// content of some generation, and False as soon as one cannot.
	ConditionAvailable ConditionType = "Available"
	// ConditionProgressing is True while a change is on its way.
	ConditionProgressing ConditionType = "Progressing"
	// ConditionDegraded is True while something does not work. Available may
	// be True at the same time: the old pods serve while the new ones fail.
	ConditionDegraded ConditionType = "Degraded"
	// ConditionNfrObserved is True while the requirements are measured.
	ConditionNfrObserved ConditionType = "NfrObserved"
	// ConditionTelemetryConfigured is True when the containers export telemetry.
	ConditionTelemetryConfigured ConditionType = "TelemetryConfigured"
	// ConditionTelemetryDegraded is True when telemetry is wanted but has
	// nowhere to go.
	ConditionTelemetryDegraded ConditionType = "TelemetryDegraded"
	// ConditionUnknown stands for a type that a reader does not know.
	ConditionUnknown ConditionType = "Unknown"

	// ConditionReady is True when the current generation runs completely.
	ConditionReady ConditionType = "Ready"
	// ConditionReconciling is True while the current generation is not yet
	// reached.
	ConditionReconciling ConditionType = "Reconciling"
	// ConditionStalled is True when only a change by a person can help.
	ConditionStalled ConditionType = "Stalled"
)

// Reason says why a condition has its status.
type Reason string

// Reasons. ReasonDocs has a row for every one of them.
const (
	// Usual life.
	ReasonPending           Reason = "Pending"
	ReasonApplying          Reason = "Applying"
	ReasonApplySuccessful   Reason = "ApplySuccessful"
	ReasonProgressing       Reason = "Progressing"
	ReasonReady             Reason = "Ready"
	ReasonDeleting          Reason = "Deleting"
	ReasonHealthy           Reason = "Healthy"
	ReasonRunsInODGM        Reason = "RunsInODGM"
	ReasonWaitingForODGM    Reason = "WaitingForODGM"
	ReasonScaledToZero      Reason = "ScaledToZero"
	ReasonNotReady          Reason = "NotReady"
	ReasonChildMissing      Reason = "ChildMissing"
	ReasonChildTerminating  Reason = "ChildTerminating"
	ReasonTelemetryEnabled  Reason = "TelemetryEnabled"
	ReasonTelemetryDisabled Reason = "TelemetryDisabled"
	ReasonNoEndpoint        Reason = "NoEndpoint"
	ReasonNfrObserved       Reason = "PrometheusQueryOK"
	// The function runs, and nobody scales it.
	ReasonAutoscalingUnavailable Reason = "AutoscalingUnavailable"
	// Only told as an event.
	ReasonSpecRestored Reason = "SpecRestored"

	// What a person has to change in the spec.
	ReasonInvalidSpec   Reason = "InvalidSpec"
	ReasonApplyRejected Reason = "ApplyRejected"

	// What the cluster refuses or lacks.
	ReasonApplyFailed              Reason = "ApplyFailed"
	ReasonForbidden                Reason = "Forbidden"
	ReasonFieldConflict            Reason = "FieldConflict"
	ReasonNameTaken                Reason = "NameTaken"
	ReasonQuotaExceeded            Reason = "QuotaExceeded"
	ReasonNamespaceTerminating     Reason = "NamespaceTerminating"
	ReasonCapabilityMissing        Reason = "CapabilityMissing"
	ReasonInsufficientCapacity     Reason = "InsufficientCapacity"
	ReasonPodsRejected             Reason = "PodsRejected"
	ReasonImagePullFailed          Reason = "ImagePullFailed"
	ReasonCrashLoop                Reason = "CrashLoop"
	ReasonContainerConfigError     Reason = "ContainerConfigError"
	ReasonProbeFailed              Reason = "ProbeFailed"
	ReasonKnativeFailed            Reason = "KnativeFailed"
	ReasonProgressDeadlineExceeded Reason = "ProgressDeadlineExceeded"
	ReasonReplicasUnavailable      Reason = "ReplicasUnavailable"
	ReasonDeletionBlocked          Reason = "DeletionBlocked"
)

// ReasonDoc documents one reason.
type ReasonDoc struct {
	// Reason is the documented reason.
	Reason Reason
	// Meaning says what the manager saw.
	Meaning string
	// Recovery says what a person can do, or that nothing has to be done.
	Recovery string
	// Degrades reports whether the reason makes the object Degraded.
	Degrades bool
	// Stalls reports whether only a change by a person can help. The manager
	// then retries rarely, in case the change was made elsewhere.
	Stalls bool
}

// reasonDocs is the one table of all reasons. Its order is that of the
// documentation: usual life first, then faults by who can mend them.
var reasonDocs = []ReasonDoc{
	{Reason: ReasonPending, Meaning: "Nothing was applied for this generation yet.", Recovery: "None; it starts by itself."},
	{Reason: ReasonApplying, Meaning: "The children are being written.", Recovery: "None; it continues by itself."},
	{Reason: ReasonApplySuccessful, Meaning: "All children are written.", Recovery: "None."},
	{Reason: ReasonProgressing, Meaning: "The children are written but not all are ready.", Recovery: "None until the progress deadline."},
	{Reason: ReasonReady, Meaning: "Everything of the current generation runs.", Recovery: "None."},
	{Reason: ReasonDeleting, Meaning: "The children are being removed.", Recovery: "None; the object goes when the last child is gone."},
	{Reason: ReasonHealthy, Meaning: "Nothing is wrong.", Recovery: "None."},
	{Reason: ReasonRunsInODGM, Meaning: "The WASM function runs inside the object store, which is ready.", Recovery: "None."},
	{Reason: ReasonWaitingForODGM, Meaning: "The WASM function runs inside the object store, which is not ready.", Recovery: "Look at the object store's Deployment."},
	{Reason: ReasonScaledToZero, Meaning: "The function is scaled to zero on purpose.", Recovery: "Raise min_scale to have it run."},
	{Reason: ReasonNotReady, Meaning: "The workload has fewer ready replicas than wanted.", Recovery: "None until the progress deadline."},
	{Reason: ReasonChildMissing, Meaning: "A child was removed by someone else.", Recovery: "None; it is written again."},
	{Reason: ReasonChildTerminating, Meaning: "A child is being deleted by someone else.", Recovery: "None; it is written again when it is gone."},
	{Reason: ReasonTelemetryEnabled, Meaning: "The containers export telemetry.", Recovery: "None."},
	{Reason: ReasonTelemetryDisabled, Meaning: "Telemetry is off.", Recovery: "Set telemetry.enabled to have it."},
	{Reason: ReasonNoEndpoint, Meaning: "Telemetry is on but the manager has no collector endpoint.", Recovery: "Configure the manager's OTLP endpoint, or switch telemetry off."},
	{Reason: ReasonNfrObserved, Meaning: "The requirements are measured.", Recovery: "None."},
	{Reason: ReasonAutoscalingUnavailable, Meaning: "The function runs, but its autoscaler cannot tell how busy it is, so it keeps the replicas that it has.", Recovery: "Install a metrics server, or look at the conditions of the HorizontalPodAutoscaler."},
	{Reason: ReasonSpecRestored, Meaning: "The spec was changed by hand and is set back to what the control plane sent.", Recovery: "Change the deployment instead."},

	{Reason: ReasonInvalidSpec, Meaning: "The spec cannot be rendered.", Recovery: "Change the field that the message names.", Degrades: true, Stalls: true},
	{Reason: ReasonApplyRejected, Meaning: "The API server refuses a child as invalid.", Recovery: "Change the field that the message names, or the policy that refuses it.", Degrades: true, Stalls: true},

	{Reason: ReasonApplyFailed, Meaning: "Writing a child failed, for a cause that may pass.", Recovery: "None at first; it is retried. If it lasts, look at the API server.", Degrades: true},
	{Reason: ReasonForbidden, Meaning: "The manager may not write a child.", Recovery: "Grant the manager's service account the right that the message names.", Degrades: true},
	{Reason: ReasonFieldConflict, Meaning: "Another manager owns a field that the class defines.", Recovery: "Remove the other manager's claim, or stop it from writing the field.", Degrades: true},
	{Reason: ReasonNameTaken, Meaning: "An object of the child's name exists and belongs to someone else.", Recovery: "Delete or rename that object.", Degrades: true},
	{Reason: ReasonQuotaExceeded, Meaning: "A quota of the namespace refuses a child or its pods.", Recovery: "Raise the quota or lower requests or replicas.", Degrades: true},
	{Reason: ReasonNamespaceTerminating, Meaning: "The namespace is being deleted, so nothing new can be written.", Recovery: "None; deploy into another namespace.", Degrades: true},
	{Reason: ReasonCapabilityMissing, Meaning: "The chosen template needs an API that the cluster lacks.", Recovery: "Install the API or choose another template.", Degrades: true},
	{Reason: ReasonPodsRejected, Meaning: "The API server refuses the pods of a workload.", Recovery: "Change what the message names, or the policy that refuses the pods.", Degrades: true},
	{Reason: ReasonInsufficientCapacity, Meaning: "The scheduler finds no node for a pod.", Recovery: "Add nodes, lower the requests, or move the class to another cluster.", Degrades: true},
	{Reason: ReasonImagePullFailed, Meaning: "A node cannot get an image.", Recovery: "Correct the image name, or give the namespace the pull secret.", Degrades: true},
	{Reason: ReasonCrashLoop, Meaning: "A container ends again and again.", Recovery: "Read the container's log: kubectl logs --previous.", Degrades: true},
	{Reason: ReasonContainerConfigError, Meaning: "A container cannot be created from its configuration.", Recovery: "Create the object that the message names or correct the configuration.", Degrades: true},
	{Reason: ReasonProbeFailed, Meaning: "A container runs but does not become ready.", Recovery: "Check that the function listens on its port.", Degrades: true},
	{Reason: ReasonKnativeFailed, Meaning: "Knative gives up on a revision of a function, or cannot route calls to it.", Recovery: "Do what the message says; kubectl describe revision tells more.", Degrades: true},
	{Reason: ReasonProgressDeadlineExceeded, Meaning: "The children did not become ready in time and no cause is known.", Recovery: "Look at the events of the Deployment that the message names.", Degrades: true},
	{Reason: ReasonReplicasUnavailable, Meaning: "Replicas that were ready are not ready any more.", Recovery: "Look at the pods and nodes of the Deployment that the message names.", Degrades: true},
	{Reason: ReasonDeletionBlocked, Meaning: "A child does not go away in time.", Recovery: "Remove the finalizer that holds the child, after doing what it stands for.", Degrades: true},
}

// ReasonDocs returns the table of all reasons. The caller owns the copy.
func ReasonDocs() []ReasonDoc {
	return append([]ReasonDoc(nil), reasonDocs...)
}

// Doc returns the documentation of the reason, and false if it has none.
func (r Reason) Doc() (ReasonDoc, bool) {
	for _, doc := range reasonDocs {
		if doc.Reason == r {
			return doc, true
		}
	}
	return ReasonDoc{}, false
}
