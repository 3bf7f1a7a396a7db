package local

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed stages/*.yaml.tmpl
var stageFiles embed.FS

// The expressions (jq) by which the stages tell pods and nodes apart.
const (
	// A pod's behavior: its annotation, else the variable SIM_BEHAVIOR of any container (so that a user of the product can
	// bring it about through the product's own API), else image-pull for an image with the tag "missing", else healthy.
	jqBehavior = `.metadata.annotations["sim.kwok/behavior"]` +
		` // ([.spec.containers[].env[]? | select(.name == "SIM_BEHAVIOR") | .value][0])` +
		` // (if any(.spec.containers[]; .image | endswith(":missing")) then "image-pull" else "healthy" end)`
	jqPhase    = `.status.phase`
	jqWaiting  = `.status.containerStatuses[0].state.waiting.reason // "none"`
	jqIsReady  = `.status.conditions[]? | select(.type == "Ready") | .status`
	jqOwner    = `.metadata.ownerReferences[]?.kind`
	jqNodeMode = `.metadata.annotations["sim.kwok/node"] // "up"`
)

// The states of a container, as YAML with kwok's template inside.
const (
	stateRunning = `{running: {startedAt: {{ $at | Quote }}}}`
	stateDone    = `{terminated: {exitCode: 0, reason: Completed, startedAt: {{ $at | Quote }}, finishedAt: {{ $at | Quote }}}}`
	stateFailed  = `{terminated: {exitCode: {{ or (index $notes "sim.kwok/exit-code") "1" }},` +
		` reason: {{ or (index $notes "sim.kwok/exit-reason") "Error" }}, startedAt: {{ $at | Quote }}, finishedAt: {{ $at | Quote }}}}`
)

func stateWaiting(reason, message string) string {
	return fmt.Sprintf("{waiting: {reason: %s, message: %q}}", reason, message)
}

// condition restricts a stage to pods for which the jq expression Key gives one of Values (a YAML list).
type condition struct{ Key, Values string }

func behaves(as string) condition      { return condition{jqBehavior, "[" + as + "]"} }
func inPhase(phases string) condition  { return condition{jqPhase, "[" + phases + "]"} }
func waitsFor(reason string) condition { return condition{jqWaiting, "[" + reason + "]"} }
func isReady(status string) condition  { return condition{jqIsReady, `["` + status + `"]`} }

// podStage is one transition of a simulated pod.
type podStage struct {
	Name string
	// When must hold before, and at least one part of it must not hold after the transition.
	When []condition
	// DelayMillis passes before the transition, unless the annotation sim.kwok/DelayFrom of the pod says another duration.
	DelayMillis int
	DelayFrom   string
	// Ready is the pod's condition Ready afterwards, "True" or "False".
	Ready string
	// ContainersReady, Started, State and LastState are those of every container; Restarts is added to its count.
	ContainersReady, Started bool
	State, LastState         string
	Restarts                 int
	// Begins marks the start of a pod, which also completes its init containers; Addresses gives it an address.
	Begins, Addresses bool
	// Phase is the new phase, or "" to keep the old one.
	Phase string
	// Event is a Kubernetes event to record, or "".
	Event string
}

func event(kind, reason, message string) string {
	return fmt.Sprintf("{type: %s, reason: %s, message: %q}", kind, reason, message)
}

// podStages is the whole state machine of a pod except for its deletion.
func podStages() []podStage {
	return []podStage{
		{
			Name: "pod-starts", When: []condition{behaves("healthy"), inPhase("Pending")}, DelayFrom: "start-delay",
			Ready: "True", ContainersReady: true, Started: true, State: stateRunning, Begins: true, Addresses: true, Phase: "Running",
		}, {
			Name: "pod-starts-unready", When: []condition{behaves("not-ready, crash-loop"), inPhase("Pending")}, DelayFrom: "start-delay",
			Ready: "False", Started: true, State: stateRunning, Begins: true, Addresses: true, Phase: "Running",
		}, {
			Name: "pod-becomes-unready", When: []condition{behaves("not-ready"), inPhase("Running"), isReady("True")},
			Ready: "False", Started: true, State: stateRunning, Event: event("Warning", "Unhealthy", "Readiness probe failed: simulated"),
		}, {
			Name: "pod-recovers", When: []condition{behaves("healthy"), inPhase("Running"), isReady("False")}, DelayFrom: "start-delay",
			Ready: "True", ContainersReady: true, Started: true, State: stateRunning, Addresses: true,
		}, {
			Name: "pod-crashes", When: []condition{behaves("crash-loop"), inPhase("Running"), waitsFor("none")}, DelayMillis: 300, DelayFrom: "crash-after",
			Ready: "False", State: stateWaiting("CrashLoopBackOff", "back-off restarting failed container"), LastState: stateFailed, Restarts: 1,
			Event: event("Warning", "BackOff", "Back-off restarting failed container"),
		}, {
			Name: "pod-restarts", When: []condition{behaves("crash-loop"), inPhase("Running"), waitsFor("CrashLoopBackOff")}, DelayMillis: 5000, DelayFrom: "backoff",
			// How the container ended before stays readable while it runs again.
			Ready: "False", Started: true, State: stateRunning, LastState: stateFailed,
		}, {
			Name: "pod-misses-its-image", When: []condition{behaves("image-pull"), inPhase("Pending"), waitsFor("none")},
			Ready: "False", State: stateWaiting("ErrImagePull", "manifest unknown"), Addresses: true,
			Event: event("Warning", "Failed", "Failed to pull image: manifest unknown"),
		}, {
			Name: "pod-waits-for-its-image", When: []condition{behaves("image-pull"), inPhase("Pending"), waitsFor("ErrImagePull")}, DelayMillis: 500, DelayFrom: "backoff",
			Ready: "False", State: stateWaiting("ImagePullBackOff", "Back-off pulling image"), Event: event("Normal", "BackOff", "Back-off pulling image"),
		}, {
			Name: "pod-of-job-completes", When: []condition{behaves("healthy"), inPhase("Running"), {jqOwner, "[Job]"}}, DelayMillis: 500, DelayFrom: "run-for",
			Ready: "False", State: stateDone, Phase: "Succeeded",
		}, {
			Name: "pod-fails", When: []condition{behaves("fail"), inPhase("Pending, Running")}, DelayMillis: 300, DelayFrom: "run-for",
			Ready: "False", State: stateFailed, Phase: "Failed",
		},
	}
}

// kwokConfig expands the stages into the one file that kwok reads.
func kwokConfig(logsFile string) ([]byte, error) {
	root := template.New("").Delims("[[", "]]")
	root.Funcs(template.FuncMap{
		"list": func(items ...string) []string { return items },
		"include": func(name string, data any) (string, error) {
			var out strings.Builder
			err := root.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"indent": func(width int, text string) string {
			return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", width))
		},
	})
	if _, err := root.ParseFS(stageFiles, "stages/*.yaml.tmpl"); err != nil {
		return nil, fmt.Errorf("parse stages: %w", err)
	}
	data := map[string]any{"NodeMode": jqNodeMode, "IsReady": jqIsReady, "PodStages": podStages(), "LogsFile": logsFile}
	var out bytes.Buffer
	for _, name := range []string{"nodes", "pods", "logs"} {
		if err := root.ExecuteTemplate(&out, name+".yaml.tmpl", data); err != nil {
			return nil, fmt.Errorf("expand stages: %w", err)
		}
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}
