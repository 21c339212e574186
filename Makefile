# The front door. `make` prints what there is.
MODULE := target/wasm32-wasip1/release/meshfilter.wasm

.DEFAULT_GOAL := help
.PHONY: help demo build test lint unit node envoy tools

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: tools build ## The policies in a real Envoy, with real requests; ONCE=1 ends by itself and fails if a step does
	cargo run --quiet --features envoy --example demo

build: ## The module, target/wasm32-wasip1/release/meshfilter.wasm, and its size
	@scripts/install-tools.sh wasm-targets
	cargo build --release --target wasm32-wasip1 --lib
	@printf '%s: %s bytes\n' $(MODULE) "$$(wc -c < $(MODULE) | tr -d ' ')"

test: lint unit node envoy ## Everything that must hold; `make envoy` and the others are its parts
	@echo 'make test: all passed'

lint: ## Format and clippy, for the native command and for the module
	@scripts/install-tools.sh wasm-targets
	cargo fmt --check
	cargo clippy --all-targets --features envoy -- -D warnings
	cargo clippy --lib --target wasm32-wasip1 -- -D warnings

unit: ## Unit tests and the cases on the fake host: no Envoy needed
	cargo test

node: ## The core in Node, as wasm32-unknown-unknown
	@scripts/install-tools.sh wasm-targets wasm-bindgen
	CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$(CURDIR)/.tools/bin/wasm-bindgen-test-runner" \
	  cargo test --target wasm32-unknown-unknown --test node

envoy: tools build ## The cases, and what else must hold, through a real Envoy
	cargo test --features envoy --test 'envoy_*' --test mtls --test parity_identity --test module --test compose

tools: ## Install what is missing: wasm targets, and into .tools Envoy and wasm-bindgen's test runner
	@scripts/install-tools.sh
