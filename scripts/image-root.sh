#!/usr/bin/env bash
# Lays out the root file system of the container image: the program, its models, ONNX Runtime, and of Debian only the
# libraries that these link and the certificate authorities. No shell, no package manager, nothing that runs as root.
#
#   scripts/image-root.sh BINARY FOLDER [--without-geo]
#
# The Dockerfile runs this in its build stage and scripts/test-image.sh runs it here, so that what is tested is what is
# shipped. The folder must not exist. The packages come from the archive that apt-get is set up for, verified by apt.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 2 ] || fail "expected: scripts/image-root.sh BINARY FOLDER [--without-geo]" 2
binary=$1
folder=$2
geo=${3:-}
case "$geo" in
'' | --without-geo) ;;
*) fail "unknown flag \`$geo\`" 2 ;;
esac
[ -f "$binary" ] || fail "$binary is missing: build it first" 2
[ ! -e "$folder" ] || fail "$folder is there already" 2
[ -s "$vendor/onnxruntime/libonnxruntime.so" ] || fail "ONNX Runtime is missing: run scripts/fetch-onnxruntime.sh" 2
if [ -z "$geo" ]; then
    [ -s "$vendor/geo/manifest.toml" ] || fail "the address databases are missing: run scripts/fetch-geo.sh" 2
fi

# What the program and ONNX Runtime are linked with; the authorities for certificates of WSO2 and Redis.
packages=(ca-certificates libc6 libgcc-s1 libstdc++6)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "taking Debian packages: ${packages[*]}"
take() { (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "${packages[@]}" >"$work/log" 2>&1); }
take || {
    apt-get -q update >"$work/log" 2>&1 || true
    take || {
        cat "$work/log" >&2
        fail "apt-get could not fetch ${packages[*]}"
    }
}
mkdir -p "$folder/var/lib/dpkg/status.d"
for package in "$work"/*.deb; do
    dpkg-deb --extract "$package" "$work/extracted"
    # The place in which scanners of images look.
    dpkg-deb --field "$package" >"$folder/var/lib/dpkg/status.d/$(dpkg-deb --field "$package" Package)"
done

say "laying out $folder"
# The libraries with their loader; neither converters of character sets nor audit modules, which nothing here loads.
mkdir -p "$folder/lib" "$folder/usr/lib" "$folder/usr/share/doc" "$folder/etc/ssl/certs"
for part in lib lib64 usr/lib; do
    [ -d "$work/extracted/$part" ] || continue
    mkdir -p "$folder/$part"
    cp -a "$work/extracted/$part/." "$folder/$part/"
done
rm -rf "$folder"/usr/lib/*/gconv "$folder"/usr/lib/*/audit "$folder"/lib/*/audit
for package in "${packages[@]}"; do
    # libgcc-s1 and libstdc++6 refer to the pages of gcc-12-base.
    if [ -e "$work/extracted/usr/share/doc/$package/copyright" ]; then
        install -D -m 0644 "$work/extracted/usr/share/doc/$package/copyright" \
            "$folder/usr/share/doc/$package/copyright"
    fi
done
find "$work/extracted/usr/share/ca-certificates" -name '*.crt' -print0 | sort -z | xargs -0 cat \
    >"$folder/etc/ssl/certs/ca-certificates.crt"

# Names first in files, then by DNS. One user, who owns nothing but the folder of the state.
printf 'hosts: files dns\n' >"$folder/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/sbin/nologin\nriskgate:x:65532:65532:riskgate:/var/lib/riskgate:/sbin/nologin\n' \
    >"$folder/etc/passwd"
printf 'root:x:0:\nriskgate:x:65532:\n' >"$folder/etc/group"
# An engine mounts its own over these.
printf '127.0.0.1 localhost\n::1 localhost\n' >"$folder/etc/hosts"
: >"$folder/etc/resolv.conf"
mkdir -p "$folder/proc" "$folder/dev" "$folder/sys" "$folder/tmp" "$folder/var/lib/riskgate" "$folder/run"
chmod 1777 "$folder/tmp"

# The program in a folder laid out as the repository is, so that it finds what belongs to it by its defaults.
home="$folder/opt/riskgate"
mkdir -p "$home/conf" "$home/vendor/onnxruntime" "$folder/usr/local/bin" "$folder/etc/riskgate"
install -m 0755 "$binary" "$home/riskgate"
ln -s /opt/riskgate/riskgate "$folder/usr/local/bin/riskgate"
cp -r "$root/conf/model" "$home/conf/model"
install -m 0644 "$root/conf/policy.toml" "$home/conf/policy.toml"
install -m 0644 "$root/deploy/image/riskgate.toml" "$folder/etc/riskgate/riskgate.toml"
# Once, under the name that is looked for.
cp -L "$vendor/onnxruntime/libonnxruntime.so" "$home/vendor/onnxruntime/libonnxruntime.so"
chmod 0755 "$home/vendor/onnxruntime/libonnxruntime.so"
if [ -z "$geo" ]; then
    cp -r "$vendor/geo" "$home/vendor/geo"
fi

# What the licences ask to pass on, and what the image is made of.
notices="$folder/usr/share/doc/riskgate"
mkdir -p "$notices/onnxruntime"
install -m 0644 "$root/LICENSE" "$root/docs/THIRD_PARTY.md" "$notices/"
install -m 0644 "$vendor/onnxruntime/LICENSE" "$vendor/onnxruntime/ThirdPartyNotices.txt" "$notices/onnxruntime/"
"$root/scripts/supply_chain.py" licences --out "$notices/crates.txt"
"$root/scripts/supply_chain.py" sbom --debian "$folder/var/lib/dpkg/status.d" --out "$notices/sbom.cdx.json"

find "$folder" -type d -exec chmod go-w,a+rx {} + -o -type f -exec chmod go-w,a+r {} +
chmod 1777 "$folder/tmp"
say "the image's root: $(du -sm --apparent-size "$folder" | cut -f 1) MB in $folder"
