#!/bin/bash
# Build the servers that the tests of Cloud Mode's providers speak to, and print where they are.
#
#   backends.sh                prints the path of the HashiCorp Vault server (tests/servers/hashicorp)
#
# Built once and kept in ${XDG_CACHE_HOME:-~/.cache}/dso-tests under a digest of its sources: 3 minutes, then nothing.
# Takes the Go of PATH (1.20 or newer); on Debian it fetches one into that cache otherwise, without being root. Modules
# come from wherever that Go is configured to get them.
#
# Where the server cannot be had it says why and prints no path, and the tests that need it are skipped; with CI=true
# that is a failure.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../../tests/servers/hashicorp" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dso-tests
# shellcheck source=build/machine/debian.sh
. "$here/debian.sh"

unobtainable() {
    say "no HashiCorp Vault server: $*"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

# A Go that is new enough.
find_go() {
    local go
    for go in go /usr/local/go/bin/go "$cache"/go/usr/lib/go-*/bin/go; do
        case $("$go" env GOVERSION 2>/dev/null) in
            go1.[0-9] | go1.[0-9].* | go1.1[0-9] | go1.1[0-9].* | "") ;;
            *) echo "$go" && return ;;
        esac
    done
    return 1
}

# Debian 13's Go needs no library of the system: unpacked beside the servers it runs on Debian 12 as well.
fetch_go() {
    local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(debian_mirror)
    if [ -z "$mirror" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt_update || true
        mirror=$(debian_mirror)
    fi
    [ -n "$mirror" ] && [ -e "$keyring" ] || unobtainable "install Go 1.20 or newer to have it built"
    say "fetching Debian's Go"
    mkdir -p "$work"/apt/{state/lists/partial,archives/partial}
    echo "deb [signed-by=$keyring] $mirror trixie main" >"$work/apt/sources.list"
    local options=(-q -o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null
        -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State=$work/apt/state" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=)
    (cd "$work/apt" && apt-get "${options[@]}" update && apt-get "${options[@]}" download golang-1.24-go golang-1.24-src) \
        >&2 || unobtainable "Debian's Go cannot be downloaded; install Go 1.20 or newer"
    local package
    for package in "$work"/apt/*.deb; do dpkg -x "$package" "$work/go"; done
    rm -rf "$cache/go"
    mv "$work/go" "$cache/go"
}

# Low priority: whoever starts the tests goes on working.
build() {
    local go
    find_go >/dev/null || fetch_go
    go=$(find_go) || unobtainable "Debian's Go does not run here; install Go 1.20 or newer"
    say "building the HashiCorp Vault server with $("$go" env GOVERSION); this takes minutes"
    (cd "$source" && GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 \
        nice "$go" build -trimpath -ldflags='-s -w' -o "$work/server" .) >&2 ||
        unobtainable "it does not build here (see above); are Go's modules in reach?"
    mkdir -p "${server%/*}"
    mv "$work/server" "$server"
    find "$cache" -mindepth 1 -maxdepth 1 -name 'hashicorp-*' -mtime +30 -exec rm -rf {} +
}

digest=$(cd "$source" && find . -type f ! -name '*.md' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16)
server=$cache/hashicorp-$digest/hashicorp-server
if [ ! -x "$server" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock" # one build at a time
    flock 9
    if [ ! -x "$server" ]; then
        work=$(mktemp -d "$cache/work.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        build
    fi
fi
echo "$server"
