package command

import (
	"io"
	"net/http"
	"testing"
)

const (
	madePlan = `{"clusters":["oaas-2"],"mode":"automatic","target":0.99,"achieved":0.99,"target_met":true,"quorum":1,"voters":1,"assignments":[{"cluster":"oaas-2","node_ids":[7],"replicas":4,"primaries":4,"pods":{"Cart.total":3,"Cart.add":2}}],"changes":{"keep":[],"add":["oaas-2"],"remove":["oaas-1"]},` +
		`"explanation":{"counts":{"BestAvailability":1,"NotNeeded":30},"candidates":[` +
		`{"cluster":"oaas-2","verdict":"selected","stage":"select","code":"BestAvailability","message":"oaas-2: number 1 by availability (99 %)","findings":[{"code":"OutsideLocation","message":"oaas-2: is not in eu, where the deployment is to be available"}],"replace_with":{"cluster":"oaas-3","achieved":0.985,"target_met":false,"cost_change":-12.5}},` +
		`{"cluster":"oaas-3","verdict":"feasible","stage":"select","code":"NotNeeded","message":"oaas-3: could be used (99 %), but 1 already meets the target"}],` +
		`"warnings":[{"stage":"select","code":"DomainsAssumed","message":"shared outages are assumed"}],"relaxations":[{"code":"LowerTarget","value":0.9,"message":"ask for at most 90 %"}],"binding":[{"code":"Cordoned","clusters":["oaas-4"],"value":10,"instead":30,"message":"uncordon oaas-4: environments for 10 instead of 30 in 30 days would do"}]},` +
		`"summary":"oaas-2: available 99 % of the time (7.2 h down in 30 days), meets the target of 99 %"}`
	oneDeployment = "key: shop.Cart\npackage_name: shop\nclass_key: Cart\n"
)

// The commands that plan tell by their exit code whether there is something to do.
func TestPlanning(t *testing.T) {
	preview := func(change, envs string) string {
		return `{"dry_run":true,"key":"shop.Cart","change":"` + change + `","environments":[` + envs + `],"plan":` + madePlan + `}`
	}
	simulated := func(counts, deployments string) string {
		return `{"lost":["oaas-1"],` + counts + `,"deployments":[` + deployments + `]}`
	}
	moves := `{"key":"shop.Cart","before":["oaas-1"],"plan":` + madePlan + `}`
	for _, tt := range []struct {
		name   string
		answer string
		status int
		code   int
		args   []string
	}{
		{"plan_change", preview("update", `{"env":"oaas-2","change":"create"},{"env":"oaas-1","change":"remove","unit_id":"cart-1"}`), 200, 1, []string{"plan", "-f", "-"}},
		{"plan_same", preview("none", `{"env":"oaas-2","change":"none","unit_id":"cart-2"}`), 200, 0, []string{"plan", "-f", "-"}},
		{"plan_clusters", preview("update", `{"env":"oaas-2","change":"create","cluster":{"verdict":"refused","code":"QuotaExceeded","message":"Deployment/cart-2: no more","template":"dev","warnings":["w"],"objects":[{"kind":"ClassRuntime","name":"cart-2","change":"create"},{"kind":"Deployment","name":"cart-2","change":"create","reason":"QuotaExceeded","message":"no more"}]}},`+
			`{"env":"oaas-3","change":"update","cluster":{"verdict":"unknown","code":"CLUSTER_UNREACHABLE","message":"connection refused"}},`+
			`{"env":"oaas-4","change":"update","cluster":{"verdict":"refused","code":"NAME_TAKEN","message":"the name belongs to pm-2"}},`+
			`{"env":"oaas-5","change":"update","cluster":{"verdict":"accepted","objects":[{"kind":"Deployment","name":"cart-5","change":"delete"},{"kind":"Service","name":"cart-5","change":"none"}]}}`), 200, 1, []string{"plan", "-f", "-"}},
		{"plan_refused", "", 400, 2, []string{"plan", "-f", "-"}},
		{"plan_no_file", "", 200, 2, []string{"plan"}},
		{"plan_format", "", 200, 2, []string{"plan", "-f", "-", "-o", "yaml"}},
		{"explain", madePlan, 200, 0, []string{"explain", "deployment/shop.Cart"}},
		{"explain_past", madePlan, 200, 0, []string{"explain", "shop.Cart", "--index", "17"}},
		{"plans", `[{"index":41,"generation":2,"present":true,"clusters":["a","b"],"target_met":true,"summary":"both"},{"index":17,"generation":1,"clusters":["a"],"summary":"one"}]`, 200, 0, []string{"plans", "shop.Cart"}},
		{"explain_unknown", "", 404, 3, []string{"explain", "gone"}},
		{"replan_same", `{"change":"none","environments":[{"env":"oaas-1","change":"none"}],"summary":"oaas-1: fine"}`, 200, 0, []string{"replan", "shop.Cart"}},
		{"replan_change", `{"change":"update","environments":[{"env":"oaas-2","change":"create"},{"env":"oaas-1","change":"remove"}],"summary":"oaas-2: better"}`, 200, 0, []string{"replan", "deployment/shop.Cart", "--rebalance"}},
		{"replan_dry", preview("update", `{"env":"oaas-2","change":"create"},{"env":"oaas-1","change":"remove","unit_id":"cart-1"}`), 200, 1, []string{"replan", "shop.Cart", "--dry-run"}},
		{"replan_failed", "", 400, 2, []string{"replan", "a", "b", "--dry-run"}},
		{"replan_nothing", "", 200, 2, []string{"replan"}},
		{"simulate_change", simulated(`"affected":3,"changed":1,"missed":0,"failed":0`, moves), 200, 1, []string{"simulate", "--lose", "region=eu-1", "--limit", "1"}},
		{"simulate_same", simulated(`"affected":0,"changed":0,"missed":0,"failed":0`, ""), 200, 0, []string{"simulate", "--lose", "region=eu-1"}},
		{"simulate_failed", simulated(`"affected":1,"changed":0,"missed":0,"failed":1`, `{"key":"a","before":["oaas-1"],"error":"all are lost"}`), 200, 2, []string{"simulate", "--lose", "region=eu-1", "a"}},
		{"simulate_target", "", 200, 2, []string{"simulate", "--target", "high"}},
		{"simulate_nothing", "", 200, 2, []string{"simulate"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t)
			s.in = oneDeployment
			s.srv.fail = func(w http.ResponseWriter, _ *http.Request) bool {
				if tt.status != http.StatusOK {
					problem(w, tt.status, "invalid-argument", "it cannot be", false)
				} else {
					_, _ = io.WriteString(w, tt.answer)
				}
				return true
			}
			out, code := s.run(tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			golden(t, "plan_"+tt.name, out)
		})
	}
}
