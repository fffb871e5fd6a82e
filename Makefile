# Mainstay's commands. `make demo` and `make test` need a Debian 12 with Rust, Go and root, and set up the rest.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

export CARGO_TERM_COLOR ?= never
# Tests are always built for the whole workspace, so that each third-party crate is compiled with one set of features.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The part of the fault tests that `make test` runs follows from the commit: a few commits together run all of them.
FAULTS_PART := $(shell commit=$$(git rev-parse HEAD 2>/dev/null || echo 0); echo $$((0x$${commit:0:4} % 4 + 1))/4)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
IMAGE := localhost/mainstay:$(VERSION)
IMAGE_FILE := $(TARGET)/mainstay-image.tar
E2E_PROGRAM := $(TARGET)/e2e-program
# `make image` is for a cluster of one's own. The demo and the tests run what the tests are built from anyway: it needs no
# second build of every third-party crate, links without LTO, and has debug assertions on.
IMAGE_PROFILE := release
IMAGE_FOLDER := release
demo-image e2e: IMAGE_PROFILE := dev
demo-image e2e: IMAGE_FOLDER := debug
# By which checks over HTTPS verify certificates, unless they name others.
ROOTS := /etc/ssl/certs/ca-certificates.crt
CLUSTER := $(TARGET)/debug/mainstay-cluster
# A cluster that KUBECONFIG names is used as it is: nothing is set up on this machine.
EXISTING := $(if $(KUBECONFIG),--existing)
SETUP := $(if $(KUBECONFIG),,packages)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo demo-image demo-steps
demo: ## Set up a cluster and show the main job on it; leaves it up
	@tests/demo-parts.sh
demo-image: image
demo-steps:
	@CLUSTER=$(CLUSTER) $(CLUSTER) exec $(EXISTING) -- bash tests/demo.sh $(EXISTING) $(IMAGE_FILE)

.PHONY: test
test: $(SETUP) ## Set up everything and run all tests
	@tests/all.sh

.PHONY: packages
packages: ## Install the Debian packages that the cluster and the build need
	@tests/packages.sh

.PHONY: lint
lint: ## Formatting, lints and the rules of the source tree; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --workspace --test e2e --quiet -- -D warnings
	cargo test --workspace --test tree --quiet

.PHONY: test-unit
test-unit: ## Unit and property tests, and a quarter of the fault tests; needs no cluster
	MAINSTAY_FAULTS_PART=$(FAULTS_PART) cargo test --workspace

.PHONY: faults
faults: ## Explore crashes, lost answers and stale reads of all controllers on a model of the cluster
	cargo test --workspace --test play --test faults -- --nocapture

.PHONY: e2e e2e-program e2e-steps
e2e: cluster-ready image e2e-program e2e-steps ## Tests on the real cluster, or on the one that KUBECONFIG names
# Which program it is stands in a file, so that nothing is built any more while the tests run.
e2e-program:
	cargo test --workspace --test e2e --no-run 2>&1 | tee /dev/stderr | \
		sed -n 's/^ *Executable .*(\(.*\))$$/\1/p' >$(E2E_PROGRAM)
e2e-steps:
	@CLUSTER=$(CLUSTER) EXISTING=$(EXISTING) IMAGE_FILE=$(IMAGE_FILE) E2E_PROGRAM=$(E2E_PROGRAM) \
		PROGRAM=$(TARGET)/debug/mainstay tests/e2e.sh

# Minutes of load.
MINUTES ?= 20
.PHONY: soak
soak: export MAINSTAY_CLUSTER_NAME := soak
soak: packages demo-image ## All controllers under load while servers and leaders are killed; MINUTES=20
	cargo build --workspace --bin mainstay-soak
	@trap '$(CLUSTER) down' EXIT; \
	$(CLUSTER) down; $(CLUSTER) up --nodes 3 --zones 3; \
	$(CLUSTER) exec -- env RUST_BACKTRACE=0 MAINSTAY_IMAGE_FILE=$(abspath $(IMAGE_FILE)) \
		$(TARGET)/debug/mainstay-soak --minutes $(MINUTES)

.PHONY: upgrade-test
upgrade-test: $(SETUP) demo-image ## Upgrade the charts of the commit FROM to these, and check that nothing was changed
	@CLUSTER=$(abspath $(CLUSTER)) tests/upgrade.sh $(FROM) $(abspath $(IMAGE_FILE))

.PHONY: generate
generate: ## Generate the CRD manifests
	cargo run -q -p mainstay-crds --bin crdgen

.PHONY: image
image: cluster ## Build the controllers' image without a Docker daemon
	cargo build --profile $(IMAGE_PROFILE) --workspace --bin mainstay
	$(CLUSTER) build-image --name $(IMAGE) --output $(IMAGE_FILE) --with-libs --entrypoint /bin/mainstay \
		$(TARGET)/$(IMAGE_FOLDER)/mainstay=/bin/mainstay $(ROOTS)=$(ROOTS)

.PHONY: cluster servers cluster-ready
cluster:
	cargo build -q --workspace --bin mainstay-cluster
servers: cluster
	$(CLUSTER) build
# Its servers collect garbage less often: on two cores that is worth more than their memory. Benches do not do so.
cluster-ready: $(SETUP) cluster
	GOGC=400 $(CLUSTER) up $(EXISTING) --nodes 6 --zones 3 --prometheus

.PHONY: cluster-up cluster-down cluster-status
cluster-up: packages cluster ## Start the local cluster
	$(CLUSTER) up --nodes 6 --zones 3 --prometheus
cluster-down: cluster ## Stop and remove the local cluster
	$(CLUSTER) down
cluster-status: cluster ## Show which parts of the local cluster run
	$(CLUSTER) status

.PHONY: bench-replication bench-rollout bench-endpoints bench-node-health bench-config bench-accounts
bench-replication: packages cluster ## Compare ReplicaGroup with ReplicaSet; writes docs/benchmarks.md
	cargo build --release -p mainstay -p mainstay-bench
	$(CLUSTER) up --nodes 30 --zones 3
	$(CLUSTER) exec -- $(TARGET)/release/mainstay-bench replication
bench-rollout: packages cluster ## Compare a rollout with a Deployment's; writes docs/benchmarks.md
	cargo build --release -p mainstay -p mainstay-bench
	$(CLUSTER) up --nodes 30 --zones 3
	$(CLUSTER) exec -- $(TARGET)/release/mainstay-bench rollout
bench-endpoints: packages cluster ## Compare EndpointPool with Services with a selector; writes docs/benchmarks.md
	cargo build --release -p mainstay -p mainstay-bench
	$(CLUSTER) up --nodes 30 --zones 3
	$(CLUSTER) exec -- $(TARGET)/release/mainstay-bench endpoints
bench-node-health: packages cluster ## Compare NodeHealthPolicy with the node lifecycle controller; writes docs/benchmarks.md
	cargo build --release -p mainstay -p mainstay-bench
	$(CLUSTER) up --nodes 1000 --zones 3
	$(CLUSTER) exec -- $(TARGET)/release/mainstay-bench node-health
bench-config: packages cluster ## Measure ConfigRollout; writes docs/benchmarks.md
	cargo build --release -p mainstay -p mainstay-bench
	$(CLUSTER) up
	$(CLUSTER) exec -- $(TARGET)/release/mainstay-bench config
bench-accounts: packages cluster ## Compare AccountPolicy with the service account controller; writes docs/benchmarks.md
	cargo build --release -p mainstay -p mainstay-bench
	$(CLUSTER) up
	$(CLUSTER) exec -- $(TARGET)/release/mainstay-bench accounts
