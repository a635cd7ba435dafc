# Sourced by the scripts beside it: installing Debian packages. POSIX sh.

say() { printf '%s\n' "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# The mirror this machine is configured with, so that no host is named here. Empty before the first
# `apt-get update`, and on machines that are not Debian.
debian_mirror() {
    command -v apt-get >/dev/null 2>&1 || return 0
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 'Component: main' |
        head -n 1
}

apt_update() { apt-get update -q "$@" >&2; }

# apt_install WHY PACKAGE...: as root on Debian or a relative of it; elsewhere it says what to install.
apt_install() {
    why=$1
    shift
    command -v apt-get >/dev/null 2>&1 || die "$why: install $* and run this again"
    [ "$(id -u)" = 0 ] || die "$why: run this as root, or install $* and run it again"
    say "installing $*"
    [ -n "$(debian_mirror)" ] || apt_update
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2 && return 0
    apt_update # the lists may be older than the mirror
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
}
