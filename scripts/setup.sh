#!/usr/bin/env bash
# Installs what a fresh Debian 12 machine with Rust, git and make still lacks.
#
#   scripts/setup.sh build    what `cargo build` and the demo need (default)
#   scripts/setup.sh test     build, and what `make test` needs
#
# Asks nothing, starts no service, and returns at once when everything is there. It runs as root or through
# `sudo -n`; where neither is possible it names the packages and ends with exit code 2.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

purpose=${1:-build}
case "$purpose" in
build | test) ;;
-h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
*) fail "unknown purpose \`$purpose\`, expected \`build\` or \`test\`" 2 ;;
esac

missing=()
has() { command -v "$1" >/dev/null 2>&1; }
# `want PACKAGE CHECK...`: notes the package when the check fails.
want() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

want ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
want cmake has cmake # the zlib-ng that Pingora links is built by cmake
want gcc has cc
want g++ has c++
want libc6-dev test -e /usr/include/stdlib.h
want make has make
want git has git
want python3 has python3
want python3-pip python3 -m pip --version
if [ "$purpose" = test ]; then
    want python3-venv python3 -c 'import ensurepip, venv'
    want default-jdk-headless has javac
    want libtomcat9-java test -e /usr/share/java/tomcat9-catalina.jar
    want redis-server has redis-server
    want chromium has chromium
    want openssl has openssl
    # Commands of the documentation, which are run as they stand.
    want curl has curl
    want jq has jq
    want shellcheck has shellcheck
    # The gateway under a false clock, and without names.
    want faketime has faketime
    want libnss-wrapper compgen -G '/usr/lib/*/libnss_wrapper.so'
    # What looks at deploy/ and runs the image's root: promtool, the sandbox, systemd-analyze.
    want prometheus has promtool
    want bubblewrap has bwrap
    want systemd has systemd-analyze
    # The verifier of assertions in Java.
    want libgoogle-gson-java test -e /usr/share/java/gson.jar
fi

# Freshly installed servers enable and start a service. The tests start their own on ports of their own, so a service that
# this script caused is stopped again; one that was there before is left alone. `stop_new PACKAGE UNIT PIDFILE`.
stop_new() {
    case " ${missing[*]} " in
    *" $1 "*) ;;
    *) return 0 ;;
    esac
    if [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl disable --quiet --now "$2" || true
    elif [ -s "$3" ]; then
        local pid
        pid=$("${as_root[@]}" cat "$3")
        "${as_root[@]}" kill "$pid" || true
    fi
}

install_missing() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if has sudo && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            fail "these Debian packages are missing and neither root nor \`sudo -n\` is at hand: ${missing[*]}" 2
        fi
    fi
    has apt-get || fail "there is no apt-get here; install the equivalents of: ${missing[*]}" 2

    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600)
    local log
    log=$(mktemp)
    say "reading the package lists"
    "${apt[@]}" update >"$log" 2>&1 || say "apt-get update reported errors; going on with the lists at hand"
    say "installing ${missing[*]}"
    "${apt[@]}" install --yes --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "apt-get could not install: ${missing[*]}"
    }
    rm -f "$log"
    stop_new redis-server redis-server.service /run/redis/redis-server.pid
    stop_new prometheus prometheus.service /run/prometheus/prometheus.pid
}

if [ "${#missing[@]}" -gt 0 ]; then
    install_missing
fi

has cargo || fail "cargo is missing: install Rust 1.92 or newer first" 2
if [ "$purpose" = test ]; then
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null 2>&1 ||
            fail "cargo $tool is missing: add it with \`rustup component add rustfmt clippy\`" 2
    done
fi
say "setup for $purpose: complete"
