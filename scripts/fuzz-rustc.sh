#!/usr/bin/env bash
# Compiles a package of the workspace so that libFuzzer sees where a run goes; `scripts/fuzz.sh` sets it as
# RUSTC_WORKSPACE_WRAPPER. Crates from outside are compiled as ever: their generic code counts where it is used.
# It works with a stable compiler: LLVM's pass is there, only the sanitizers are not.

set -euo pipefail

for argument in "$@"; do
    # Build scripts run on their own and have no libFuzzer.
    if [ "$argument" = build_script_build ]; then
        exec "$@"
    fi
done
exec "$@" \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
