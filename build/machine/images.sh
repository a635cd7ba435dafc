#!/bin/bash
# Build the images that the tests and the demo run, without any registry.
#
#   images.sh [NAME...]        without a name: busybox scratch postgres
#
#   dso-test/busybox    Debian's busybox-static and nothing else; users root, nobody and app (1000)
#   dso-test/scratch    no shell, one static program (tests/images/probe.c)
#   dso-test/postgres   Debian 12 with its PostgreSQL 15 (tests/images/postgres-entrypoint.sh)
#   dso-test/systemd    Debian 12 as a machine: systemd as PID 1, a Docker Engine with Compose, no Python
#
# An image is built again only when its recipe below or a file it takes from tests/images changed: the
# label io.dso.test.inputs holds a digest of both.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
inputs=$(cd "$here/../../tests/images" && pwd)
# shellcheck source=build/machine/debian.sh
. "$here/debian.sh"

need() { command -v "$1" >/dev/null || apt_install "$1 is missing" "$2"; }

recipe_busybox() {
    need busybox busybox-static
    mkdir -p "$tree"/{bin,etc,home/app,root,tmp,var/tmp,www}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    "$tree/bin/busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    printf '%s\n' root:x:0:0::/root:/bin/sh nobody:x:65534:65534::/:/bin/sh app:x:1000:1000::/home/app:/bin/sh \
        >"$tree/etc/passwd"
    printf '%s\n' root:x:0: nobody:x:65534: app:x:1000: >"$tree/etc/group"
    chmod 1777 "$tree/tmp" "$tree/var/tmp"
    chown 1000:1000 "$tree/home/app"
    tar -C "$tree" -c . | import 'ENV PATH=/bin' 'CMD ["sh"]'
}

recipe_scratch() {
    need gcc "gcc libc6-dev"
    gcc -O2 -static -s -o "$tree/probe" "$inputs/probe.c"
    tar -C "$tree" -c . | import 'ENTRYPOINT ["/probe"]' 'CMD ["wait"]'
}

recipe_postgres() {
    need mmdebstrap mmdebstrap
    local options=(--include=postgresql-15)
    # the official image's uid, no cluster made while installing; no documentation and no compiler
    cat >"$tree/prepare" <<'PREPARE'
#!/bin/sh -e
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>"$1/etc/passwd"
echo 'postgres:x:999:' >>"$1/etc/group"
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
PREPARE
    chmod +x "$tree/prepare"
    options+=(--essential-hook="$tree/prepare")
    options+=(--customize-hook="copy-in $inputs/postgres-entrypoint.sh /usr/local/bin")
    for path in '/usr/lib/*/libLLVM*' '/usr/lib/postgresql/15/lib/bitcode/*'; do
        options+=(--dpkgopt="path-exclude=$path")
    done
    # without a mirror of this machine's own, mmdebstrap knows Debian's
    # shellcheck disable=SC2046
    debian "${options[@]}" bookworm - $(debian_mirror) | import \
        'ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin' 'ENV PGDATA=/var/lib/postgresql/data' \
        'EXPOSE 5432' 'STOPSIGNAL SIGINT' 'ENTRYPOINT ["postgres-entrypoint.sh"]' 'CMD ["postgres"]'
}

# Docker comes from Debian 13, as in engine.sh; its runc wants another libc.
recipe_systemd() {
    need mmdebstrap mmdebstrap
    local mirror packages="docker.io docker-cli docker-compose"
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "no Debian mirror in the apt sources of this machine"
    printf '%s\n' 'Package: *' 'Pin: release n=trixie' 'Pin-Priority: -10' '' \
        "Package: $packages" 'Pin: release n=trixie' 'Pin-Priority: 990' >"$tree/trixie"
    # no consoles, no devices, no timers of a machine's own
    cat >"$tree/finish" <<'FINISH'
#!/bin/sh -e
for unit in console-getty.service getty.target systemd-udevd.service systemd-udev-trigger.service \
    systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
: >"$1/etc/machine-id"
rm -rf "$1"/etc/resolv.conf "$1"/var/lib/apt/lists/* "$1"/var/cache/*
FINISH
    chmod +x "$tree/finish"
    local unused="ctr containerd-shim containerd-shim-runc-v1 containerd-stress" options=() name
    for name in $unused; do options+=(--dpkgopt="path-exclude=/usr/bin/$name"); done
    debian "${options[@]}" --include="systemd systemd-sysv dbus procps iptables openssl curl $packages" \
        --setup-hook='mkdir -p "$1/etc/apt/preferences.d"' --setup-hook="copy-in $tree/trixie /etc/apt/preferences.d" \
        --customize-hook="$tree/finish" bookworm - \
        "deb $mirror bookworm main" "deb $mirror trixie main" | import \
        'ENV container=docker' 'VOLUME /var/lib/docker' 'STOPSIGNAL SIGRTMIN+3' 'CMD ["/sbin/init"]'
}

# debian ARGUMENT...: mmdebstrap for an image, without what only people read.
debian() {
    local options=(--quiet --variant=essential --dpkgopt=force-unsafe-io) proxy path
    options+=(--aptopt='APT::Install-Recommends "false"')
    for path in '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*'; do
        options+=(--dpkgopt="path-exclude=$path")
    done
    proxy=$(apt-config dump --format '%f "%v";%n' Acquire::http::Proxy)
    [ -z "$proxy" ] || options+=(--aptopt="$proxy")
    mmdebstrap "${options[@]}" "$@"
}

# import CHANGE...: a tar archive on standard input becomes the image $image, labelled with $digest.
import() {
    local changes=() change
    for change in "$@" "LABEL $label=$digest"; do changes+=(--change "$change"); done
    docker import "${changes[@]}" - "$image" >/dev/null
}

build() {
    local name=$1 recipe digest image=dso-test/$1 label=io.dso.test.inputs files former
    recipe=$(declare -f "recipe_$name" debian import)
    # the files a recipe uses are those it names
    files=$(cd "$inputs" && for file in *; do case $recipe in *"$file"*) cat "$file" ;; esac done | sha256sum)
    digest=$(printf '%s\n' "$recipe" "$files" | sha256sum | cut -c 1-16)
    former=$(docker image inspect --format "{{.Id}} {{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null) || true
    [ "${former#* }" != "$digest" ] || return 0
    say "building $image"
    tree=$work/$name
    mkdir "$tree"
    "recipe_$name"
    # what the name stood for before; still there if a container runs from it
    [ -z "$former" ] || docker image rm "${former%% *}" >/dev/null 2>&1 || true
}

[ $# != 0 ] || set -- busybox scratch postgres
lock=${TMPDIR:-/tmp}/dso-images-$(id -u).lock
exec 9>"$lock" # one build at a time
flock 9
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in "$@"; do
    declare -F "recipe_$name" >/dev/null || die "no recipe for $name; there are busybox, scratch, postgres and systemd"
    build "$name"
done
