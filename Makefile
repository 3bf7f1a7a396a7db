# Everything that this repository can do, one target each. `make help` lists them.

SHELL       := /bin/bash
.DEFAULT_GOAL := help

MODULE      := oaas.io/control-plane
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X $(MODULE)/cmd/internal/version.Version=$(VERSION)
CACHE       ?= $(or $(OAAS_CACHE),$(HOME)/.cache/oaas)
TOOLS       := $(CACHE)/tools
LOCAL       := bin/oaas-local

# Packages whose tests start a Kubernetes control plane. They run one after the
# other: two API servers at once starve each other on a small machine.
KUBE_TESTS  := ./crm ./crm/controller/... ./crm/server ./deploy/local/...
UNIT_TESTS  := $(shell go list ./... 2>/dev/null | grep -v -E '^$(MODULE)/(crm|crm/controller(/.*)?|crm/server|deploy/local(/.*)?|jepsen/cluster/crmtest)$$')

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build pmd, crm, pmctl, oaas-local and oaas-chaos into bin/.
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/pmd ./cmd/crm ./cmd/pmctl ./deploy/local/cmd/oaas-local ./jepsen/cmd/oaas-chaos

# A pmd of the same source that calls itself another version, which is what rolling upgrades need at least.
.PHONY: build-next
build-next:
	@mkdir -p bin/next
	go build -ldflags '-s -w -X $(MODULE)/cmd/internal/version.Version=$(VERSION)-next' -o bin/next/ ./cmd/pmd

.PHONY: kubernetes
kubernetes: build ## Build the local Kubernetes and Knative (some 10 minutes the first time, then cached).
	$(LOCAL) build

.PHONY: demo
demo: build ## Start 2 Kubernetes clusters, a crm in each and 3 pmd, deploy the examples, stay up until Ctrl-C.
	$(LOCAL) demo --bin bin

.PHONY: smoke
smoke: build ## The demo without a terminal: kills the leader, checks every object, prints a timeline, exits 0 or 1.
	$(LOCAL) smoke --bin bin

.PHONY: test
test: kubernetes test-unit test-fuzz test-kubernetes ## All tests: unit tests with the race detector, fuzz targets for a moment, then tests on a real Kubernetes.

.PHONY: test-unit
test-unit: ## Tests that need nothing but Go and loopback.
	GORACE=suppressions=$(CURDIR)/tools/race-suppressions.txt go test -race -timeout 15m $(UNIT_TESTS)

# What decodes bytes from outside, at every run for a moment. `make fuzz` has more
# targets and more time.
.PHONY: test-fuzz
test-fuzz: ## Fuzz the decoders of commands, snapshots, REST documents, gossip and peers' messages for 4 s each.
	@bash tools/fuzz.sh 4s '^Fuzz(DecodeCommand|ReadSnapshot|SnapshotRecords|DecodePackage|DecodeDeployment|DecodeMeta|PeerMessages|Request)$$'

.PHONY: test-kubernetes
test-kubernetes: build ## Tests on the local Kubernetes.
	OAAS_BIN=$(CURDIR)/bin go test -p 1 -timeout 20m $(KUBE_TESTS)

.PHONY: test-histories
test-histories: ## Random histories of leaders, clusters, links and users against the dispatch loops (minutes); OAAS_HISTORIES=N for more.
	go test -race -tags histories -timeout 60m -run '^TestHistories$$' ./dispatch

# What was broken, how it went and what the checks say: bench/out/chaos.json and bench/out/chaos.html, see docs/chaos.md.
# SEED repeats a run, CHAOS adds flags.
CHAOS_RUN   := bin/oaas-chaos --bin bin --upgrade-bin bin/next --out bench/out/chaos.json --report bench/out/chaos.html $(if $(SEED),--seed $(SEED)) $(CHAOS)

.PHONY: chaos
chaos: build build-next ## Break everything that can be broken for a quarter of an hour (SEED=n repeats); writes bench/out/chaos.json and chaos.html.
	$(CHAOS_RUN) --duration 15m --crms 1 --agents 2 --processes 3 --rate 6 --pause 5s

.PHONY: chaos-long
chaos-long: build build-next ## The same with five nodes for DURATION (default 2h).
	$(CHAOS_RUN) --duration $(or $(DURATION),2h) --nodes 5 --crms 1 --agents 2 --processes 3 --rate 6 --pause 5s

.PHONY: chaos-quick
chaos-quick: build build-next ## Three minutes of it with three nodes and clusters in memory.
	$(CHAOS_RUN) --duration 2m --fault 3s --pause 2s --overlap 0.2 --processes 2 --rate 12

.PHONY: test-chaos-kubernetes
test-chaos-kubernetes: build kubernetes ## Tests of the harness's own crm processes on the local Kubernetes (two minutes).
	OAAS_BIN=$(CURDIR)/bin go test -count=1 -timeout 20m ./jepsen/cluster/crmtest

# A harness that does not find what is known to be broken proves nothing: jepsen/variant.
.PHONY: chaos-prove
chaos-prove: build ## Take out one guard after the other, and see whether the harness finds out (up to an hour; VARIANT=a,b, SEED=n).
	bin/oaas-chaos prove $(if $(VARIANT),--variant $(VARIANT)) $(if $(SEED),--seed $(SEED)) $(CHAOS)

.PHONY: chaos-guards
chaos-guards: ## The same with a small directed test for each guard (some minutes).
	go test -count=1 -v -tags variants -timeout 30m -run '^(TestGuardsAreMissed|TestPowerCut)$$' ./jepsen/variant

.PHONY: bench-main
bench-main: build ## Measure what the main job promises; writes bench/out/main.json.
	$(LOCAL) bench --bin bin --out bench/out/main.json

.PHONY: bench-plan
bench-plan: ## Measure the planner and check it against others (some minutes); writes bench/out/plan.json.
	go run ./bench/cmd/bench-plan --out bench/out/plan.json

.PHONY: bench-ha
bench-ha: build ## Measure failover, restarts, scale and bad input with three pmd (about 20 minutes); writes bench/out/ha.json.
	$(LOCAL) bench-ha --bin bin --out bench/out/ha.json

.PHONY: bench-dispatch
bench-dispatch: build ## Measure how three pmd serve 100 clusters: latency, cold clusters, change of leader, outage, misbehaviour (about 10 minutes); writes bench/out/dispatch.json.
	$(LOCAL) bench-dispatch --bin bin --out bench/out/dispatch.json

.PHONY: bench-crm
bench-crm: build ## Measure a crm on the local Kubernetes: throughput, rest, change of leader, faults, bad objects (about 40 minutes); writes bench/out/crm.json.
	$(LOCAL) bench-crm --bin bin --out bench/out/crm.json

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 20s) each.
	@bash tools/fuzz.sh $(or $(FUZZTIME),20s) $(or $(FUZZ),.)

$(TOOLS)/.stamp: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && go build -o $(TOOLS)/ tool
	@touch $@

.PHONY: tools
tools: $(TOOLS)/.stamp ## Build the pinned development tools into the cache.

.PHONY: generate
generate: tools ## Regenerate the Go code of the protos, deepcopy functions and the CRD.
	PATH=$(TOOLS):$$PATH buf lint
	PATH=$(TOOLS):$$PATH buf generate
	$(TOOLS)/controller-gen object paths=./crm/api/...
	$(TOOLS)/controller-gen crd:allowDangerousTypes=true paths=./crm/api/... output:crd:dir=deploy/crd

.PHONY: verify-generate
verify-generate: generate ## Fail when generated files are not up to date.
	git diff --exit-code -- proto crm/api deploy/crd

.PHONY: lint
lint: tools ## Run golangci-lint, with the walls between the packages.
	$(TOOLS)/golangci-lint run

.PHONY: clean
clean: ## Remove what was built here (not the cache).
	rm -rf bin bench/out
