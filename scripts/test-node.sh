#!/usr/bin/env bash
# Runs the tests that speak JavaScript: an OpenID Connect client and provider (tests/oidc), a browser (tests/browser).
#
#   scripts/test-node.sh [oidc] [browser]    both when none is named
#
# RISKGATE_BIN, WSO2_SIM_BIN and VERIFY_ASSERTION_BIN name other binaries than the debug builds, which are made here when one
# is not set; CHROMIUM another browser than /usr/bin/chromium; SCREENSHOTS a folder that keeps the pictures of the pages.
# Exit code 0 when all tests passed, 1 when one failed, 2 when something needed is missing.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_seconds_max=600
suite_seconds_max=1800

suites=()
for argument in "$@"; do
    case "$argument" in
    oidc | browser) suites+=("$argument") ;;
    -h | --help)
        sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) fail "unknown suite \`$argument\`, expected \`oidc\` or \`browser\`" 2 ;;
    esac
done
[ "${#suites[@]}" -gt 0 ] || suites=(oidc browser)

if [ -x "$vendor/node/bin/node" ]; then
    PATH="$vendor/node/bin:$PATH"
fi
for tool in node npm; do
    command -v "$tool" >/dev/null || fail "$tool is missing: run \`scripts/fetch-node.sh\`" 2
done
major=$(node --print 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || fail "node is version $major, expected 20 or newer: run \`scripts/fetch-node.sh\`" 2

# Installs what the lock file says, unless the folder has exactly that already; `install_modules SUITE`.
install_modules() {
    local folder="$root/tests/$1"
    local stamp="$folder/node_modules/.installed-from" lock
    lock=$(digest "$folder/package-lock.json")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$lock" ]; then
        return
    fi
    if grep -q '"resolved"' "$folder/package-lock.json"; then
        fail "tests/$1/package-lock.json names download addresses: write it with \`npm install\` in that folder"
    fi
    say "installing the Node modules of tests/$1"
    (cd "$folder" && timeout "$install_seconds_max" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        fail "npm could not install the modules of tests/$1" 2
    printf '%s\n' "$lock" >"$stamp"
}

# The Python of the OpenID Connect tests, in an environment of its own.
install_authlib() {
    local folder="$root/tests/oidc"
    local stamp="$folder/.venv/.installed-from" wanted
    wanted=$(digest "$folder/requirements.txt")
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        say "installing Authlib for tests/oidc"
        python3 -m venv "$folder/.venv" || fail "python3 cannot make an environment: run \`make setup\`" 2
        timeout "$install_seconds_max" "$folder/.venv/bin/pip" install --quiet --disable-pip-version-check \
            --requirement "$folder/requirements.txt" || fail "pip could not install tests/oidc/requirements.txt" 2
        printf '%s\n' "$wanted" >"$stamp"
    fi
    export AUTHLIB_PYTHON="$folder/.venv/bin/python"
}

for suite in "${suites[@]}"; do
    install_modules "$suite"
    [ "$suite" != oidc ] || install_authlib
    if [ "$suite" = oidc ]; then
        command -v javac >/dev/null || fail "javac is missing: run \`make setup\`" 2
        [ -e /usr/share/java/gson.jar ] || fail "Gson is missing: run \`make setup\`" 2
    fi
    # The browser signs in at the provider of the other suite as well.
    [ "$suite" != browser ] || install_modules oidc
    if [ "$suite" = browser ]; then
        [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || fail "Chromium is missing: run \`make setup\`, or set CHROMIUM" 2
        command -v openssl >/dev/null || fail "openssl is missing: run \`make setup\`" 2
    fi
done

if [ -z "${RISKGATE_BIN:-}" ] || [ -z "${WSO2_SIM_BIN:-}" ] || [ -z "${VERIFY_ASSERTION_BIN:-}" ]; then
    say "building the binaries under test"
    (cd "$root" && cargo build --quiet --locked --package riskgate --package wso2-sim --bins --example verify-assertion)
fi
if [ -z "${ORT_DYLIB_PATH:-}" ] && [ -e "$vendor/onnxruntime/libonnxruntime.so" ]; then
    export ORT_DYLIB_PATH="$vendor/onnxruntime/libonnxruntime.so"
fi

failed=()
for suite in "${suites[@]}"; do
    say "tests/$suite on Node.js $(node --version)"
    started=$SECONDS
    (cd "$root/tests/$suite" && timeout --kill-after=10 "$suite_seconds_max" node --test --test-reporter=spec ./*.test.mjs) ||
        failed+=("$suite")
    say "tests/$suite took $((SECONDS - started)) s"
done

if [ "${#failed[@]}" -gt 0 ]; then
    fail "Node tests failed: ${failed[*]}"
fi
say "Node tests passed: ${suites[*]}"
