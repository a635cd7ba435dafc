#!/bin/bash
# Build the servers that the tests of Cloud Mode's providers speak to, and print where they are.
#
#   backends.sh                prints the path of the HashiCorp Vault server (tests/servers/hashicorp)
#
# Built once and kept in ${XDG_CACHE_HOME:-~/.cache}/dso-tests under a digest of its sources: 3 minutes, then nothing.
# Takes the Go of PATH (1.20 or newer); on Debian it fetches one into that cache otherwise, without being root. Modules
# come from wherever that Go is configured to get them.
#
# Every module has to fit its hash in go.sum.
#
# Where the server cannot be had it says why and prints no path, and the tests that need it are skipped; with CI=true
# that is a failure.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../../tests/servers/hashicorp" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dso-tests
# shellcheck source=build/machine/debian.sh
. "$here/debian.sh"
# shellcheck source=build/machine/go.sh
. "$here/go.sh"

unobtainable() {
    say "no HashiCorp Vault server: $*"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

# Low priority: whoever starts the tests goes on working.
build() {
    local go
    find_go >/dev/null || fetch_go
    go=$(find_go) || unobtainable "Debian's Go does not run here; install Go 1.20 or newer"
    say "building the HashiCorp Vault server with $("$go" env GOVERSION); this takes minutes"
    (cd "$source" && GOFLAGS="-buildvcs=false -mod=readonly" GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 \
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
