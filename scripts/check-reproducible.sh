#!/usr/bin/env bash
# Builds a module that target/ has once more, from a copy of the sources in another folder and with dependencies that lie in
# another place, and compares the bytes.
#   scripts/check-reproducible.sh [wasm | native]
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-wasm} in
  wasm) module=target/wasm32-wasip1/release/meshfilter.wasm build=scripts/build-module.sh make=build ;;
  native) module=target/native/libmeshfilter.so build=scripts/build-native.sh make=native ;;
  *) echo "check-reproducible: there is no module $1" >&2; exit 2 ;;
esac
[ -f "$module" ] || { echo "check-reproducible: there is no $module; run \`make $make\`" >&2; exit 2; }
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# The commit that is checked out, in a repository of its own, and over it the files as they lie here.
if [ -e .git ]; then git clone --quiet . "$copy"; fi
tar -c --exclude=./.git --exclude=./target --exclude=./.tools --exclude=./dist . | tar -x -C "$copy"
# What links is no source.
if [ -d .tools ]; then ln -s "$(cd .tools && pwd -P)" "$copy/.tools"; fi

# Another home of cargo with the same downloads.
home=$copy/.cargo-home
mkdir "$home"
ln -s "${CARGO_HOME:-$HOME/.cargo}/registry" "$home/registry"

echo "check-reproducible: building in $copy"
(cd "$copy" && CARGO_HOME=$home CARGO_TARGET_DIR=$copy/target $build)
sha256sum "$module" "$copy/$module"
if ! cmp "$module" "$copy/$module"; then
  echo "check-reproducible: another folder gives another module; look for a path in it: strings $(basename "$module") | grep /" >&2
  exit 1
fi
echo 'check-reproducible: the same bytes'
