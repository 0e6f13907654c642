# `make` lists what there is. A target is a line or two; what takes more is a script in scripts/.

export CGO_ENABLED := 0
# One place for the build tags, which Podman's bindings need to build without C libraries. CONTRIBUTING
# says how to tell them to an editor.
export GOFLAGS := -buildvcs=false -tags=containers_image_openpgp,remote

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
LAB     := $(CURDIR)/scripts/lab
LINT    := .cache/bin/golangci-lint-v2.15.0
TIME    := 30s
CHECKS  := 10000
SEEDS   := 2000
SEED    := 1
FAULTS  := 1000

.PHONY: help build build-arm64 test short golden sim histories chaos model bench fuzz fmt fmt-check lint tidy check demo clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## bin/skerry, static
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/skerry ./cmd/skerry

build-arm64: ## bin/skerry-arm64, for a Raspberry Pi
	GOARCH=arm64 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/skerry-arm64 ./cmd/skerry

test: ## everything, real Podman included (root; each package's tests in a lab of their own)
	scripts/install-deps
	SKERRY_LAB_REQUIRED=1 scripts/test -timeout 23m -exec '$(LAB)' ./...

short: ## pure code only, in seconds; no root, no Podman
	go test -short ./...

golden: ## rewrite the golden files with what the code says now
	scripts/golden

sim: ## SEEDS simulated fleets with whatever may befall them, from seed SEED on, and one of a thousand nodes
	scripts/repeatable ./agent .cache/sim.test
	cd agent && ../.cache/sim.test -test.timeout 4h -test.run 'TestSim$$' -sim.seeds $(SEEDS) -sim.seed $(SEED)
	go test ./agent -timeout 1h -run TestLargeFleet -v -sim.nodes 1000

histories: ## CHECKS random inputs or histories for each property of the pure code, of which CI tries 100 (minutes)
	grep -rl --include='*_test.go' pgregory.net/rapid fleet reconcile sources | xargs dirname | sort -u | \
		xargs -I{} go test ./{} -timeout 4h -rapid.checks $(CHECKS)

chaos: ## FAULTS random faults of three hosts, after which two never had an address at once
	scripts/install-deps
	SKERRY_LAB_REQUIRED=1 go test -timeout 4h -exec '$(LAB)' ./agent -run 'TestAddressChaos$$' -v -chaos.faults $(FAULTS)

model: ## all that can happen to small fleets that ask who has something, further than the tests go (hours)
	SKERRY_MODEL=deep go test ./coord/lease -timeout 12h -run 'TestNoTwoHolders$$' -v

bench: ## the claims, measured; beside real Podman where they are about it
	scripts/install-deps
	SKERRY_LAB_REQUIRED=1 go test -timeout 30m -exec '$(LAB)' -run '^$$' -bench . -benchmem ./...

fuzz: ## every fuzz target for TIME=30s
	scripts/fuzz $(TIME)

fmt: ## format all code
	gofmt -w .

fmt-check:
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }

lint: $(LINT) ## golangci-lint and go vet, as CI does
	$(LINT) run

# GOFLAGS is not for the linter: it needs no tags of ours.
$(LINT):
	GOBIN=$(CURDIR)/.cache/bin GOFLAGS=-buildvcs=false go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv .cache/bin/golangci-lint $@

tidy: ## go.mod and go.sum are as `go mod tidy` would have them
	go mod tidy -diff

check: fmt-check tidy build build-arm64 lint test ## what CI runs

demo: ## see it work: deploy, roll, heal and revert on a Podman of its own
	scripts/demo

clean: ## remove what the targets above have made
	rm -rf bin .cache
