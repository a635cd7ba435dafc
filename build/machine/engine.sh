#!/bin/sh
# Make a Docker Engine and Compose v2 reachable: use what is there, else install Debian's packages.
#
#   engine.sh ensure    install what is missing, start an Engine if none answers
#   engine.sh stop      stop the Engine that `ensure` started (never one that was there before)
#
# Bookworm's own Engine and Compose are too old (20.10, no v2 plugin). Trixie's run on bookworm's
# libc, and bookworm's keyring verifies them; trixie's runc does not, so nothing else is pinned.
set -eu

state=/run/dso-engine                   # pid and log of an Engine that we started
packages="docker.io docker-cli docker-compose docker-buildx"

say() { printf '%s\n' "engine: $*" >&2; }
answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
has_compose() { docker compose version --short 2>/dev/null | grep -Eq '^v?([3-9]|2\.(2[4-9]|[3-9][0-9]))'; }

# The mirror is the one this machine is configured with: no host is named here.
debian_mirror() {
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        awk 'tolower($1) == "uris:" && $2 ~ /\/debian\/?$/ { print $2; exit }' "$file"
    done | head -n 1
}

mirror_from_list() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:.*\/debian\/?$/) { print $i; exit } }'
}

install_packages() {
    [ "$(id -u)" = 0 ] || { say "no Docker Engine with Compose 2.24+ here; installing one needs root"; exit 1; }
    . /etc/os-release
    [ "${ID:-}" = debian ] || { say "no Docker Engine with Compose 2.24+ here; install them and run this again"; exit 1; }
    if [ "${VERSION_CODENAME:-}" = bookworm ]; then
        mirror=$(debian_mirror)
        [ -n "$mirror" ] || mirror=$(mirror_from_list)
        [ -n "$mirror" ] || { say "no Debian mirror found in the apt sources"; exit 1; }
        cat > /etc/apt/sources.list.d/dso-trixie.sources <<SOURCES
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
        cat > /etc/apt/preferences.d/dso-trixie <<PREFERENCES
Package: *
Pin: release n=trixie
Pin-Priority: -10

Package: $packages
Pin: release n=trixie
Pin-Priority: 990
PREFERENCES
    fi
    say "installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >&2
    # shellcheck disable=SC2086  # a list of names
    apt-get install -q -y --no-install-recommends $packages iptables >&2
}

start_engine() {
    [ "$(id -u)" = 0 ] || { say "no Docker Engine answers; starting one needs root"; exit 1; }
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        mkdir -p "$state"
        # --group keeps the socket usable by the group the package creates
        setsid dockerd --group docker >"$state/log" 2>&1 </dev/null &
        echo $! >"$state/pid"
    fi
    tries=0
    until answers; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || { say "the Engine did not answer within 60 s"; tail -n 20 "$state/log" >&2 || true; exit 1; }
        sleep 0.5
    done
}

ensure() {
    if ! command -v docker >/dev/null 2>&1 || ! has_compose || { ! answers && ! command -v dockerd >/dev/null 2>&1; }; then
        install_packages
    fi
    answers || start_engine
    say "Engine $(docker version --format '{{.Server.Version}}'), Compose $(docker compose version --short)"
}

stop() {
    [ -f "$state/pid" ] || return 0
    pid=$(cat "$state/pid")
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
    rm -rf "$state"
}

case ${1:-} in
    ensure) ensure ;;
    stop) stop ;;
    *) say "usage: engine.sh ensure|stop"; exit 2 ;;
esac
