# The one door for people and for CI. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The tests look for the library here unless the caller says otherwise; riskgate itself has its own search order.
export ORT_DYLIB_PATH ?= $(CURDIR)/vendor/onnxruntime/libonnxruntime.so
# One pinned Node for every script that needs one.
export PATH := $(CURDIR)/vendor/node/bin:$(PATH)

.PHONY: help
help: ## list the targets
	@echo "riskgate: a risk-scoring reverse proxy in front of WSO2 Identity Server"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what building and testing need (Debian packages; asks nothing)
	@scripts/setup.sh test

.PHONY: vendor
vendor: ## fetch ONNX Runtime, Node and the geolocation databases into vendor/
	@scripts/setup.sh build
	@scripts/fetch-onnxruntime.sh
	@scripts/fetch-node.sh
	@scripts/fetch-geo.sh

.PHONY: demo
demo: ## the main job in one command: simulated WSO2, riskgate, a little traffic, a login page
	@scripts/setup.sh build
	@scripts/fetch-onnxruntime.sh || echo "--> going on without ONNX Runtime: the native evaluator scores instead"
	@scripts/fetch-geo.sh || echo "--> going on without the real address databases: the demo takes the small ones of the tests"
	@echo "--> building (the first time takes several minutes)"
	@cargo build --release --locked --package riskgate --package wso2-sim --bins --example demo
	@echo "--> running the demo"
	@target/release/examples/demo

.PHONY: run
run: ## run the gateway with conf/riskgate.toml
	@scripts/setup.sh build
	@scripts/fetch-onnxruntime.sh
	@echo "--> building"
	@cargo build --release --locked --package riskgate
	@target/release/riskgate run

.PHONY: test
test: ## everything CI checks: format, lints, all tests (debug build)
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	@scripts/fetch-node.sh
	@echo "--> shell scripts: shellcheck"
	@shellcheck --external-sources scripts/*.sh .ci/run
	@echo "--> format: cargo fmt"
	@cargo fmt --all --check
	@echo "--> lints: cargo clippy"
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@echo "--> tests: cargo test"
	@scripts/test-rust.sh
	@echo "--> tests: the demo, as a check (debug build, the small address databases of the tests)"
	@cargo build --quiet --locked --package riskgate --package wso2-sim --bins --example demo
	@cargo run --quiet --locked --example demo -- --check --test-geo --bin-dir target/debug --budget-ms 5000
	@echo "--> tests: deployment (the image's root with the debug build; make image-test takes the shipped one)"
	@scripts/test-image.sh target/debug/riskgate target/debug/wso2-sim
	@$(MAKE) --no-print-directory test-training
	@echo "--> tests: the admin API by its description (Schemathesis)"
	@scripts/test-api.sh
	@echo "--> tests: Node (OpenID Connect client, browser)"
	@scripts/test-node.sh
	@echo "--> all checks passed; known flaws of dependencies need data from outside: \`make audit\`"

.PHONY: fmt
fmt: ## format the Rust code
	@cargo fmt --all

.PHONY: lint
lint: ## spelling (typos, from its Python package)
	@scripts/lint-spelling.sh

.PHONY: audit
audit: ## dependencies: licences, bans, sources, advisories (of ADVISORY_DB, or fetched by cargo-deny)
	@scripts/audit.sh

.PHONY: sbom
sbom: ## bill of materials (CycloneDX) and licences of all dependencies, into target/release-notes/
	@mkdir -p target/release-notes
	@scripts/supply_chain.py sbom --out target/release-notes/sbom.cdx.json
	@scripts/supply_chain.py licences --out target/release-notes/licences.txt
	@echo "--> target/release-notes: sbom.cdx.json, licences.txt"

.PHONY: dist
dist: ## the program as it is shipped: target/dist/riskgate (optimised over all crates; some ten minutes)
	@scripts/setup.sh build
	@cargo build --profile dist --locked --package riskgate --bin riskgate
	@ls -l target/dist/riskgate

.PHONY: image-test
image-test: ## the container image as it is shipped, without an engine: lint, root file system, run, drain
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	@cargo build --profile dist --locked --package riskgate --bin riskgate
	@cargo build --quiet --locked --package wso2-sim --bin wso2-sim
	@scripts/test-image.sh target/dist/riskgate target/debug/wso2-sim

.PHONY: bench
bench: ## load bench: requests/s, latency, CPU beside a bare proxy (two minutes)
	@scripts/setup.sh build
	@scripts/fetch-onnxruntime.sh
	@scripts/bench.sh load

.PHONY: faults
faults: ## faults of the state store against real Redis processes, as a table (ten minutes)
	@scripts/setup.sh test
	@scripts/faults.sh

.PHONY: hardening
hardening: ## the large tries of docs/SECURITY-TESTS.md, as a table: a real Tomcat, 100,000 of each kind (optimised build; an hour)
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	@scripts/hardening.sh

.PHONY: soak
soak: ## random faults for 20 minutes, and whether everything agrees afterwards (SOAK_SECONDS, SOAK_SEED; optimised build)
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	@RISKGATE_SOAK_SECONDS=$${SOAK_SECONDS:-1200} RISKGATE_SOAK_SEED=$${SOAK_SEED:-1} \
	  cargo test --quiet --release --locked --package riskgate --test lifecycle -- --nocapture --test-threads 1 soak::

.PHONY: fuzz
fuzz: ## libFuzzer against every reader of foreign bytes, FUZZ_SECONDS (180) each (optimised build; an hour)
	@scripts/setup.sh build
	@scripts/fuzz.sh

.PHONY: fuzz-state
fuzz-state: ## ten million hostile values against the decoders of the state (optimised build; some minutes)
	@scripts/setup.sh build
	@RISKGATE_HOSTILE_VALUES=10000000 cargo test --quiet --release --locked --package riskgate --lib hostile_values -- --nocapture

.PHONY: bench-micro
bench-micro: ## time single steps of a request (criterion)
	@scripts/setup.sh build
	@scripts/fetch-onnxruntime.sh
	@scripts/bench.sh micro

.PHONY: training-env
training-env:
	@echo "--> Python environment for training"
	@python3 -m venv training/.venv
	@training/.venv/bin/pip install --quiet --disable-pip-version-check --requirement training/requirements.txt

.PHONY: train-starter
train-starter: ## write the starter models (weights set by hand) and the test models to tests/data/models/
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory training-env
	@echo "--> exporting the starter model and the models of the tests"
	@training/.venv/bin/python training/export_starter.py
	@training/.venv/bin/python training/make_test_models.py

.PHONY: train
train: ## train the shipped models from simulated traffic, measure them, write training/REPORT.md
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	@$(MAKE) --no-print-directory training-env
	@echo "--> building the gateway, which computes the features"
	@cargo build --release --locked --package riskgate --bin riskgate
	@RISKGATE_BIN=$(CURDIR)/target/release/riskgate training/.venv/bin/python training/run.py

.PHONY: train-quick
train-quick: ## the same on little traffic, into training/.cache/quick/
	@scripts/setup.sh test
	@scripts/fetch-onnxruntime.sh
	@$(MAKE) --no-print-directory training-env
	@cargo build --release --locked --package riskgate --bin riskgate
	@RISKGATE_BIN=$(CURDIR)/target/release/riskgate training/.venv/bin/python training/run.py --quick

.PHONY: test-training
test-training: training-env ## the committed models are those that training/ writes
	@echo "--> tests: training"
	@training/.venv/bin/python training/export_starter.py --check
	@training/.venv/bin/python training/make_test_models.py --check
	@cd training && .venv/bin/python -m unittest discover --quiet

.PHONY: geo-test-data
geo-test-data: ## write tests/data/geo/ anew from the table in its script
	@echo "--> Python environment with mmdb-writer"
	@python3 -m venv vendor/geo-venv
	@vendor/geo-venv/bin/pip install --quiet --disable-pip-version-check mmdb-writer==0.2.7 netaddr==1.3.0
	@vendor/geo-venv/bin/python scripts/build-geo-test-data.py
	@echo "--> tests/data/geo written"

.PHONY: clean-vendor
clean-vendor: ## remove what was fetched into vendor/
	@rm -rf vendor
	@echo "--> vendor/ removed"
