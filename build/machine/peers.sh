#!/bin/bash
# Get a program that `make bench` measures DSO beside: prints its path, and its version on a second line.
#
#   peers.sh NAME              age, pass, gopass, gopasspw, sops, summon or dotenvx
#
# From Debian's packages, the Go module proxy and the npm registry, by their ordinary clients as they are configured.
# Nothing is installed into the system but what the programs need and any system has (gpg, node), and that as root only.
# What they fetch is verified: Debian's packages by its signatures; Go modules by the checksum database, which has to be
# in use, and sops's own by its hash here too; npm packages by the hashes in dotenvx/package-lock.json.
# Kept in ${XDG_CACHE_HOME:-~/.cache}/dso-bench by version. Building sops takes minutes, the next time none.
# Where a program cannot be had the last line on stderr says why, and the exit code is 1.
set -euo pipefail

# Other versions measure other programs: these are the newest of when the bench was last looked after.
sops=v3.13.3
sops_sum=h1:saYczbT88kD1saNChe1cAbFQe5mrRhTIfEw3TaEcmK0=
dotenvx=2.38.2 # its lock: `npm install --package-lock-only --omit-lockfile-registry-resolved`
summon=latest

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dso-tests # of Go, which backends.sh uses too
peers=${XDG_CACHE_HOME:-$HOME/.cache}/dso-bench
# shellcheck source=build/machine/debian.sh
. "$here/debian.sh"
# shellcheck source=build/machine/go.sh
. "$here/go.sh"

unobtainable() { die "$*"; }

# need PROGRAM PACKAGE...: a program that peers need from the system.
need() {
    command -v "$1" >/dev/null || apt_install "$name needs $1" "${@:2}"
}

# found PATH VERSION: what the caller reads.
found() {
    printf '%s\n%s\n' "$1" "$2"
    exit 0
}

# keep DIRECTORY: put what is in $work/out there, at one go.
keep() {
    rm -rf "$1"
    mkdir -p "${1%/*}"
    mv "$work/out" "$1"
}

# from_debian PROGRAM: a package that is unpacked; it runs beside the system's libraries.
from_debian() {
    local version place
    command -v apt-get >/dev/null || die "$name is taken from Debian's packages, and this is no Debian"
    [ -n "$(debian_mirror)" ] || [ "$(id -u)" != 0 ] || apt_update
    version=$(apt-cache policy "$name" | sed -n 's/^ *Candidate: //p')
    [ -n "$version" ] && [ "$version" != "(none)" ] || die "Debian's packages, as configured here, have no $name"
    place=$peers/$name-$version
    if [ ! -x "$place/usr/bin/$name" ]; then
        say "fetching $name $version"
        (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$name=$version") >&2 || die "Debian's $name cannot be downloaded"
        dpkg -x "$work"/*.deb "$work/out"
        keep "$place"
    fi
    found "$place/usr/bin/$name" "$version (Debian)"
}

# from_go MODULE VERSION [PROGRAM [SUM]]: `go install`.
from_go() {
    local go program=${3:-$name} place=$peers/$name-$2 sum
    if [ ! -x "$place/$program" ]; then
        find_go >/dev/null || fetch_go
        go=$(find_go) || unobtainable "Debian's Go does not run here; install Go 1.20 or newer"
        say "building $name $2 with $("$go" env GOVERSION); this takes minutes"
        # "none" is no module's name: the checksum database is asked about all of them
        [ "$("$go" env GOSUMDB)" != off ] || unobtainable "Go is told not to verify modules (GOSUMDB=off)"
        GOBIN=$work/out GOFLAGS=-buildvcs=false GOWORK=off CGO_ENABLED=0 GONOSUMDB=none GOINSECURE=none \
            nice "$go" install -trimpath "$1@$2" 2>"$work/errors" ||
            die "the Go module proxy does not give $1: $(tail -n 1 "$work/errors" | sed 's/^[[:space:]]*//')"
        sum=$("$go" version -m "$work/out/$program" | awk '$1 == "mod" { print $4 }')
        [ -z "${4:-}" ] || [ "$sum" = "$4" ] || die "$1 $2 is not what it was: its hash is $sum"
        "$go" version -m "$work/out/$program" | awk '$1 == "mod" { sub("^v", "", $3); print $3 }' >"$work/out/VERSION"
        keep "$place"
    fi
    found "$place/$program" "$(cat "$place/VERSION")"
}

from_npm() {
    local locked=$here/$name place
    place=$peers/$name-$2-$(sha256sum "$locked/package-lock.json" | cut -c 1-8)
    need node nodejs
    if [ ! -x "$place/node_modules/.bin/$name" ]; then
        need npm npm
        say "fetching $name $2"
        mkdir "$work/out"
        cp "$locked"/package*.json "$work/out"
        npm ci --loglevel error --no-fund --no-audit --ignore-scripts --prefix "$work/out" >&2 2>"$work/errors" ||
            die "the npm registry does not give $1: $(head -n 1 "$work/errors")"
        keep "$place"
    fi
    found "$place/node_modules/.bin/$name" "$2, Node $(node --version | tr -d v)"
}

name=${1:?"which program? see the top of $0"}
mkdir -p "$peers" "$cache"
exec 9>"$peers/lock" # one at a time
flock 9
work=$(mktemp -d "$peers/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
case $name in
    age) from_debian ;;
    pass | gopass) need gpg gnupg && from_debian ;;
    sops) from_go github.com/getsops/sops/v3/cmd/sops "$sops" sops "$sops_sum" ;;
    gopasspw) from_go github.com/gopasspw/gopass latest gopass ;; # Debian's gopass is another program of that name
    summon) from_go github.com/cyberark/summon "$summon" ;;
    dotenvx) from_npm @dotenvx/dotenvx "$dotenvx" ;;
    *) die "no peer is called $name" ;;
esac
