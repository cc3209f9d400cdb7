#!/usr/bin/env bash
# Asks a running gateway what docs/reference/admin-api.json says of its admin listener, with Schemathesis: hostile and odd
# requests to every operation, none of which may end in a 5xx or in an answer that the description does not know.
#
#   scripts/test-api.sh
#
# RISKGATE_BIN names another binary than the debug build, which is made here when it is not set.
# Exit code 0 when all is as described, 1 when something is not, 2 when something needed is missing.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

run_seconds_max=600
password="correct horse battery"

python_environment "$root/tests/api/.venv" "$root/tests/api/requirements.txt" "Schemathesis"
if [ -z "${RISKGATE_BIN:-}" ]; then
    (cd "$root" && cargo build --quiet --locked --package riskgate --bin riskgate)
    RISKGATE_BIN="$root/target/debug/riskgate"
fi

folder=$(mktemp -d)
gateway=
finish() {
    if [ -n "$gateway" ]; then
        kill "$gateway" 2>/dev/null || true
        wait "$gateway" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap finish EXIT

# Three ports that nobody listens on, below those that connections are given.
read -r listen admin nobody < <(python3 - <<'PYTHON'
import random, socket
sockets = []
while len(sockets) < 3:
    try:
        sockets.append(socket.create_server(("127.0.0.1", random.randrange(10_000, 32_000))))
    except OSError:
        pass
print(*(one.getsockname()[1] for one in sockets))
PYTHON
)
: >"$folder/rollout.toml"
cat >"$folder/riskgate.toml" <<TOML
[server]
listen = "127.0.0.1:$listen"
[admin]
listen = "127.0.0.1:$admin"
[upstream]
url = "http://127.0.0.1:$nobody"
[state]
data_dir = "$folder/data"
[rollout]
file = "$folder/rollout.toml"
TOML
printf '%s\n' "$password" | "$RISKGATE_BIN" operator add ada --role admin --data "$folder/data" >/dev/null
(cd "$root" && exec "$RISKGATE_BIN" run -c "$folder/riskgate.toml") >"$folder/log" 2>&1 &
gateway=$!
for _ in $(seq 1 300); do
    if python3 -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$admin/health/live', timeout=2)" 2>/dev/null; then
        break
    fi
    kill -0 "$gateway" 2>/dev/null || { cat "$folder/log" >&2; fail "the gateway has ended"; }
    sleep 0.2
done

say "the admin API by its description"
status=0
cd "$folder"
timeout "$run_seconds_max" "$root/tests/api/.venv/bin/schemathesis" run "$root/docs/reference/admin-api.json" \
    --url "http://127.0.0.1:$admin" \
    --header "Authorization: Bearer $(cat "$folder/data/admin.token")" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing --max-examples 40 --seed 1 --suppress-health-check all --continue-on-failure --no-color --warnings off ||
    status=$?
[ "$status" -eq 0 ] || fail "the admin API is not as described (exit code $status)"
if grep -q panicked "$folder/log"; then
    fail "the gateway has panicked"
fi
say "the admin API is as described"
