#!/usr/bin/env bash
# Asks a running gateway what docs/reference/admin-api.json says of its admin listener, with Schemathesis: hostile and odd
# requests to every operation, none of which may end in a 5xx or in an answer that the description does not know. The gateway
# stands in front of the simulated identity server and has decided about real sign-ins, held two of them, and knows labels and a
# rollout plan; every operation must be answered with success at least once.
#
#   scripts/test-api.sh
#
# RISKGATE_BIN and WSO2_SIM_BIN name other binaries than the debug builds, which are made here when they are not set.
# Exit code 0 when all is as described, 1 when something is not, 2 when something needed is missing.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

run_seconds_max=600
password="correct horse battery"

python_environment "$root/tests/api/.venv" "$root/tests/api/requirements.txt" "Schemathesis"
if [ -z "${RISKGATE_BIN:-}" ] || [ -z "${WSO2_SIM_BIN:-}" ]; then
    (cd "$root" && cargo build --quiet --locked --package riskgate --package wso2-sim --bins)
    RISKGATE_BIN=${RISKGATE_BIN:-$root/target/debug/riskgate}
    WSO2_SIM_BIN=${WSO2_SIM_BIN:-$root/target/debug/wso2-sim}
fi

folder=$(mktemp -d)
started=()
finish() {
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap finish EXIT

# Asks until there is an answer; `answers URL PROCESS LOG`.
answers() {
    for _ in $(seq 1 300); do
        if python3 -c "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=2)" "$1" 2>/dev/null; then
            return
        fi
        kill -0 "$2" 2>/dev/null || break
        sleep 0.2
    done
    cat "$3" >&2
    fail "nothing answers at $1"
}

# Four ports that nobody listens on, below those that connections are given.
read -r listen admin actions sim < <(python3 - <<'PYTHON'
import random, socket
sockets = []
while len(sockets) < 4:
    try:
        sockets.append(socket.create_server(("127.0.0.1", random.randrange(10_000, 32_000))))
    except OSError:
        pass
print(*(one.getsockname()[1] for one in sockets))
PYTHON
)
cat >"$folder/rollout.toml" <<TOML
approvals = 2
[[stage]]
application = "demo-web"
mode = "enforce"
approved_by = ["ada", "bea"]
[[proposal]]
application = "demo-mfa"
mode = "enforce"
percentage = 10
approved_by = ["bea"]
approved_at = "2026-11-26T09:00:00.000Z"
reason = "its script is ready"
[[stage]]
application = "demo-opaque"
mode = "enforce"
approved_by = ["ada", "bea"]
TOML
cat >"$folder/policy.toml" <<TOML
version = 1
[[rule]]
name = "opaque-is-held"
when = 'request.door == "authorize" && client.id == "demo-opaque"'
verdict = "review"
TOML
cat >"$folder/riskgate.toml" <<TOML
[server]
listen = "127.0.0.1:$listen"
trusted_proxies = ["127.0.0.1/32"]
[admin]
listen = "127.0.0.1:$admin"
[actions]
listen = "127.0.0.1:$actions"
[upstream]
url = "http://127.0.0.1:$sim"
[score]
budget_ms = 10000
[state]
data_dir = "$folder/data"
[policy]
file = "$folder/policy.toml"
[rollout]
file = "$folder/rollout.toml"
[geo]
country = "$root/tests/data/geo/country.mmdb"
city = ["$root/tests/data/geo/city-ipv4.mmdb", "$root/tests/data/geo/city-ipv6.mmdb"]
asn = "$root/tests/data/geo/asn.csv"
kinds = "$root/tests/data/geo/network-kinds.csv"
TOML
printf '%s\n' "$password" | "$RISKGATE_BIN" operator add ada --role admin --data "$folder/data" >/dev/null
"$WSO2_SIM_BIN" --listen "127.0.0.1:$sim" --public-url "http://127.0.0.1:$listen" >"$folder/sim.log" 2>&1 &
started+=($!)
answers "http://127.0.0.1:$sim/oauth2/token/.well-known/openid-configuration" "$!" "$folder/sim.log"
(cd "$root" && exec "$RISKGATE_BIN" run -c "$folder/riskgate.toml") >"$folder/log" 2>&1 &
started+=($!)
answers "http://127.0.0.1:$admin/health/ready" "$!" "$folder/log"
token=$(cat "$folder/data/admin.token")
python3 "$root/tests/api/seed.py" "http://127.0.0.1:$listen" "http://127.0.0.1:$admin" "$token" "$password" "$folder/admin-api.json" ||
    { cat "$folder/log" >&2; fail "the gateway cannot be filled"; }

say "the admin API by its description"
status=0
cd "$folder"
timeout "$run_seconds_max" "$root/tests/api/.venv/bin/schemathesis" run "$folder/admin-api.json" \
    --url "http://127.0.0.1:$admin" \
    --header "Authorization: Bearer $token" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing,stateful --max-examples 40 --seed 1 --suppress-health-check all --continue-on-failure \
    --report har --report-har-path "$folder/run.har" --no-color --warnings off >"$folder/run.txt" 2>&1 ||
    status=$?
[ "$status" -eq 0 ] || cat "$folder/run.txt"
[ "$status" -eq 0 ] || fail "the admin API is not as described (exit code $status)"
python3 "$root/tests/api/check.py" "$folder/admin-api.json" "$folder/run.har" || fail "the run has not tried what it should"
if grep -q panicked "$folder/log"; then
    fail "the gateway has panicked"
fi
say "the admin API is as described"
