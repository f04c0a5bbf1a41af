# Everything that people and CI do. `make` alone prints this list.
SHELL := /bin/bash
GO ?= go
export CGO_ENABLED ?= 1
# Whichever Envoy was given is used as it is; bin/envoy is the pinned one.
export PATH := $(CURDIR)/bin:$(PATH)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
STAMP := github.com/kuma-dp/kuma-dp/internal/version
# gRPC's pages of traces bring html/template along, whose lookup of methods by name makes the linker keep all of them.
TAGS := grpcnotrace
LDFLAGS := -s -w -X $(STAMP).GitCommit=$(COMMIT)
BINARIES := kuma-dp kuma-cp kumactl kuma-init
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZ_TIME ?= 10s
# Packages run side by side: two keep a small machine busy without starving the timing of a real Envoy.
TEST_FLAGS ?= -race -p 2 -timeout 15m

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

build: ## build kuma-dp, kuma-cp, kumactl and kuma-init into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(BINARIES))

demo: ## bring up a mesh of two services and prove it; CHECK=1 exits after the proof
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/demo ./test/demo
	@exec bin/demo $(if $(CHECK),--check)

setup-test:
	@scripts/setup test

test: setup-test build ## run every test: unit (race), namespaces, end to end with real Envoy; needs root
	$(GO) vet ./...
	$(GO) test $(TEST_FLAGS) $$($(GO) list ./... | grep -v '/test/')
	@# Whole meshes one after the other: each wants the machine for itself.
	$(GO) test -race -p 1 -timeout 20m ./test/...

bench: ## print every budget as a benchmark; fails nothing; ONLY=dns measures one section
	@scripts/setup test
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 $(GO) run ./test/bench $(if $(ONLY),-only '$(ONLY)')

fuzz: ## run every fuzz target for FUZZ_TIME
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
	  echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZ_TIME) $$p || exit 1; done; done

lint: ## run the linters
	$(GO) run $(GOLANGCI_LINT) run ./...

fmt: ## format the code
	gofmt -s -w $$(git ls-files '*.go')

generate: build ## make the generated reference pages
	$(GO) run ./docs/generate

check: ## formatting, vet, tidy module and generated pages: the tree must be as committed
	@test -z "$$(gofmt -s -l $$(git ls-files '*.go'))" || { echo "run make fmt:"; gofmt -s -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	@$(MAKE) --no-print-directory generate
	@git diff --exit-code || { echo "generated files drifted: commit them"; exit 1; }

clean: ## remove what was built
	rm -rf bin dist

.DEFAULT_GOAL := help
.PHONY: help build demo setup-test test bench fuzz lint fmt generate check clean
