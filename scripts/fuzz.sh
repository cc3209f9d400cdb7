#!/usr/bin/env bash
# Lets libFuzzer search each fuzz target for FUZZ_SECONDS (180), one after the other, and prints a row for each. What it
# finds new stays in target/fuzz/corpus; what breaks a promise is kept in target/fuzz/found and ends the script with an
# error. The arithmetic of the gateway is checked meanwhile.
#
#   scripts/fuzz.sh                     all targets
#   FUZZ_SECONDS=600 scripts/fuzz.sh path form

set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${FUZZ_SECONDS:-180}"
checks=()
for package in riskgate riskgate-fuzz; do
    for setting in 'opt-level=1' 'debug-assertions=true' 'overflow-checks=true'; do
        checks+=(--config "profile.release.package.$package.$setting")
    done
done
RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/fuzz-rustc.sh" cargo build --release --locked --workspace --bin riskgate-fuzz \
    --features riskgate-fuzz/libfuzzer "${checks[@]}"
program=target/release/riskgate-fuzz
mapfile -t targets < <(RISKGATE_FUZZ_TARGET=list "$program")

printf '%-14s %10s %12s %8s %8s   %s\n' target seconds executions edges corpus result
failed=0
for target in "${targets[@]}"; do
    read -r name seeds <<<"$target"
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then
        continue
    fi
    corpus="target/fuzz/corpus/$name"
    found="target/fuzz/found/$name"
    log="target/fuzz/$name.log"
    mkdir -p "$corpus" "$found" "target/fuzz/seeds/$name"
    # libFuzzer takes folders only.
    for place in $seeds; do
        find "$place" -type f -size -64k -exec cp -t "target/fuzz/seeds/$name" {} +
    done
    result=held
    RISKGATE_FUZZ_TARGET="$name" "$program" "$corpus" "target/fuzz/seeds/$name" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -max_len=65536 -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$found/" \
        >"$log" 2>&1 || { result="BROKEN: $log"; failed=1; }
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -d' ' -f2)
    printf '%-14s %10s %12s %8s %8s   %s\n' "$name" "$seconds" "${executions:--}" "${edges:--}" \
        "$(find "$corpus" -type f | wc -l)" "$result"
done
exit "$failed"
