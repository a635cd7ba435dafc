#!/bin/bash
# Root file systems of Debian releases with glibc, what everything else stands on, a shell and openssl: no
# Python, no compiler. Their packages are unpacked and not configured, which is enough to run a program there.
#
#   roots.sh RELEASE...     prints the path of a tar archive for each: bullseye, bookworm, trixie
#
# Kept in ${XDG_CACHE_HOME:-~/.cache}/dso-tests under a digest of this recipe.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dso-tests
# shellcheck source=build/machine/debian.sh
. "$here/debian.sh"

build() {
    local release=$1 target=$2 options=(--quiet --variant=extract) proxy
    command -v mmdebstrap >/dev/null || apt_install "mmdebstrap is missing" mmdebstrap
    say "building a root of Debian's $release"
    options+=(--include="base-files libc6 libgcc-s1 zlib1g dash coreutils openssl")
    proxy=$(apt-config dump --format '%f "%v";%n' Acquire::http::Proxy)
    [ -z "$proxy" ] || options+=(--aptopt="$proxy")
    # without a mirror of this machine's own, mmdebstrap knows Debian's
    # shellcheck disable=SC2046
    mmdebstrap "${options[@]}" "$release" "$cache/root.part.tar" $(debian_mirror) >&2
    rm -f "${target%-*}"-*.tar
    mv "$cache/root.part.tar" "$target"
}

mkdir -p "$cache"
exec 9>"$cache/roots.lock" # one at a time
flock 9
for release in "$@"; do
    target=$cache/root-$release-$(sha256sum "$0" | cut -c 1-16).tar
    [ -e "$target" ] || build "$release" "$target"
    echo "$target"
done
