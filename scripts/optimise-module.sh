#!/usr/bin/env bash
# Makes a module smaller with Binaryen, unless the result is there already.
#   scripts/optimise-module.sh INPUT OUTPUT [OPTION-OF-WASM-OPT…]
# OUTPUT.sum tells whether it is: the checksum of both, and of what was done.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 2 ] || { echo 'optimise-module: name a module, and where the result goes' >&2; exit 2; }
input=$1 output=$2
# What Debian 12 has.
pinned=108
options=(
  # What the compiler makes use of, and no more.
  --mvp-features --enable-bulk-memory --enable-mutable-globals --enable-nontrapping-float-to-int --enable-sign-ext
  # The compiler's own, and its list of features.
  --strip-producers --strip-target-features
  # A sum may become an address and an offset, which traps where the sum would have wrapped around to the first 1024 bytes.
  # They are the end of the stack, the linker lays it below everything else: what reached them so has used it up.
  --low-memory-unused
  # Without a bound, what is called once becomes part of its caller, and V8 takes 20 MiB more to compile such large functions.
  --one-caller-inline-max-function-size=1000
  # A request takes as many instructions as with -O3. It stands last: a step after it would undo its last.
  -Os
  "${@:3}"
)

scripts/install-tools.sh binaryen
version=$(.tools/bin/wasm-opt --version)
[ "$(awk '{print $3}' <<<"$version")" = $pinned ] ||
  echo "optimise-module: $version gives other bytes than version $pinned, with which a commit is the same everywhere" >&2

sum() { { cat "$input" "$output"; echo "$version ${options[*]}"; } | sha256sum; }
if [ -f "$output" ] && [ -f "$output.sum" ] && [ "$(sum)" = "$(cat "$output.sum")" ]; then exit; fi
mkdir -p "$(dirname "$output")"
# What stands there may be a hard link of cargo's, or be read by a proxy.
.tools/bin/wasm-opt "${options[@]}" "$input" --output "$output.new"
mv -f "$output.new" "$output"
sum >"$output.sum"
