# The front door. `make` prints what there is.
WASM := target/wasm32-wasip1/release/meshfilter.wasm
NATIVE := target/native/libmeshfilter.so
# What is measured is Envoy; the client is fast enough as the tests are built.
BENCH := cargo bench --profile dev --bench envoy --
# What shows that the bench works: every kind of configuration, a few requests each.
BENCHED := empty,filters,native-tuned-new,native-default,native-default-new,meshfilter,meshfilter-new,authentication,authorization,routing
BENCHED := $(BENCHED),faults,rate-limits,telemetry,entries-1000,rules-1000,meshfilter-2-workers,keys
# What docs/native.md has.
BENCHED_NATIVE := instructions,bare,native-tuned,native-metrics,native-default-new,nothing,nothing-plain,meshfilter-like,meshfilter
BENCHED_NATIVE := $(BENCHED_NATIVE),meshfilter-new

.DEFAULT_GOAL := help
.PHONY: help demo fleet build native native-all native-memory native-cost native-miri image image-native bench bench-import bench-native bench-sdk test lint unit envoy-native malformed parity adversarial fuzz envoy-oldest node envoy soak package tools

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(if $(filter native,$(MODULE)),native,build) ## The policies in a real Envoy, with real requests; MODULE=native has the other module; ONCE=1 ends by itself and fails if a step does
	@scripts/install-tools.sh envoy
	MESHFILTER_MODULE=$(MODULE) cargo run --quiet --example demo

fleet: build ## One limit for two Envoys: Redis, a rate limit service, both proxies, traffic; ONCE=1 ends by itself, RUNS=10 measures
	@scripts/install-tools.sh envoy fleet
	RUNS=$(RUNS) cargo run --quiet --example fleet

build: ## The module, target/wasm32-wasip1/release/meshfilter.wasm, and its size
	@scripts/install-tools.sh wasm-targets
	@scripts/build-module.sh
	@printf '%s: %s bytes\n' $(WASM) "$$(wc -c < $(WASM) | tr -d ' ')"

native: ## The dynamic module for Envoy 1.38 and later, target/native/libmeshfilter.so, for this machine, and its size
	@scripts/build-native.sh
	@printf '%s: %s bytes\n' $(NATIVE) "$$(wc -c < $(NATIVE) | tr -d ' ')"

image: build ## Container image, OCI artifact, schema and policies in dist/, the same bytes for the same commit; no Docker needed
	cargo run --quiet -- image $(WASM) --output dist --policy examples/policies/*.yaml

test: lint unit node envoy envoy-native package ## Everything that must hold; `make envoy` and the others are its parts
	@echo 'make test: all passed'

lint: ## Format and clippy, for the native command and for the module
	@scripts/install-tools.sh wasm-targets
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --test '*' -- -D warnings
	cargo clippy --package meshfilter --package meshfilter-config --package meshfilter-core --package meshfilter-json --lib --target wasm32-wasip1 -- -D warnings
	cargo check --package meshfilter-sdk --features core --target wasm32-wasip1
	cargo fmt --manifest-path tests/rate_limit_service/Cargo.toml --check

bench-native: tools build native ## What requests cost with the native module beside the others, in instructions; needs valgrind
	$(BENCH) --only $(BENCHED_NATIVE) --other native=$(NATIVE) --rounds 0

bench-sdk: tools build ## The same core behind the proxy-wasm SDK beside this module, in bytes and instructions; needs valgrind
	cargo build --profile named --locked --target wasm32-wasip1 --package meshfilter-sdk --features core
	@scripts/optimise-module.sh target/wasm32-wasip1/named/meshfilter_sdk.wasm target/bench/sdk.wasm
	@wc -c $(WASM) target/bench/sdk.wasm
	$(BENCH) --only instructions,bare,nothing,meshfilter,meshfilter-new --other sdk=target/bench/sdk.wasm --rounds 0

bench-import: ## What an import of 10 000 resources takes: time and memory
	cargo bench --profile native --package meshfilter-cli --bench import

bench: tools build ## What requests cost in Envoy, bare, with its own filters and with the module; ROUNDS=40 SLICE=2000 ONLY=name,name OTHER=name=path FIRST=1 PAGE=1 REDRAW=1
	$(BENCH) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SLICE),--slice $(SLICE)) $(if $(ONLY),--only $(ONLY)) $(if $(OTHER),--other $(OTHER)) $(if $(FIRST),--first) $(if $(PAGE),--page) $(if $(REDRAW),--redraw)

unit: ## Unit tests and the cases on the fake host: no Envoy needed
	cargo test

native-memory: ## The native module's own tests, every hook and a panic in each among them, with the address sanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' CARGO_TARGET_DIR=target/asan cargo test --package meshfilter-native \
	  --features system-allocator,panics --target "$$(rustc -vV | sed -n 's/^host: //p')"

native-cost: native ## What a request costs in the native module, in instructions, is what it is pinned to; some seconds in valgrind
	@scripts/install-tools.sh valgrind
	cargo test --test native_cost -- --nocapture

# The timer's thread, and what threads keep for their next request, go with the process: leaks are the sanitizer's business.
MIRI := MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks' cargo +nightly miri test
native-miri: ## The same in Miri, of a nightly toolchain; some minutes
	$(MIRI) --package meshfilter-native --target-dir target/miri --features system-allocator,panics
	$(MIRI) --package meshfilter-native --target-dir target/miri -- allocator

native-all: ## The same for x86-64 and for arm64: target/native/ARCHITECTURE/libmeshfilter.so
	@scripts/build-native.sh x86_64
	@scripts/build-native.sh aarch64

image-native: native-all ## Container image of the native module, for both architectures, in dist/native
	cargo run --quiet -- image target/native/x86_64/libmeshfilter.so target/native/aarch64/libmeshfilter.so --output dist/native

# A push of another wasm module and the crash of a VM have no native twin.
envoy-native: tools native native-all native-memory native-cost ## Cases, key sets, mTLS, parity, traffic, pushes, metrics, malformed requests, a short soak and panics with the native module
	@scripts/install-tools.sh envoy-1.38 envoy-1.39 envoy-oldest fleet registry
	cargo build --package meshfilter-native --features panics
	cargo test --test native
	MESHFILTER_MODULE=native cargo test --package meshfilter-cli --test envoy_live
	MESHFILTER_MODULE=native cargo test --test envoy_cases --test envoy_keys --test mtls --test envoy_command --test envoy_behaviour --test parity_identity
	MESHFILTER_MODULE=native cargo test --test operate -- --skip another_module --skip crash
	MESHFILTER_MODULE=native cargo test --test envoy_observability --test envoy_traffic --test fleet
	cargo test --test envoy_k8s native_module
	cargo test --package meshfilter-cli --test registry -- native_modules
	cargo test --package meshfilter-cli --test compose -- native
	ONCE=1 MESHFILTER_MODULE=native cargo run --quiet --example demo
	MESHFILTER_MODULE=native MESHFILTER_MALFORMED_COUNT=3400 cargo test --test malformed
	MESHFILTER_MODULE=native MESHFILTER_SOAK_SECONDS=30 cargo test --test soak
	MESHFILTER_MODULE=native MESHFILTER_ENVOY="$(CURDIR)/.tools/envoy-1.39" cargo test --test envoy_cases -- telemetry
	MESHFILTER_MODULE=native MESHFILTER_ENVOY="$(CURDIR)/.tools/envoy-1.38" cargo test --test envoy_cases -- telemetry

malformed: tools build ## Ten thousand malformed requests to an Envoy with two workers; COUNT=10000 SEED=1
	$(if $(COUNT),MESHFILTER_MALFORMED_COUNT=$(COUNT)) $(if $(SEED),MESHFILTER_MALFORMED_SEED=$(SEED)) \
	  cargo test --test malformed -- --nocapture

parity: tools build ## The policies and Envoy's own filters give the same answers, with random seeds: SEEDS=50; SEED=1 is the first
	MESHFILTER_SEED=$(or $(SEED),$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')) MESHFILTER_SEEDS=$(or $(SEEDS),50) \
	  cargo test --test parity_identity -- --nocapture

adversarial: ## How long 64 KB of the worst input take, with optimisation
	CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	  cargo test --release --test adversarial -- --include-ignored --nocapture

fuzz: ## Every fuzz target for a while, with libFuzzer; SECONDS=60 TARGET=name
	@scripts/fuzz.sh $(or $(SECONDS),60) $(TARGET)

envoy-oldest: build ## The cases through the oldest Envoy that they hold for
	@scripts/install-tools.sh envoy-oldest
	MESHFILTER_ENVOY="$(CURDIR)/.tools/envoy-oldest" cargo test --test envoy_cases

node: ## The core in Node, as wasm32-unknown-unknown
	@scripts/install-tools.sh wasm-targets wasm-bindgen
	CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$(CURDIR)/.tools/bin/wasm-bindgen-test-runner" \
	  cargo test --package meshfilter-tests --target wasm32-unknown-unknown --test node

envoy: tools build ## The cases, and what else must hold, through a real Envoy
	@scripts/install-tools.sh registry fleet
	cargo test --test 'envoy_*' --test fleet --test mtls --test parity_identity --test module --test sdk --test operate --test soak --test compose
	$(BENCH) --check --rounds 1 --slice 200 --keys 5000 --only $(BENCHED)

MINUTES ?= 10
soak: tools build ## Everything at once through a real Envoy, for so long: MINUTES=10; `make test` has one minute of it
	MESHFILTER_SOAK_SECONDS=$$(($(MINUTES) * 60)) cargo test --test soak

package: tools image ## What dist/ holds, with a real registry; and that another folder gives the same bytes
	@scripts/install-tools.sh registry
	cargo test --test registry -- --skip native_modules
	scripts/check-reproducible.sh

tools: ## Install what is missing: wasm targets, and into .tools Envoy, Prometheus and wasm-bindgen's test runner
	@scripts/install-tools.sh
