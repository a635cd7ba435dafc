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

# exclusively COMMAND...: one build at a time; the others wait, and find it done.
exclusively() {
    mkdir -p "$cache"
    (
        flock 9
        "$@"
    ) 9>"$cache/lock"
}
