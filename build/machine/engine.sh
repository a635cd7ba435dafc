#!/bin/sh
# Make a Docker Engine and Compose v2 reachable: use what is there, else install Debian's packages.
#
#   engine.sh ensure           install what is missing, start an Engine if none answers
#   engine.sh run COMMAND...   the same, run COMMAND, stop the Engine again if this call started it
#   engine.sh stop             stop the Engine that `ensure` started (never one that was there before)
#
# Where an Engine and Compose 2.24 or later answer, nothing is installed, started or stopped.
#
# Bookworm's own Engine and Compose are too old (20.10, no v2 plugin). Trixie's run on bookworm's
# libc, and bookworm's keyring verifies them; trixie's runc does not, so nothing else is pinned.
set -eu

. "$(dirname "$0")/debian.sh"

PATH=$PATH:/usr/sbin:/sbin              # dockerd's place, missing in some root shells
state=/run/dso-engine                   # how to stop an Engine that we started
packages="docker.io docker-cli docker-compose docker-buildx"

has() { command -v "$1" >/dev/null 2>&1; }
answers() { has docker && docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
has_compose() {
    has docker && docker compose version --short 2>/dev/null |
        grep -Eq '^v?([3-9]|[1-9][0-9]|2\.(2[4-9]|[3-9][0-9]|[1-9][0-9][0-9]))(\.|$)'
}

# Let apt take the packages above, and nothing else, from Debian 13.
use_trixie() {
    mirror=$(debian_mirror)
    if [ -z "$mirror" ]; then
        apt_update
        mirror=$(debian_mirror)
    fi
    [ -n "$mirror" ] || die "no Debian mirror in the apt sources of this machine"
    cat >/etc/apt/preferences.d/dso-trixie <<PREFERENCES
# Written by DSO's build/machine/engine.sh: Docker from Debian 13, everything else as before.
Package: *
Pin: release n=trixie
Pin-Priority: -10

Package: $packages
Pin: release n=trixie
Pin-Priority: 990
PREFERENCES
    cat >/etc/apt/sources.list.d/dso-trixie.sources <<SOURCES
# Written by DSO's build/machine/engine.sh, limited by /etc/apt/preferences.d/dso-trixie.
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    apt_update -o Dir::Etc::SourceList=/etc/apt/sources.list.d/dso-trixie.sources \
        -o Dir::Etc::SourceParts=- -o APT::Get::List-Cleanup=0
}

# An Engine that answers stays as it is, whoever installed it: then only Compose is added.
install_missing() {
    wanted=docker-compose
    answers || wanted="$packages iptables"
    codename=$(. /etc/os-release && echo "${ID:-}-${VERSION_CODENAME:-}")
    case $codename in
        debian-bookworm) use_trixie ;;
        debian-*) ;;
        *) die "no Docker Engine with Compose 2.24 or later here; install both and run this again" ;;
    esac
    # shellcheck disable=SC2086  # a list of names
    apt_install "Docker is missing" $wanted
    has_compose || die "docker compose is still older than 2.24: $(docker compose version 2>&1 | head -n 1)"
}

start_engine() {
    [ -z "${DOCKER_HOST:-}" ] || die "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST"
    say "starting the Engine"
    mkdir -p "$state"
    if [ -d /run/systemd/system ]; then
        systemctl start docker.service
        echo systemd >"$state/how"
    else
        setsid dockerd --group docker >"$state/log" 2>&1 </dev/null 9>&- &
        echo $! >"$state/how"
    fi
    started=yes
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ "$tries" -gt 120 ]; then
            tail -n 20 "$state/log" >&2 || true
            die "the Engine did not answer within 60 s"
        fi
        sleep 0.5
    done
}

ensure() {
    started=no
    has_compose && answers && return 0
    [ "$(id -u)" = 0 ] ||
        die "no Docker Engine with Compose 2.24 or later answers here; as root this installs or starts them"
    exec 9>/run/dso-engine.lock # one at a time
    flock 9
    if ! has_compose || { ! answers && ! has dockerd; }; then install_missing; fi
    answers || start_engine
    exec 9>&-
}

report() { say "Engine $(docker version --format '{{.Server.Version}}'), Compose $(docker compose version --short)"; }

stop() {
    how=$(cat "$state/how" 2>/dev/null) || return 0
    rm -rf "$state"
    if [ "$how" = systemd ]; then
        systemctl stop docker.socket docker.service
        return 0
    fi
    # the file outlives a reboot where /run is on disk: then the number may be another process's
    [ "$(cat "/proc/$how/comm" 2>/dev/null)" = dockerd ] || return 0
    kill "$how"
    while [ "$(cat "/proc/$how/comm" 2>/dev/null)" = dockerd ]; do sleep 0.1; done
}

run() {
    ensure
    report
    if [ "$started" = yes ]; then
        trap stop EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
    fi
    "$@"
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
    ensure) ensure && report ;;
    run) run "$@" ;;
    stop) stop ;;
    *) say "usage: engine.sh ensure | run COMMAND... | stop"; exit 2 ;;
esac
