#!/usr/bin/env bash
# Looks at what riskgate depends on: licences, banned crates, sources, known flaws.
#
#   scripts/audit.sh                  everything; exit code 2 where advisories cannot be had
#   scripts/audit.sh --if-possible    what can be done here; says plainly what was not (for CI)
#
# ADVISORY_DB names a folder with the RustSec advisory database (the one that holds `crates`); nothing is then fetched.
# Without it cargo-deny fetches the database, where it is installed (`cargo install --locked cargo-deny`).
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
'' | --if-possible) ;;
*) fail "unknown flag \`$1\`" 2 ;;
esac
has() { command -v "$1" >/dev/null 2>&1; }
cd "$root"

say "licences, bans, sources"
scripts/supply_chain.py policy
if has cargo-deny; then
    say "licences, bans, sources: cargo-deny"
    cargo deny --workspace --locked check bans licenses sources
fi

if [ -n "${ADVISORY_DB:-}" ]; then
    say "advisories, from the folder that ADVISORY_DB names"
    scripts/supply_chain.py advisories "$ADVISORY_DB"
    if has cargo-audit; then
        say "advisories: cargo-audit, from the same folder"
        cargo audit --db "$ADVISORY_DB" --no-fetch --stale
    fi
elif has cargo-deny; then
    say "advisories: cargo-deny, which fetches its database now"
    if ! cargo deny --workspace --locked check advisories; then
        [ "${1:-}" = --if-possible ] || exit 1
        # A machine without a way out cannot fetch: that is not the same as a flaw, and CI is told which it was.
        cargo deny --workspace --locked fetch db >/dev/null 2>&1 && exit 1
        say "NOT CHECKED: advisories, as their database cannot be fetched here; ADVISORY_DB may name a folder"
    fi
else
    say "NOT CHECKED: advisories, as ADVISORY_DB names no folder and cargo-deny is not installed"
    [ "${1:-}" = --if-possible ] || exit 2
fi
