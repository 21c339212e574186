#!/usr/bin/env bash
# Builds the module, target/wasm32-wasip1/release/meshfilter.wasm, so that a commit gives the same bytes in every folder
# and on every machine with the toolchain of rust-toolchain.toml and the wasm-opt of scripts/optimise-module.sh: the paths of
# this one stay out of it.
#   scripts/build-module.sh named      the same code with the names of its functions, meshfilter.named.wasm beside it
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${CARGO_TARGET_DIR:-target}/wasm32-wasip1
case ${1:-} in
  '') module=meshfilter.wasm options=() ;;
  named) module=meshfilter.named.wasm options=(--debuginfo) ;;
  *) echo "build-module: there is no module $1; leave it out, or say named" >&2; exit 2 ;;
esac

# The sources of the dependencies lie in a folder that is named after the registry they came from.
cargo fetch --quiet --locked --target wasm32-wasip1
flags="--remap-path-prefix=$PWD=."
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
  flags+=" --remap-path-prefix=$registry=registry"
done
# Where rust-src is installed, the standard library would be named by its place there.
flags+=" --remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"

CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=$flags cargo build --locked --profile named --target wasm32-wasip1 --package meshfilter --lib

# Functions are put in an order in which their names have a say: both are made of the module that has them.
scripts/optimise-module.sh "$folder/named/meshfilter.wasm" "$folder/release/$module" "${options[@]}"
