package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"oaas.io/control-plane/bench"
)

// refusal is a request that must be answered with a 4xx that says what to change.
type refusal struct {
	name, path, contentType, body string
	status                        []int
	// says has to be part of the answer.
	says string
}

const refusalPackage = `{"name":"refusals","classes":[{"key":"C","function_bindings":[{"name":"f","function_key":"f","access_modifier":"PUBLIC"}]}],"functions":[{"key":"f"}]}`

func refusals() []refusal {
	const packages, deployments, jsonType = "/api/v1/packages", "/api/v1/deployments", "application/json"
	long := strings.Repeat("n", 64)
	return []refusal{
		{"malformed JSON", packages, jsonType, "{\n  \"name\": \"p\",,\n}", []int{400}, "line 2"},
		{"empty body", packages, jsonType, "", []int{400}, ""},
		{"trailing characters", packages, jsonType, `{"name":"p"} x`, []int{400}, "end of the document"},
		{"YAML where JSON is expected", packages, jsonType, "name: p\n", []int{400}, "line 1"},
		{"missing content type", packages, "", `{"name":"p"}`, []int{415}, "application/json"},
		{"missing name", packages, jsonType, `{}`, []int{422}, "name"},
		{"wrong type", packages, jsonType, `{"name":7}`, []int{422}, "name"},
		{"unknown enum value", packages, jsonType, `{"name":"p","functions":[{"key":"f","function_type":"MAGIC"}]}`, []int{422}, "functions[0].function_type"},
		{"unknown function in a binding", packages, jsonType, `{"name":"p","classes":[{"key":"C","function_bindings":[{"name":"f","function_key":"none","access_modifier":"PUBLIC"}]}]}`, []int{400, 422}, "none"},
		{"name over 63 characters", packages, jsonType, `{"name":"` + long + `"}`, []int{400, 422}, "63"},
		{"class key over 63 characters", packages, jsonType, `{"name":"p","classes":[{"key":"` + long + `"}]}`, []int{400, 422}, "63"},
		{"document over the limit", packages, jsonType, `{"name":"p","metadata":{"description":"` + strings.Repeat("x", 600<<10) + `"}}`, []int{413}, ""},
		{"deep nesting", packages, jsonType, `{"name":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`, []int{400, 422}, ""},
		{"unknown package", deployments, jsonType, `{"key":"k","package_name":"none","class_key":"C"}`, []int{404}, "none"},
		{"unknown class", deployments, jsonType, `{"key":"k","package_name":"refusals","class_key":"None"}`, []int{400, 422}, "None"},
		{"unknown function", deployments, jsonType, `{"key":"k","package_name":"refusals","class_key":"C","functions":[{"function_key":"none"}]}`, []int{400, 422}, "none"},
		{"missing image", deployments, jsonType, `{"key":"k","package_name":"refusals","class_key":"C"}`, []int{400, 422}, "container_image"},
		{"unknown environment", deployments, jsonType, `{"key":"k","package_name":"refusals","class_key":"C","target_envs":["mars"]}`, []int{400, 422}, "mars"},
		{"availability as per cent", deployments, jsonType, `{"key":"k","package_name":"refusals","class_key":"C","nfr_requirements":{"availability":99.9}}`, []int{400, 422}, "availability"},
		{"negative scale", deployments, jsonType, `{"key":"k","package_name":"refusals","class_key":"C","functions":[{"function_key":"f","provision_config":{"min_scale":-1}}]}`, []int{422}, "min_scale"},
	}
}

// benchRefusals sends bad input to every node and counts what is not refused as it should be.
func (s *stack) benchRefusals(ctx context.Context, _ int) ([]bench.Result, error) {
	client := s.system.PMs[0].Client()
	if _, err := client.Do(ctx, http.MethodPost, "/api/v1/packages", []byte(refusalPackage), nil); err != nil {
		return nil, err
	}
	before, err := s.index(ctx)
	if err != nil {
		return nil, err
	}
	wrong := 0
	for _, r := range refusals() {
		for _, pm := range s.system.PMs {
			if problem := r.send(ctx, pm.URL()); problem != "" {
				wrong++
				fmt.Fprintf(os.Stderr, "%s: %s\n", r.name, problem)
			}
		}
	}
	after, err := s.index(ctx)
	if err != nil {
		return nil, err
	}
	results := []bench.Result{
		bench.Exactly("bad_input_not_refused", float64(wrong), 0, "", fmt.Sprintf("%d kinds of bad input, each sent to every node", len(refusals()))),
		bench.Exactly("bad_input_stored", float64(len(after)-len(before)), 0, "", "packages and deployments more than before"),
	}
	_, err = client.Do(ctx, http.MethodDelete, "/api/v1/packages/refusals", nil, nil)
	return results, err
}

// index lists what is stored, by kind and key.
func (s *stack) index(ctx context.Context) (map[string]bool, error) {
	out := map[string]bool{}
	for _, path := range []string{"/api/v1/packages", "/api/v1/deployments"} {
		var list []struct {
			Name string `json:"name"`
			Key  string `json:"key"`
		}
		if _, err := s.system.PMs[0].Client().Do(ctx, http.MethodGet, path, nil, &list); err != nil {
			return nil, err
		}
		for _, item := range list {
			out[path+"/"+item.Name+item.Key] = true
		}
	}
	return out, nil
}

// send posts the request and says what is wrong with the answer, if anything is.
func (r refusal) send(ctx context.Context, base string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+r.path, bytes.NewReader([]byte(r.body)))
	if err != nil {
		return err.Error()
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err.Error()
	}
	ok := false
	for _, status := range r.status {
		ok = ok || resp.StatusCode == status
	}
	switch {
	case !ok:
		return fmt.Sprintf("status %d, want one of %v: %.300s", resp.StatusCode, r.status, answer)
	case !strings.Contains(string(answer), `"error"`):
		return fmt.Sprintf("the answer has no member error: %.300s", answer)
	case !strings.Contains(string(answer), r.says):
		return fmt.Sprintf("the answer does not say %q: %.300s", r.says, answer)
	}
	return ""
}
