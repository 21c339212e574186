#!/usr/bin/env bash
# Builds the module for Envoy's own address space, target/native/libmeshfilter.so, stripped, so that a commit gives the same
# bytes in every folder and on every machine with the same toolchain and linker.
#   scripts/build-native.sh [TARGET]
# TARGET is this machine's unless given. With a version of glibc at its end (aarch64-unknown-linux-gnu.2.31) it is built by
# `cargo zigbuild`, which has the symbols of old ones and of other architectures; the file is then
# target/native/TARGET/libmeshfilter.so.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
triple=${target%%.[0-9]*}
command=build
output=target/native
if [ $# -gt 0 ]; then output=target/native/$target; fi
if [ "$triple" != "$target" ]; then
  command=zigbuild
  export PATH="$PWD/.tools/zig/bin:$PATH" PYTHONPATH="$PWD/.tools/zig${PYTHONPATH:+:$PYTHONPATH}"
  cargo-zigbuild --version >/dev/null 2>&1 || {
    echo 'build-native: an older glibc needs cargo-zigbuild and zig: scripts/install-tools.sh zig, and see docs/native.md' >&2
    exit 2
  }
fi

# What the library's build script finds out for wasm is told here.
if [ -z "${MESHFILTER_COMMIT:-}" ] && git rev-parse --git-dir >/dev/null 2>&1; then
  MESHFILTER_COMMIT=$(git rev-parse HEAD)
  MESHFILTER_COMMIT_TIME=$(git show --no-patch --format=%ct HEAD)
  sources=(src derive native build.rs Cargo.toml Cargo.lock rust-toolchain.toml)
  [ -z "$(git status --porcelain -- "${sources[@]}")" ] || MESHFILTER_COMMIT+=-dirty
  export MESHFILTER_COMMIT MESHFILTER_COMMIT_TIME
fi

# Paths of this machine stay out of it; see scripts/build-module.sh.
cargo fetch --quiet --locked --target "$triple"
flags="--remap-path-prefix=$PWD=."
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
  flags+=" --remap-path-prefix=$registry=registry"
done
flags+=" --remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"

variable=$(tr a-z- A-Z_ <<<"CARGO_TARGET_${triple}_RUSTFLAGS")
env "$variable=$flags" cargo $command --locked --profile native --target "$target" --package meshfilter-native --lib

mkdir -p "$output"
cp "target/$triple/native/libmeshfilter_native.so" "$output/libmeshfilter.so"
