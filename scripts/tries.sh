# Sourced by the scripts that run large tests of faults and attacks: what a test prints is kept, its rows become a table,
# and a test that fails stops nothing but the script ends with an error. `build` holds further flags of cargo.
# shellcheck shell=bash

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
failed=0
build=()
export RUST_BACKTRACE=0

# run TEST [FILTER...]: a test binary, one test after the other.
run() {
    local binary=$1
    shift
    echo "--> $binary $*"
    cargo test --quiet --locked --package riskgate "${build[@]}" --test "$binary" -- --nocapture --test-threads 1 "$@" \
        >>"$log" 2>&1 || failed=1
}

# table MARK FORMAT HEADING...: the lines "MARK|CELL|CELL...", which may come after the end of another line.
table() {
    local mark=$1 line=$2 cells
    shift 2
    echo
    # shellcheck disable=SC2059 # the format is an argument
    printf "$line" "$@"
    { grep -aoE "${mark}[|].*" "$log" || true; } | while IFS='|' read -r -a cells; do
        # shellcheck disable=SC2059
        printf "$line" "${cells[@]:1}"
    done
    echo
}

# also EXPRESSION: what else was printed.
also() {
    grep -aoE "$1" "$log" | sed 's/^/  /' || true
}

# finish SENTENCE: how the tests ended, and the sentence if one failed.
finish() {
    echo
    grep -aE '^test result' "$log" || true
    if [ "$failed" -ne 0 ]; then
        echo
        grep -aE 'panicked at|assertion|FAILED|error' -A 3 "$log" | head -40 || true
        echo "$1"
        exit 1
    fi
}
