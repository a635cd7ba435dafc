# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the scripts beside it: where the parts of a release are kept, and for which machines they are.
#
# Needs $here, this directory.

# shellcheck source=build/machine/debian.sh
. "$here/../machine/debian.sh"

glibc=2.28 # of RHEL 8, Debian 10 and Ubuntu 20.04 (2.31); what older systems have is out of support
arch=$(uname -m)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dso-release

# digest FILE...: of their contents, in 16 digits.
digest() { cat -- "$@" | sha256sum | cut -c 1-16; }

# accepted NAME=VALUE: whether DSO_ACCEPT_SOURCES names it.
accepted() { case " ${DSO_ACCEPT_SOURCES:-} " in *" $1 "*) return 0 ;; *) return 1 ;; esac }

# refuse NAME=VALUE...: no release is made of these unless they are named; code 2.
refuse() {
    say "no release is made of these, unless they are named: DSO_ACCEPT_SOURCES=\"$*\""
    exit 2
}

# exclusively COMMAND...: one build at a time; the others wait, and find it done.
exclusively() {
    mkdir -p "$cache"
    [ -O "$cache" ] || die "$cache belongs to another user, and what is in it goes into releases"
    (
        flock 9
        "$@"
    ) 9>"$cache/lock"
}

# use_compiler SOURCES: set zcc.sh up, for sources in this directory. Needs $work, a temporary directory; DSO_PYTHON is
# a Python with pip, to get the compiler with (.venv's).
use_compiler() {
    local directory
    directory=$cache/zig-$(digest "$here/requirements.txt")
    if [ ! -d "$directory" ]; then
        "${DSO_PYTHON:-$here/../../.venv/bin/python}" -m pip install --quiet --disable-pip-version-check \
            --require-hashes --only-binary :all: --target "$work/zig" -r "$here/requirements.txt" >&2 ||
            die "the compiler cannot be had (see above)"
        mkdir -p "$cache"
        mv "$work/zig" "$directory"
    fi
    export ZIG_BINARY=$directory/ziglang/zig ZIG_TARGET=$arch-linux-gnu.$glibc ZIG_SOURCES=$1
    export ZIG_GLOBAL_CACHE_DIR=$work/zig-cache ZIG_LOCAL_CACHE_DIR=$work/zig-cache
}
