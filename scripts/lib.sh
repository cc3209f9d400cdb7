# shellcheck shell=bash
# Shared by the scripts of this folder: progress lines, pinned downloads, a place for what is fetched.
# Sourced, never run. It installs nothing and names no registry: the clients use their own configuration.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this file
vendor="$root/vendor"

# One line that tells what is being done now.
say() { printf -- '--> %s\n' "$*"; }

# Ends the script with a message and an exit code (default 1).
fail() {
    printf 'error: %s\n' "$1" >&2
    exit "${2:-1}"
}

# The SHA-256 of a file, in hex.
digest() { sha256sum "$1" | cut -d ' ' -f 1; }

# Refuses a file that is not the pinned one; `verify FILE SHA256`.
verify() {
    local found
    found=$(digest "$1")
    if [ "$found" != "$2" ]; then
        fail "$(basename "$1") has sha256 $found, expected $2: it was altered, or the pin in this script is old"
    fi
}

# Takes one wheel, without its dependencies, into a folder; `fetch_wheel FOLDER REQUIREMENT [pip options]`.
fetch_wheel() {
    local folder=$1 requirement=$2
    shift 2
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 with pip is missing: run \`make setup\`" 2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        "$@" --dest "$folder" "$requirement" ||
        fail "pip could not fetch $requirement: is a package index reachable?"
}

# A Python environment with exactly what a file of requirements says; `python_environment FOLDER REQUIREMENTS WHAT`, of
# which WHAT is for the line that tells of it. Nothing is done where it is there already.
python_environment() {
    local folder=$1 requirements=$2 what=$3
    if ! cmp --silent "$requirements" "$folder/requirements.txt"; then
        say "fetching $what"
        rm -rf "$folder"
        python3 -m venv "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
        # Last: an interrupted run is seen as not done.
        cp "$requirements" "$folder/requirements.txt"
    fi
}
