#!/bin/bash
# Debian's sources of what the release interpreter is made from, with Debian's security fixes.
#
#   sources.sh list [--strict]   update the lists; print NAME VERSION LISTED of each source package: the newest version
#                                that the mirror has, and the newest that it lists
#   sources.sh unpack DIRECTORY NAME VERSION
#                                fetch one and unpack it as DIRECTORY/NAME, with Debian's patches
#
# apt fetches them from the mirror this machine is configured with, and verifies them: Debian's key signs the list of
# lists, which has the checksums of the lists of sources, which have the checksums of the files. It does so with a
# configuration and state of its own, as any user, and changes nothing of the machine's.
#
# Mirrors may be behind their own lists, may lack Debian's security updates, or may have stopped at some day; then their
# lists are past the day until which they are valid. For everyday builds that is passed over, and said. With --strict,
# for releases, each is an error (code 2) unless DSO_ACCEPT_SOURCES names it: "expat=2.9.0-1 security-mirror=none
# lists=unchecked". Lines of that kind are printed, too: "security-mirror none present", "lists unchecked checked".
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

# The machine's own configuration may allow what this must not be built from.
options=(-q -o Acquire::AllowInsecureRepositories=false -o Acquire::AllowWeakRepositories=false
    -o Acquire::AllowDowngradeToInsecureRepositories=false -o APT::Get::AllowUnauthenticated=false
    -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State=$state"
    -o "Dir::Cache=$state" -o APT::Sandbox::User= -o APT::Update::Post-Invoke-Success::=)

strict=
refused=()

# unless_accepted NAME=VALUE WHAT: something that a release is not made of unless it is named; everyday builds go on.
unless_accepted() {
    if [ -z "$strict" ]; then
        say "$2"
    elif accepted "$1"; then
        say "$2 (accepted by name: $1)"
    else
        say "$2"
        refused+=("$1")
    fi
}

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
    if [ -z "$security" ]; then
        unless_accepted security-mirror=none "no mirror of Debian's security updates in the apt sources of this machine"
        echo "security-mirror none present"
    fi
    if [ -n "$strict" ] && ! accepted lists=unchecked; then
        options+=(-o Acquire::Check-Valid-Until=true -o Acquire::Check-Date=true)
    else
        echo "lists unchecked checked"
    fi
    mkdir -p "$state"/lists/partial "$state"/archives/partial
    echo "deb-src [signed-by=$keyring] $main $release main" >"$state/sources.list"
    [ -z "$security" ] ||
        echo "deb-src [signed-by=$keyring] $security $release-security main" >>"$state/sources.list"
    # it lists former versions, too: nothing newer than stable's is taken from it, so it may be an old list
    echo "deb-src [signed-by=$keyring check-valid-until=no] $main sid main" >>"$state/sources.list"
    apt-get "${options[@]}" -o APT::Update::Error-Mode=any update >&2 ||
        die "Debian's lists of sources cannot be fetched, or are not valid any more (see above; lists=unchecked in" \
            "DSO_ACCEPT_SOURCES takes old ones)"
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
    local package version found newest
    update
    for package in $packages; do
        found='' newest=''
        for version in $(versions "$package"); do
            newest=${newest:-$version}
            if fetch "$package" "$version"; then
                found=$version
                break
            fi
            say "the mirror lists $package $version, but has not its files: trying the one before"
        done
        [ -n "$found" ] || die "the mirror has no source of $package"
        [ "$found" = "$newest" ] || unless_accepted "$package=$found" "$package $found is not the newest, $newest"
        echo "$package $found $newest"
    done
    [ ${#refused[@]} = 0 ] || refuse "${refused[@]}"
}

# The checksums of a version's files, as `sha256sum` reads them, from the list that apt has verified.
checksums() {
    apt-cache "${options[@]}" showsrc --only-source "$1" | NAME=$1 VERSION=$2 perl -00 -ne '
        next unless /^Package: \Q$ENV{NAME}\E$/m and /^Version: \Q$ENV{VERSION}\E$/m;
        next unless /^Checksums-Sha256:\s*\n((?: .*\n?)+)/m;
        for (split /\n/, $1) { print "$1  $2\n" if /^ ([0-9a-f]{64}) \d+ ([^\/\s]+)$/ }' | sort -u
}

unpack() {
    local description=${2}_${3#*:}.dsc sums
    fetch "$2" "$3" || die "cannot fetch the source of $2 $3"
    # apt has verified them when it fetched them, which may be long ago; dpkg-source knows no key for the .dsc
    sums=$(checksums "$2" "$3")
    grep -qF "  $description" <<<"$sums" || die "the list of sources has no checksums of $2 $3"
    (cd "$cache/sources" && sha256sum --check --strict --quiet <<<"$sums" >&2) ||
        die "the source of $2 $3 is not what Debian signed (see above): remove it from $cache/sources"
    description=$cache/sources/$description
    dpkg-source --no-check -x "$description" "$1/$2" >/dev/null
}

command -v dpkg-source >/dev/null || apt_install "dpkg-source is missing" dpkg-dev
case ${1:-} in
    list)
        [ "${2:-}" != --strict ] || strict=yes
        list ;;
    unpack) shift && unpack "$@" ;;
    *) die "usage: sources.sh list [--strict] | unpack DIRECTORY NAME VERSION" ;;
esac
