#!/usr/bin/env bash
# Builds the module, target/wasm32-wasip1/release/meshfilter.wasm, so that a commit gives the same bytes in every folder
# and on every machine with the toolchain of rust-toolchain.toml: the paths of this one stay out of it.
#   scripts/build-module.sh named      the same code with the names of its functions, in target/wasm32-wasip1/named
set -euo pipefail
cd "$(dirname "$0")/.."

# The sources of the dependencies lie in a folder that is named after the registry they came from.
cargo fetch --quiet --locked --target wasm32-wasip1
flags="--remap-path-prefix=$PWD=."
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
  flags+=" --remap-path-prefix=$registry=registry"
done
# Where rust-src is installed, the standard library would be named by its place there.
flags+=" --remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"

CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=$flags cargo build --locked --profile "${1:-release}" --target wasm32-wasip1 --package meshfilter --lib
