#!/bin/bash
# Debian's sources of what the release interpreter is made from, with Debian's security fixes.
#
#   sources.sh list              update the lists; print NAME VERSION of each source package, of the newest
#   sources.sh unpack DIRECTORY NAME VERSION
#                                fetch one and unpack it as DIRECTORY/NAME, with Debian's patches
#
# apt fetches them from the mirror this machine is configured with, and verifies them by Debian's signatures. It does
# so with a configuration and state of its own, as any user, and changes nothing of the machine's. Mirrors may be
# behind their own lists: a version whose files are not there is passed over, and that is said.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=build/release/common.sh
. "$here/common.sh"

release=trixie # the newest stable one; its security team looks after these packages
packages="python3.13 openssl expat zlib libffi"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
state=$cache/apt

# This machine's mirror of a repository: Debian, Debian-Security.
mirror_of() {
    # shellcheck disable=SC2016  # apt's variable
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" 'Component: main' | head -n 1
}

options=(-q -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State=$state"
    -o "Dir::Cache=$state" -o APT::Sandbox::User= -o APT::Update::Post-Invoke-Success::=)

update() {
    local main security
    if ! command -v apt-get >/dev/null || [ ! -e "$keyring" ]; then
        die "the release interpreter is built from Debian's sources: run this on Debian 12 or newer"
    fi
    main=$(mirror_of Debian)
    if [ -z "$main" ] && [ "$(id -u)" = 0 ]; then
        # shellcheck disable=SC2119  # all of them
        apt_update
        main=$(mirror_of Debian)
    fi
    [ -n "$main" ] || die "no Debian mirror in the apt sources of this machine; is apt-get update still to be run?"
    security=$(mirror_of Debian-Security)
    [ -n "$security" ] || say "no mirror of Debian's security updates in the apt sources of this machine: building without"
    mkdir -p "$state"/lists/partial "$state"/archives/partial
    echo "deb-src [signed-by=$keyring] $main $release main" >"$state/sources.list"
    [ -z "$security" ] ||
        echo "deb-src [signed-by=$keyring] $security $release-security main" >>"$state/sources.list"
    echo "deb-src [signed-by=$keyring] $main sid main" >>"$state/sources.list" # it lists former versions, too
    apt-get "${options[@]}" -o APT::Update::Error-Mode=any update >&2 || die "Debian's lists of sources cannot be fetched (see above)"
}

# The versions of a source package, newest first: none newer than stable's, but what else there is of older ones.
versions() {
    apt-cache "${options[@]}" madison "$1" | perl -MDpkg::Version -F'\s*\|\s*' -lane '
        next unless $F[2] =~ /Sources$/;
        $all{$F[1]} = 1;
        $newest = $F[1] if $F[2] =~ / '"$release"'\b/ and (!$newest or version_compare($F[1], $newest) > 0);
        END { print for grep { version_compare($_, $newest) <= 0 } sort { version_compare($b, $a) } keys %all }'
}

# Fetch a version into $cache/sources; false if the mirror has not all of its files.
fetch() { (mkdir -p "$cache/sources" && cd "$cache/sources" && apt-get "${options[@]}" source --download-only "$1=$2" >/dev/null 2>&1); }

list() {
    local package version found
    update
    for package in $packages; do
        found=
        for version in $(versions "$package"); do
            if fetch "$package" "$version"; then
                found=$version
                break
            fi
            say "the mirror lists $package $version, but has not its files: trying the one before"
        done
        [ -n "$found" ] || die "the mirror has no source of $package"
        echo "$package $found"
    done
}

unpack() {
    local description
    fetch "$2" "$3" || die "cannot fetch the source of $2 $3"
    description=$cache/sources/${2}_${3#*:}.dsc
    # apt has verified it, against the signed list
    dpkg-source --no-check -x "$description" "$1/$2" >/dev/null
}

command -v dpkg-source >/dev/null || apt_install "dpkg-source is missing" dpkg-dev
case ${1:-} in
    list) list ;;
    unpack) shift && unpack "$@" ;;
    *) die "usage: sources.sh list | unpack DIRECTORY NAME VERSION" ;;
esac
