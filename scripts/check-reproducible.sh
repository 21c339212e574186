#!/usr/bin/env bash
# Builds the module that target/ has once more, from a copy of the sources in another folder and with dependencies that lie
# in another place, and compares the bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

module=target/wasm32-wasip1/release/meshfilter.wasm
[ -f "$module" ] || { echo "check-reproducible: there is no $module; run \`make build\`" >&2; exit 2; }
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# The commit that is checked out, in a repository of its own, and over it the files as they lie here.
if [ -e .git ]; then git clone --quiet . "$copy"; fi
tar -c --exclude=./.git --exclude=./target --exclude=./.tools --exclude=./dist . | tar -x -C "$copy"

# Another home of cargo with the same downloads.
home=$copy/.cargo-home
mkdir "$home"
ln -s "${CARGO_HOME:-$HOME/.cargo}/registry" "$home/registry"

echo "check-reproducible: building in $copy"
(cd "$copy" && CARGO_HOME=$home CARGO_TARGET_DIR=$copy/target scripts/build-module.sh)
sha256sum "$module" "$copy/$module"
if ! cmp "$module" "$copy/$module"; then
  echo 'check-reproducible: another folder gives another module; look for a path in it: strings meshfilter.wasm | grep /' >&2
  exit 1
fi
echo 'check-reproducible: the same bytes'
