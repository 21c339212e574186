#!/usr/bin/env bash
# Builds the module for Envoy's own address space, stripped, so that a commit gives the same bytes in every folder and on every
# machine with the toolchain of rust-toolchain.toml.
#   scripts/build-native.sh                       for this machine: target/native/libmeshfilter.so
#   scripts/build-native.sh x86_64 | aarch64      for Linux on that one: target/native/ARCHITECTURE/libmeshfilter.so
#   scripts/build-native.sh plain                 for this machine, with its own linker and its own glibc
# Zig links it: it has the symbols of old versions of glibc, and of both architectures. scripts/install-tools.sh brings it.
set -euo pipefail
cd "$(dirname "$0")/.."

# No symbol of a newer one is asked for. Envoy's own releases want 2.30.
glibc=2.28

wanted=${1:-}
host=$(rustc -vV | sed -n 's/^host: //p')
triple=$host output=target/native command=zigbuild
case $wanted in
  x86_64 | aarch64) triple=$wanted-unknown-linux-gnu output=target/native/$wanted ;;
  '') [[ $host = *-linux-gnu ]] || command=build ;;
  plain) command=build ;;
  *) echo "build-native: there is no architecture $wanted" >&2; exit 2 ;;
esac
target=$triple
if [ $command = zigbuild ]; then
  scripts/install-tools.sh zig
  export PATH="$PWD/.tools/zig/bin:$PATH" PYTHONPATH="$PWD/.tools/zig${PYTHONPATH:+:$PYTHONPATH}"
  target=$triple.$glibc
fi
if [ ! -d "$(rustc --print target-libdir --target "$triple")" ]; then
  command -v rustup >/dev/null || { echo "build-native: the standard library for $triple is missing" >&2; exit 2; }
  rustup target add "$triple"
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
