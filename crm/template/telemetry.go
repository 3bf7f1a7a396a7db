package template

import (
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// defaultSamplingRate is the share of traces kept when the spec does not say.
const defaultSamplingRate = 0.1

// envVar is one environment variable.
type envVar struct{ name, value string }

// TelemetryState says whether the containers export telemetry.
type TelemetryState int

// Telemetry states.
const (
	// TelemetryOff: not wanted.
	TelemetryOff TelemetryState = iota
	// TelemetryOn: wanted, and there is an endpoint.
	TelemetryOn
	// TelemetryNoEndpoint: wanted, but there is no endpoint.
	TelemetryNoEndpoint
)

// Telemetry says whether the containers of the spec export telemetry.
func Telemetry(spec *v1alpha1.ClassRuntimeSpec, options TelemetryOptions) TelemetryState {
	enabled := options.Enabled
	if spec.Telemetry != nil && spec.Telemetry.Enabled != nil {
		enabled = *spec.Telemetry.Enabled
	}
	switch {
	case !enabled:
		return TelemetryOff
	case options.Endpoint == "":
		return TelemetryNoEndpoint
	}
	return TelemetryOn
}

// telemetryEnv returns the OpenTelemetry variables, none unless telemetry is on:
// without an endpoint an exporter would only fill the log with errors.
func telemetryEnv(in Input, defaultService string) []envVar {
	options := in.Environment.Telemetry
	if Telemetry(in.Spec, options) != TelemetryOn {
		return nil
	}
	t := in.Spec.Telemetry
	if t == nil {
		t = &v1alpha1.Telemetry{}
	}
	service, rate := defaultService, defaultSamplingRate
	if t.ServiceName != "" {
		service = t.ServiceName
	}
	if t.SamplingRate != nil {
		rate = *t.SamplingRate
	}
	out := []envVar{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", options.Endpoint},
		{"OTEL_SERVICE_NAME", service},
		{"OTEL_TRACES_ENABLED", boolText(t.Traces, true)},
		{"OTEL_METRICS_ENABLED", boolText(t.Metrics, true)},
		{"OTEL_LOGS_ENABLED", boolText(t.Logs, false)},
	}
	if rate < 1 {
		out = append(out,
			envVar{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio"},
			envVar{"OTEL_TRACES_SAMPLER_ARG", strconv.FormatFloat(rate, 'f', -1, 64)})
	}
	if len(t.ResourceAttributes) > 0 {
		out = append(out, envVar{"OTEL_RESOURCE_ATTRIBUTES", attributesText(t.ResourceAttributes)})
	}
	return out
}

func validateTelemetry(t *v1alpha1.Telemetry, path *field.Path) field.ErrorList {
	if t == nil || t.SamplingRate == nil || (*t.SamplingRate >= 0 && *t.SamplingRate <= 1) {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("sampling_rate"), *t.SamplingRate, "must be between 0 and 1")}
}

// attributesText joins sorted k=v pairs. The two characters that separate
// pairs are percent-encoded, as the variable's specification asks.
func attributesText(attributes map[string]string) string {
	encode := strings.NewReplacer(",", "%2C", "=", "%3D")
	pairs := make([]string, 0, len(attributes))
	for k, v := range attributes {
		pairs = append(pairs, encode.Replace(k)+"="+strings.ReplaceAll(v, ",", "%2C"))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

func boolText(value *bool, otherwise bool) string {
	if value == nil {
		return strconv.FormatBool(otherwise)
	}
	return strconv.FormatBool(*value)
}
