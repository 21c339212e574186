#!/usr/bin/env bash
# Runs the fuzz targets with libFuzzer, one after the other:
#   scripts/fuzz.sh SECONDS [TARGET…]        without targets all of them
# Coverage comes from the compiler's own passes, so that neither a nightly toolchain nor cargo-fuzz is needed; the C++
# compiler builds libFuzzer. What is found is left in target/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?how many seconds for each target}
shift
[ $# -gt 0 ] || set -- $(ls fuzz/corpus)

command -v "${CXX:-c++}" >/dev/null || {
  printf '%s\n' 'fuzz: no C++ compiler for libFuzzer; cargo test --test fuzz_targets has the corpus and random mixtures of it' >&2
  exit 1
}

passes='-Cpasses=sancov-module'
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
  passes+=" -Cllvm-args=-sanitizer-coverage-$argument"
done
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$passes -Ccodegen-units=16 --cfg fuzzing" \
  cargo build --release --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --target "$target"

for name in "$@"; do
  mkdir -p "target/fuzz/corpus/$name" target/fuzz/found
  printf '%s\n' "fuzz: $name"
  FUZZ_TARGET=$name "target/fuzz/$target/release/meshfilter-fuzz" \
    -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="target/fuzz/found/$name-" "target/fuzz/corpus/$name" "fuzz/corpus/$name" 2>&1 |
    grep -v -E '^#|^"|NEW_FUNC|^INFO'
done
echo 'fuzz: nothing found'
