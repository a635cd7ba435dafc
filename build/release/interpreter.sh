#!/bin/bash
# The Python that releases are frozen with: it runs on any machine with glibc 2.28, and knows no newer wheels.
#
#   interpreter.sh             print its directory, after building it if there is none yet
#   interpreter.sh --newest    the same for a release: of the newest sources of Debian, which are looked up each time;
#                              others are an error unless DSO_ACCEPT_SOURCES names them (see sources.sh)
#
# CPython, OpenSSL, expat, zlib and libffi are Debian's (sources.sh), the compiler comes from PyPI (requirements.txt);
# docs/decisions/0012 says why. Kept in ${XDG_CACHE_HOME:-~/.cache}/dso-release under a digest of what it is made
# from: building takes minutes, then nothing. In the directory are python/, sources (NAME VERSION of each), listed (NAME
# VERSION LISTED of each, from when they were last looked up, for the bill of materials), licences/NAME, and the pip that
# CPython brings. DSO_PYTHON is a Python with pip, to get the compiler with (.venv's).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=build/release/common.sh
. "$here/common.sh"

recipe=$(digest "$here"/{interpreter,libraries,cpython,zcc,common}.sh "$here/requirements.txt")

# The newest that this recipe has made here.
kept() { find "$cache" -mindepth 1 -maxdepth 1 -name "interpreter-$recipe-*" -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 1 | cut -d ' ' -f 2-; }

build() {
    local target=$1 versions=$2 name version
    work=$(mktemp -d "$cache/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    use_compiler "$work/source"
    say "building the release interpreter for glibc $glibc; this takes minutes"
    mkdir -p "$work"/{source,result/{licences,pip}}
    while read -r name version; do
        "$here/sources.sh" unpack "$work/source" "$name" "$version"
        cp "$work/source/$name/debian/copyright" "$work/result/licences/$name"
    done <<<"$versions"
    printf '%s\n' "$versions" >"$work/result/sources"
    cp "$work"/source/python3.13/Lib/ensurepip/_bundled/pip-*.whl "$work/result/pip"
    # what programs say about the time they were compiled at
    SOURCE_DATE_EPOCH=$(cd "$work/source/python3.13" && dpkg-parsechangelog -S Timestamp)
    export SOURCE_DATE_EPOCH
    "$here/libraries.sh" "$work/source" "$work/libraries" >"$work/log" 2>&1 || failed "its libraries"
    "$here/cpython.sh" "$work/source/python3.13" "$work/libraries" "$work/result/python" >>"$work/log" 2>&1 || failed CPython
    mv "$work/result" "$target"
    find "$cache" -mindepth 1 -maxdepth 1 -name 'interpreter-*' ! -path "$target" -mtime +30 -exec rm -rf {} +
}

failed() {
    tail -n 40 "$work/log" >&2
    cp "$work/log" "$cache/log"
    die "$1 cannot be built; the whole log is $cache/log"
}

main() {
    local found listed versions target code=0
    found=$(kept)
    if [ -z "$found" ] || [ "${1:-}" = --newest ]; then
        listed=$("$here/sources.sh" list ${1:+--strict}) || code=$?
        if [ "$code" = 0 ]; then
            versions=$(grep -Ev '^(security-mirror|lists) ' <<<"$listed" | cut -d ' ' -f 1,2)
            target=$cache/interpreter-$recipe-$(sha256sum <<<"$versions" | cut -c 1-16)
            [ -d "$target" ] || build "$target" "$versions"
            touch "$target" # it is the newest
            found=$target
        else
            { [ "$code" != 2 ] && [ -n "$found" ]; } || exit "$code"
            say "whether Debian has newer sources cannot be told: there are those of $(date -r "$found" +%F)"
            take_kept "$found"
            listed=$(sed 's/$/ unknown/' "$found/sources" && echo "lists cached checked")
        fi
        printf '%s\n' "$listed" >"$found/listed.new"
        mv "$found/listed.new" "$found/listed"
    fi
    echo "$found"
}

# Each of the sources that it is made of has to be accepted by name, since nobody knows whether it is the newest.
take_kept() {
    local name version refused=()
    accepted lists=cached || refused+=(lists=cached)
    while read -r name version; do
        accepted "$name=$version" || refused+=("$name=$version")
    done <"$1/sources"
    [ ${#refused[@]} = 0 ] || refuse "${refused[@]}"
}

case ${1:-} in
    "" | --newest) exclusively main "$@" ;;
    *) die "usage: interpreter.sh [--newest]" ;;
esac
