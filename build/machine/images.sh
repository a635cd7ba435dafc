#!/bin/bash
# Build the images that the tests and the demo run, without any registry.
#
#   images.sh [NAME...]        busybox scratch postgres; all of them without a name
#
#   dso-test/busybox    Debian's busybox-static and nothing else; users root, nobody and app (1000)
#   dso-test/scratch    no shell, one static program (tests/images/probe.c)
#   dso-test/postgres   Debian 12 with its PostgreSQL 15 (tests/images/postgres-entrypoint.sh)
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
    local options=(--variant=essential --include=postgresql-15 --aptopt='APT::Install-Recommends "false"')
    # the official image's uid, no cluster made while installing; no documentation and no compiler
    cat >"$tree/prepare" <<'PREPARE'
#!/bin/sh -e
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>"$1/etc/passwd"
echo 'postgres:x:999:' >>"$1/etc/group"
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
PREPARE
    chmod +x "$tree/prepare"
    options+=(--dpkgopt=force-unsafe-io --essential-hook="$tree/prepare")
    options+=(--customize-hook="copy-in $inputs/postgres-entrypoint.sh /usr/local/bin")
    for path in '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*' '/usr/lib/*/libLLVM*' \
        '/usr/lib/postgresql/15/lib/bitcode/*'; do
        options+=(--dpkgopt="path-exclude=$path")
    done
    local proxy
    proxy=$(apt-config dump --format '%f "%v";%n' Acquire::http::Proxy)
    [ -z "$proxy" ] || options+=(--aptopt="$proxy")
    # without a mirror of this machine's own, mmdebstrap knows Debian's
    # shellcheck disable=SC2046
    mmdebstrap --quiet "${options[@]}" bookworm - $(debian_mirror) | import \
        'ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin' 'ENV PGDATA=/var/lib/postgresql/data' \
        'EXPOSE 5432' 'STOPSIGNAL SIGINT' 'ENTRYPOINT ["postgres-entrypoint.sh"]' 'CMD ["postgres"]'
}

# import CHANGE...: a tar archive on standard input becomes the image $image, labelled with $digest.
import() {
    local changes=() change
    for change in "$@" "LABEL $label=$digest"; do changes+=(--change "$change"); done
    docker import "${changes[@]}" - "$image" >/dev/null
}

build() {
    local name=$1 recipe digest image=dso-test/$1 label=io.dso.test.inputs files former
    recipe=$(declare -f "recipe_$name" import)
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
    declare -F "recipe_$name" >/dev/null || die "no recipe for $name; there are busybox, scratch and postgres"
    build "$name"
done
