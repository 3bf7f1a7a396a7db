package main

import (
	"fmt"
	"strings"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// badObjects are the objects that are written, in this order.
func badObjects() []badObject {
	invalid := degradedBy(v1alpha1.ReasonInvalidSpec)
	return append([]badObject{
		{about: "no functions", name: "odd-empty", spec: specOf(), want: availableObject},
		{about: "a spec with nothing in it", name: "odd-nothing", spec: map[string]any{}, want: availableObject},
		{about: "no spec at all", name: "odd-none", want: refusedObject},
		{about: "text in place of functions", name: "odd-text", spec: with(specOf(), "functions", "none"), want: refusedObject},
		{about: "members that nobody knows", name: "odd-unknown", spec: with(specOf(container("Odd.f", "colour", "blue")), "speed", "high"), want: availableObject},
		{about: fmt.Sprintf("%d functions", manyFunctions), name: "odd-many", spec: specOf(manyOf(manyFunctions)...), want: availableObject},
		{about: "1025 functions", name: "odd-too-many", spec: specOf(manyOf(1025)...), want: refusedObject},
		{about: "a name of 63 characters", name: "odd-" + strings.Repeat("n", 59), spec: specOf(container("Odd.f"), container("Odd.g")), want: availableObject},
		{about: "a name of 253 characters", name: "odd-" + strings.Repeat("n", 249), spec: specOf(container("Odd.f"), container("Odd.g")), want: availableObject},
		{about: "a name that begins with a digit and has dots", name: "1.odd.name", spec: specOf(container("Odd.f")), want: availableObject},
		{about: "two names that become the same, the first", name: "odd-twin", spec: specOf(container("Odd.f")), want: availableObject},
		{about: "two names that become the same, the second", name: "odd.twin", after: "odd-twin", spec: specOf(container("Odd.f")), want: degradedBy(v1alpha1.ReasonNameTaken)},
		{about: "a WASM function first", name: "odd-wasm", spec: with(specOf(wasm("Odd.f"), container("Odd.g")), "addons", []any{"odgm"}), want: availableObject},
		{about: "a WASM function without an object store", name: "odd-wasm-alone", spec: specOf(wasm("Odd.f"), container("Odd.g")), want: invalid},
		{about: "a function without an image", name: "odd-imageless", spec: specOf(map[string]any{"function_key": "Odd.f"}), want: invalid},
		{about: "a function without a key", name: "odd-keyless", spec: specOf(map[string]any{"provision_config": map[string]any{"container_image": "odd"}}), want: refusedObject},
		{about: "the same function twice", name: "odd-twice", spec: specOf(container("Odd.f"), container("Odd.f")), want: availableObject},
		{about: "odd characters in a function key", name: "odd-key", spec: specOf(container("Ünsinn/../%00\t\"'$(id)\u202e <f>"), container(strings.Repeat("k", 1024))), want: availableObject},
		{about: "a quantity that is none", name: "odd-quantity", spec: specOf(container("Odd.f", "cpu_request", "plenty")), want: invalid},
		{about: "a request above its limit", name: "odd-limit", spec: specOf(container("Odd.f", "memory_request", "2Gi", "memory_limit", "1Gi")), want: invalid},
		{about: "more processors than any node has", name: "odd-huge", spec: specOf(container("Odd.f", "cpu_request", "1000")), want: degradedBy(v1alpha1.ReasonInsufficientCapacity)},
		{about: "four billion replicas", name: "odd-replicas", spec: specOf(container("Odd.f", "min_scale", int64(4294967295))), want: invalid},
		{about: "a negative port", name: "odd-port", spec: specOf(container("Odd.f", "port", int64(-1))), want: refusedObject},
		{about: "an image that cannot be pulled", name: "odd-image", spec: specOf(container("Odd.f", "container_image", imageRepository+"odd:missing")), want: degradedBy(v1alpha1.ReasonImagePullFailed)},
		{about: "an image name with blanks around it", name: "odd-blanks", spec: specOf(container("Odd.f", "container_image", " odd:1 ")), want: degradedBy(v1alpha1.ReasonPodsRejected)},
		{about: "a program that crashes", name: "odd-crash", spec: specOf(configured("SIM_BEHAVIOR", "crash-loop")), want: degradedBy(v1alpha1.ReasonCrashLoop)},
		{about: "a variable with = in its name", name: "odd-variable", spec: specOf(configured("A=B", "x")), want: invalid},
		{about: "a variable with an empty name", name: "odd-unnamed", spec: specOf(configured("", "x")), want: invalid},
		{about: "a template that nobody knows", name: "odd-template", spec: with(specOf(container("Odd.f")), "selected_template", "no-such-template"), want: availableObject},
		{about: "less than no partitions", name: "odd-partitions", spec: with(specOf(container("Odd.f")), "odgm_config", map[string]any{"partition_count": int64(-1)}), want: invalid},
		{about: "a delivery that is cut off", name: "odd-delivery", spec: with(specOf(container("Odd.f")), "delivery", map[string]any{"unit_id": "u"}), want: refusedObject},
	}, edited()...)
}

// edited are objects that run before somebody edits them.
func edited() []badObject {
	plain := func() map[string]any { return specOf(container("Odd.f")) }
	return []badObject{
		{about: "a quantity edited into nonsense", name: "odd-edited", spec: plain(), want: degradedBy(v1alpha1.ReasonInvalidSpec), edit: editSpec(func(spec *v1alpha1.ClassRuntimeSpec) {
			spec.Functions[0].ProvisionConfig.CPURequest = "many"
		})},
		{about: "all functions edited away", name: "odd-emptied", spec: plain(), want: availableObject, edit: editSpec(func(spec *v1alpha1.ClassRuntimeSpec) {
			spec.Functions = nil
		})},
		{about: "a function edited to have no image", name: "odd-cut", spec: plain(), want: degradedBy(v1alpha1.ReasonInvalidSpec), edit: editSpec(func(spec *v1alpha1.ClassRuntimeSpec) {
			spec.Functions[0].ProvisionConfig = nil
		})},
		{about: "a status edited into nonsense", name: "odd-status", spec: plain(), want: availableObject, edit: editStatus},
		{about: "a child edited, its label taken away", name: "odd-child", spec: plain(), want: availableObject, edit: editChild},
		{about: "a child without label and owner", name: "odd-taken", spec: plain(), want: degradedBy(v1alpha1.ReasonNameTaken), edit: takeChild},
	}
}

func manyOf(count int) []any {
	functions := make([]any, count)
	for i := range functions {
		functions[i] = container(fmt.Sprintf("Odd.f%d", i))
	}
	return functions
}

func wasm(key string) map[string]any {
	return map[string]any{"function_key": key, "provision_config": map[string]any{"wasm_module_url": "https://registry.example.com/odd.wasm"}}
}
