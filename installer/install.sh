#!/bin/sh
# Installs DSO (Docker Secret Operator): `docker dso`, and as root the agent with its providers.
#
#   curl -fsSL URL/install.sh | sh          for yourself: ~/.docker/cli-plugins
#   curl -fsSL URL/install.sh | sudo sh     for the whole machine: /usr/local
#   sh install.sh --offline TARBALL         without a network
#
# All of it is one group of commands: a shell runs none of them before it has read the last line, so that a download
# that was cut off does nothing at all.
# shellcheck disable=SC2015,SC2317  # `a && b || die`: die ends it all; the trap calls `finish`
{
usage() {
    cat <<'USAGE'
Usage: install.sh [OPTION]...

As root DSO is installed for the whole machine, otherwise for you alone (the command line, without the agent).
Nothing is changed before signature and checksums have been verified, and a failure leaves what was there.
An upgrade keeps configuration and vaults, and the choice of providers, and restarts the agent if it runs.

  --version VERSION     install this version, an older one too (default: the latest)
  --offline TARBALL     install from this file (or the directory it was unpacked to) instead of downloading
  --base-url URL        download from here (default: $DSO_BASE_URL, or where this script was published)
  --prefix DIR          instead of /usr/local
  --providers LIST      only these providers' plugins: vault,aws,azure,huawei or all
  --no-agent            no agent, plugins and units, only `docker dso`
  --dry-run             verify, and show what would be done
  --allow-http          download over http too; the signature is verified all the same
  --help
USAGE
}

say() { printf '%s\n' "$*"; }
warn() { printf 'Warning: %s\n' "$*" >&2; }
# die WHAT [HINT]: everything is put back by the trap on EXIT
die() {
    printf 'Error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  hint: %s\n' "$2" >&2
    exit 1
}
misuse() {
    printf 'Error: %s\n  hint: install.sh --help\n' "$1" >&2
    exit 2
}
has() { command -v "$1" >/dev/null 2>&1; }
is_system() { [ "$uid" = 0 ]; }

# Who is trusted, and with what. From this line on install.sh and uninstall.sh have the same functions.

# Root may have got PATH, HOME and others from a user (su, or sudo that keeps them). What of them leads to a place that
# somebody else may write to is not used.
surroundings() {
    set -u
    umask 022
    LC_ALL=C
    export LC_ALL
    unset CDPATH
    uid=$(command -p id -u 2>/dev/null || id -u) || exit 1
    rest=$PATH:
    [ "$uid" != 0 ] || { PATH=/usr/sbin:/usr/bin:/sbin:/bin && forget && uid=0; }
    newline='
'
    judged=$newline shared=''
    if [ "$uid" != 0 ]; then
        # a group that is the user's alone, as Debian's and Fedora's users have, may write as the user may
        [ "$(id -gn 2>/dev/null)" != "$(id -un 2>/dev/null)" ] || shared="-o ! -perm -2 -group $(id -g)"
        PATH=$PATH:/usr/sbin:/sbin
        return
    fi
    usable='' left=''
    while [ -n "$rest" ]; do
        each=${rest%%:*} rest=${rest#*:}
        ! is_safe "$each" || { usable=$usable$each: && continue; }
        left="$left ${each:-.}"
    done
    PATH=${usable:-/usr/bin:/bin:}/usr/sbin:/sbin
    [ -z "$left" ] || warn "not used of PATH, since others than root may write there:$left"
    is_safe "${HOME:-}" || HOME=/
    is_safe_docker "${DOCKER_CONFIG:-}" || unset DOCKER_CONFIG
    [ -n "${DOCKER_CONFIG:-}" ] || is_safe_docker "$HOME/.docker" || HOME=/
    export PATH HOME
}

# Unsets all of root's variables but those that are judged, proxies, certificates to believe, and which Engine to ask.
# Others make one of the programs write files or run programs (GCONV_PATH, LD_LIBRARY_PATH, BASH_ENV, TAR_OPTIONS,
# SYSTEM_WGETRC, SSLKEYLOGFILE), and nobody could list them all.
forget() {
    variables=$(env) || exit 1
    for each in $(printf '%s\n' "$variables" | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
        case $each in
        PATH | HOME | TMPDIR | PWD | LC_ALL | DSO_BASE_URL) ;;
        http_proxy | https_proxy | HTTPS_PROXY | all_proxy | ALL_PROXY | no_proxy | NO_PROXY) ;;
        SSL_CERT_FILE | SSL_CERT_DIR | CURL_CA_BUNDLE) ;;
        DOCKER_CONFIG | DOCKER_CONTEXT | DOCKER_HOST | DOCKER_API_VERSION | DOCKER_CERT_PATH | DOCKER_TLS*) ;;
        # in bash some are for reading only, and to unset one would end it all
        *) ! (unset "$each") 2>/dev/null || unset "$each" ;;
        esac
    done
}

# is_safe_docker DIRECTORY: what Docker reads and runs of its configuration
is_safe_docker() { is_safe "$1/cli-plugins" && is_safe "$1/config.json" && is_safe "$1/contexts"; }

# is_safe PATH: nobody but root and us can change what is there: neither it nor a directory on the way, links and where
# they lead to included; if it is missing, the directory that it would be in. $flaw says what is wrong otherwise.
# A relative path is not safe, whatever it leads to now.
is_safe() {
    case $1 in /*) ;; *) flaw="$1 is not an absolute path" && return 1 ;; esac
    at='' todo=$1/ hops=0
    while :; do
        part=''
        while [ -n "$todo" ] && [ -z "$part" ]; do
            part=${todo%%/*} todo=${todo#*/}
            [ "$part" != . ] || part=''
        done
        if [ -z "$part" ] || { [ ! -e "$at/$part" ] && [ ! -L "$at/$part" ]; }; then
            is_ours_alone "${at:-/}" ''
            return
        fi
        # in /tmp others may write, and yet not replace what is ours
        is_ours_alone "${at:-/}" '-o -type d -perm -1000' || return 1
        if [ "$part" = .. ]; then
            at=${at%/*}
        elif [ -L "$at/$part" ]; then
            is_ours_alone "$at/$part" '' || return 1
            hops=$((hops + 1)) todo=$(readlink "$at/$part")/$todo
            [ "$hops" -lt 40 ] || { flaw="$1 is a link to itself" && return 1; }
            case $todo in /*) at='' ;; esac
        else
            at=$at/$part
        fi
    done
}
is_ours_alone() { # PATH WHAT-IS-RIGHT-TOO
    case $judged in *"$newline$2 $1$newline"*) return 0 ;; esac
    # whatever keeps `find` from answering is no yes
    # shellcheck disable=SC2086  # words
    if [ -z "$(find "$1" -prune \( -user 0 -o -user "$uid" \) \
        \( -type l -o ! -perm -2 ! -perm -20 $shared $2 \) 2>/dev/null)" ]; then
        flaw="$1 belongs to another user"
        [ -z "$(find "$1" -prune \( -user 0 -o -user "$uid" \) 2>/dev/null)" ] ||
            flaw="other users may write to $1 (chmod go-w $1)"
        return 1
    fi
    judged="$judged$2 $1$newline"
}

# is_known PATH: a file that a release of DSO may have put there; nothing else in a manifest or a journal counts.
is_known() {
    case $1 in
    */../*) return 1 ;;
    "${home%/lib/dso}/bin/dso-agent" | "$home/install.sh" | "$home/uninstall.sh" | "$home/manifest") return 0 ;;
    "$home/plugins/dso-provider-"* | /*/cli-plugins/docker-dso) return 0 ;;
    /usr/local/lib/sysusers.d/dso.conf | /usr/lib/sysusers.d/dso.conf) return 0 ;;
    /usr/local/lib/systemd/system/dso-* | /usr/lib/systemd/system/dso-*)
        case ${1##*/} in *[!A-Za-z0-9@._-]*) return 1 ;; esac
        return 0 ;;
    esac
    for share_dir in "${home%/lib/dso}/share" "${home%/dso}"; do
        case $1 in
        "$share_dir/bash-completion/completions/docker-dso" | "$share_dir/zsh/site-functions/_docker-dso" | \
            "$share_dir/fish/vendor_completions.d/docker-dso.fish" | "$share_dir/man/man"[158]/*dso* | \
            "$share_dir/doc/dso/"*) return 0 ;;
        esac
    done
    return 1
}

# is_known_above DIRECTORY: one that such files are in or below, of those in $listed or of another version's.
is_known_above() {
    case $1 in */../* | */..) return 1 ;; esac
    case "$newline$listed" in *"$newline$1/"*) return 0 ;; esac
    for each in "$home/plugins/" "${home%/lib/dso}/bin/" /usr/local/lib/systemd/system/ /usr/lib/systemd/system/ \
        /usr/local/lib/sysusers.d/ /usr/lib/sysusers.d/ \
        "${home%/lib/dso}/lib/docker/cli-plugins/"; do
        case $each in "$1"/*) return 0 ;; esac
    done
    for share_dir in "${home%/lib/dso}/share" "${home%/dso}"; do
        case $1 in "$share_dir/doc/dso" | "$share_dir/doc/dso/"*) return 0 ;; esac
        for each in doc bash-completion/completions zsh/site-functions fish/vendor_completions.d \
            man/man1 man/man5 man/man8; do
            case $share_dir/$each/ in "$1"/*) return 0 ;; esac
        done
    done
    return 1
}

# check_record FILE: a manifest or a journal says what to remove, so it has to be of the installer.
check_record() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    is_safe "$1" || die "$1 is not trusted: $flaw" \
        "whoever can change it chooses what is removed; see what it lists before you mend that"
    listed=$(sed -n 's/^file [^ ]* [^ ]* //p; s/^old //p; s/^new //p' "$1") || die "cannot read $1"
    printf '%s\n' "$listed" | while read -r path; do
        [ -z "$path" ] || is_known "$path" || die "$1 is not trusted: it lists $path, which DSO does not install" \
            "if a newer version of DSO wrote it, use the scripts of that version, in $home"
    done || exit 1
    sed -n 's/^dir //p' "$1" | while read -r path; do
        is_known_above "$path" || die "$1 is not trusted: it lists the directory $path, which DSO does not make"
    done || exit 1
}

# From here on they differ.

settings() {
    # `make dist` writes these two: the base64 of the release key (Ed25519, SubjectPublicKeyInfo), the URL
    release_key='@RELEASE_KEY@'
    published='@BASE_URL@'
    base_url=${DSO_BASE_URL:-}
    version='' offline='' prefix='' providers='' no_agent='' dry_run='' allow_http=''
    work='' lock='' has_changed='' was_active='' was_restarted='' is_named=''
    all_providers='vault aws azure huawei'
    # what a release may be, packed or unpacked, in blocks of 512 bytes (in bash of 1024): three times what one is
    largest=1048576
    units='dso-agent.service dso-agent.socket dso-volume.socket'
}

options() {
    while [ $# -gt 0 ]; do
        option=$1
        shift
        case $option in
        --no-agent) no_agent=yes; continue ;;
        --dry-run) dry_run=yes; continue ;;
        --allow-http) allow_http=yes; continue ;;
        -h | --help) usage; exit 0 ;;
        --version=* | --offline=* | --base-url=* | --prefix=* | --providers=*)
            value=${option#*=}
            option=${option%%=*} ;;
        --version | --offline | --base-url | --prefix | --providers)
            [ $# -gt 0 ] || misuse "$option needs a value"
            value=$1
            shift ;;
        *) misuse "unknown option: $option" ;;
        esac
        [ -n "$value" ] || misuse "$option needs a value"
        case $option in
        --version) version=${value#v} is_named=yes ;;
        --offline) offline=$value ;;
        --base-url) base_url=$value ;;
        --prefix) prefix=$value ;;
        --providers) providers=$value ;;
        esac
    done
    [ -z "$version" ] || is_version "$version" || misuse "no version: $version"
    [ -z "$providers" ] || check_providers
    if ! is_system && [ -n "$providers$no_agent" ]; then
        misuse "--providers and --no-agent are about the agent, which only root installs"
    fi
    [ -z "$providers" ] || [ -z "$no_agent" ] || misuse "--providers and --no-agent exclude each other"
}

is_version() {
    printf '%s\n' "$1" | grep -Eq '^[0-9]+\.[0-9]+\.[0-9]+([-.+][A-Za-z0-9.]+)?$' && [ "${1#*"$newline"}" = "$1" ]
}

check_providers() {
    providers=$(printf '%s' "$providers" | tr ',' ' ')
    [ "$providers" != all ] || providers=$all_providers
    for each in $providers; do
        case " $all_providers " in
        *" $each "*) ;;
        *) misuse "no provider: $each (there are $all_providers)" ;;
        esac
    done
}

# The machine

check_machine() {
    [ "$(uname -s)" = Linux ] || die "DSO runs on Linux, and this is $(uname -s)"
    case $(uname -m) in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) die "there is no DSO for $(uname -m)" "it is built for x86_64 and aarch64" ;;
    esac
    [ "$(getconf LONG_BIT 2>/dev/null)" != 32 ] || die "there is no DSO for 32-bit systems (kernel: $arch)"
    check_libc
    for each in tar gzip sed grep sort find cmp mktemp; do
        has "$each" || die "$each is missing" "install it and run this again"
    done
    has openssl || die "openssl is missing, and without it the signature cannot be verified" \
        "install the package openssl and run this again"
}

check_libc() {
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=''
    [ -n "$libc" ] || libc=$(ldd --version 2>&1 | head -n 1)
    case $libc in
    *musl*) die "this system has the C library musl, and DSO needs glibc" \
        "Alpine and its relatives cannot run it; use a Debian, Ubuntu, RHEL or SUSE host, or a container of one" ;;
    esac
    libc=$(printf '%s\n' "$libc" | sed -n 's/^.*[^0-9.]\([0-9][0-9]*\.[0-9][0-9]*\)[0-9.]*$/\1/p')
    if [ -z "$libc" ]; then
        set -- /lib/ld-musl-*
        [ ! -e "$1" ] || die "this system has the C library musl, and DSO needs glibc"
    elif [ "${libc%.*}" -lt 2 ] || { [ "${libc%.*}" -eq 2 ] && [ "${libc#*.}" -lt 28 ]; }; then
        die "this system has glibc $libc, and DSO needs 2.28 or newer" \
            "that is Debian 10, Ubuntu 20.04, RHEL 8, SUSE 15.3 or newer"
    fi
}

check_docker() {
    if ! has docker; then
        warn "there is no \`docker\` here: DSO is a plugin of it, so install Docker before you use it"
        return
    fi
    found=$(docker compose version --short 2>/dev/null </dev/null) || found=''
    found=${found#v}
    case $found in
    '') warn "Docker has no Compose plugin: \`docker dso up\` needs Compose 2.24 or newer" ;;
    [01].* | 2.[0-9].* | 2.1[0-9].* | 2.2[0-3].*) warn "Compose is $found: \`docker dso up\` needs 2.24 or newer" ;;
    esac
}

# Where things go

places() {
    case $prefix in
    '' | /*) ;;
    *) prefix=$(pwd)/$prefix ;;
    esac
    prefix=${prefix%/}
    case $prefix in
    *"$newline"* | *\\* | *'|'* | *'&'*) die "the prefix has a character that cannot be used: $prefix" ;;
    */../* | */..) die "no plain path: $prefix" "name the prefix without \`..\`" ;;
    esac
    if is_system; then
        case $prefix in
        *[!A-Za-z0-9._+@=~/-]*) die "the prefix has a character that a unit of systemd cannot have: $prefix" ;;
        esac
        prefix=${prefix:-/usr/local}
        home=$prefix/lib/dso share=$prefix/share
        case $prefix in
        /usr | /usr/local) found=$prefix ;;
        *) found=/usr/local ;; # neither Docker nor systemd would look elsewhere
        esac
        # Not /etc/systemd/system: that is the administrator's, who can then mask and replace units
        plugin=$found/lib/docker/cli-plugins unit_dir=$found/lib/systemd/system
        users=$found/lib/sysusers.d/dso.conf
    elif [ -n "$prefix" ]; then
        home=$prefix/lib/dso plugin=$prefix/lib/docker/cli-plugins share=$prefix/share
    else
        check_home
        share=${XDG_DATA_HOME:-$HOME/.local/share}
        home=$share/dso plugin=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
    fi
    manifest=$home/manifest journal=$home/.journal
    is_safe "$home" || die "$home is not trusted: $flaw" "whoever can write there decides what runs; or see --prefix"
    for each in "$manifest" "$journal" "$journal.done"; do check_record "$each"; done
}

check_home() {
    [ -n "${HOME:-}" ] && [ -d "$HOME" ] || die "you have no home directory (HOME=${HOME:-})" \
        "set HOME, or use --prefix"
    [ -n "$(find "$HOME/." -prune -user "$uid" 2>/dev/null)" ] || die "$HOME is not yours (HOME is set to it)" \
        "as another user by sudo: \`sudo -H\`; for the whole machine: run this as root"
    for each in "${DOCKER_CONFIG:-$HOME/.docker}" "${XDG_DATA_HOME:-$HOME/.local/share}"; do
        case $each in
        *"$newline"* | [!/]* | */../* | */..)
            die "no absolute path: $each" "see DOCKER_CONFIG, XDG_DATA_HOME and HOME" ;;
        esac
        if [ -e "$each" ] && [ ! -w "$each" ]; then
            die "you may not write to $each" "sudo chown -R $(id -un) '$each'"
        fi
    done
}

# Getting it

fetch() { # URL FILE BLOCKS: no more than that, of 512 bytes
    say "downloading $1"
    has curl || has wget || die "neither curl nor wget is here" "install one of them, or use --offline TARBALL"
    (
        ulimit -f "$3"
        # no configuration: it could have them write to other files, or run programs
        if has curl; then
            exec curl -q -fsSL --proto "$protocols" --proto-redir "$protocols" --retry 2 --connect-timeout 20 \
                --speed-limit 1000 --speed-time 60 -o "$2" "$1"
        fi
        if wget --no-config --version >/dev/null 2>&1; then
            exec wget --no-config -q -O "$2" "$1"
        fi
        exec wget -q -O "$2" "$1"
    ) </dev/null || die "cannot download $1" "see above; is the address right? Without a network: --offline TARBALL"
}

check_url() {
    base_url=${base_url:-$published}
    base_url=${base_url%/}
    protocols='=https'
    case $base_url in
    '' | @*) die "no address to download from" "name one with --base-url, or a file with --offline" ;;
    *@* | *[!]A-Za-z0-9:/._~%+=,[-]*) die "this is no address to download from: $base_url" ;;
    https://?*) ;;
    http://?*)
        host=${base_url#http://}
        host=${host%%/*}
        case $host in
        localhost | localhost:* | 127.0.0.1 | 127.0.0.1:* | '[::1]' | '[::1]':*) ;;
        *) [ -n "$allow_http" ] || die "$base_url is not encrypted" "use https, or add --allow-http" ;;
        esac
        protocols='=http,https' ;;
    *) die "the base URL begins with https://: $base_url" ;;
    esac
}

download() {
    check_url
    if [ -z "$version" ]; then
        fetch "$base_url/latest" "$work/latest" 128
        read_latest
        check_version
    fi
    top=dso-$version-linux-$arch
    fetch "$base_url/$top.tar.gz" "$work/tarball" "$largest"
    decompress "$work/tarball"
    rm -f "$work/tarball"
}

# A version, since when and until when it is the latest, and the signature of these three lines, in both forms.
# Without it an old release, signed as it is, could be served for ever.
read_latest() {
    unnamed="--version VERSION installs one that you name"
    head -n 3 "$work/latest" >"$work/statement"
    sed -n '4s/^signature //p' "$work/latest" | openssl base64 -d -A >"$work/statement.sig" 2>/dev/null
    sed 1,4d "$work/latest" >"$work/statement.csr"
    [ -s "$work/statement.sig" ] || die "$base_url/latest is not signed" "$unnamed"
    verify_signature "$work/statement" || die "the signature of $base_url/latest is not of DSO's release key" "$unnamed"
    version=$(head -n 1 "$work/statement")
    since=$(sed -n '2s/^since \([0-9-]*\)$/\1/p' "$work/statement")
    until=$(sed -n '3s/^until \([0-9-]*\)$/\1/p' "$work/statement")
    is_version "$version" && is_day "$since" && is_day "$until" || die "$base_url/latest holds no version"
    today=$(date -u +%Y-%m-%d)
    is_day "$today" && [ "$(days "$today")" -ge "$(days "$since")" ] ||
        die "$base_url/latest is of $since, and the clock of this machine says $today" "set the clock; or $unnamed"
    [ "$(days "$today")" -le "$(days "$until")" ] || die "$base_url/latest held until $until, so it may be kept back" \
        "ask who publishes DSO there for a newer one; $unnamed ($version, say)"
}
is_day() { printf '%s\n' "$1" | grep -Exq '[0-9]{4}-[0-9]{2}-[0-9]{2}'; }
days() { printf '%s' "$1" | tr -d -; } # to be compared

take_offline() {
    [ -e "$offline" ] || die "there is no $offline"
    if [ -d "$offline" ]; then
        # copied as an archive, so that nobody changes it after it was verified
        directory=$(cd "$offline" && pwd -P) || die "cannot read $offline"
        top=${directory##*/}
        check_top
        (ulimit -f "$largest" && exec tar -C "${directory%/*}/" -cf "$archive" "$top") || die "cannot read $offline"
    else
        [ -r "$offline" ] || die "cannot read $offline"
        decompress "$offline"
        top=$(tar -tf "$archive" 2>/dev/null </dev/null | head -n 1)
        top=${top%%/*}
        check_top
    fi
    [ "${top##*-linux-}" = "$arch" ] || die "$offline is for ${top##*-linux-}, and this machine is $arch"
    [ -z "$version" ] || [ "$version" = "$found" ] || die "$offline is version $found, not $version"
    version=$found
}

check_top() {
    found=${top#dso-}
    found=${found%-linux-*}
    [ "$top" = "dso-$found-linux-${top##*-linux-}" ] && is_version "$found" || die "$offline is no release of DSO"
}

# Verifying it

hash_of() {
    if has sha256sum; then
        sha256sum <"$1" | cut -c 1-64
    else
        openssl dgst -sha256 -r <"$1" | cut -c 1-64
    fi
}

bad() { die "$1" "nothing was changed; get the release again, from where you trust it"; }

# To a file first, and up to a limit: it is not known yet whose archive this is, and a few MiB can hold many GiB.
decompress() {
    # without the signal gzip can say what is wrong
    (trap '' XFSZ && ulimit -f "$largest" && exec gzip -dc) <"$1" >"$archive" 2>"$work/log" || {
        head -n 3 "$work/log" >&2
        die "the archive is damaged, or too large for $work" "get it again; TMPDIR names another place to unpack it"
    }
}

# Only plain files and directories below the one directory are unpacked, and into a directory of our own. The details
# end with the name, so that their last word is it, or of it, or of what a link leads to.
unpack() {
    (
        ulimit -f 8192
        tar -tf "$archive" >"$work/names" && tar -tvf "$archive" >"$work/details"
    ) 2>/dev/null </dev/null && [ -s "$work/names" ] || bad "the archive is damaged"
    ! grep -qv '^[-d]' "$work/details" || bad "the archive has links, or more than plain files and directories"
    [ "$(grep -c '' "$work/names")" -le 10000 ] || bad "the archive has more files than a release"
    sed 's/^.* //' "$work/details" | cat "$work/names" - >"$work/both"
    while read -r name; do
        case $name/ in
        *[!A-Za-z0-9._+@=~/-]* | */../* | */./* | *//?*) bad "the archive has odd file names" ;;
        "$top"/*) ;;
        *) bad "the archive has odd file names, or some outside of $top" ;;
        esac
    done <"$work/both" || exit 1
    mkdir "$work/tree" && (
        # a file with holes can be larger than its archive
        ulimit -f "$largest"
        umask 077
        exec tar -C "$work/tree" -xof "$archive"
    ) </dev/null >"$work/log" 2>&1 || {
        head -n 3 "$work/log" >&2
        die "the archive cannot be unpacked to $work" "is there room? TMPDIR names another place"
    }
    rm -f "$archive"
    tree=$work/tree/$top
    [ -z "$(find "$work/tree" ! -type f ! -type d -o -type f -links +1 | head -n 1)" ] || bad "the archive has links"
}

verify() {
    [ -f "$tree/SHA256SUMS" ] && [ -f "$tree/SHA256SUMS.sig" ] || bad "the release is not signed"
    verify_signature "$tree/SHA256SUMS" || bad "the signature is not of DSO's release key"
    ! grep -Evq '^[0-9a-f]{64}  [A-Za-z0-9._+@=~/-]+$' "$tree/SHA256SUMS" || bad "SHA256SUMS is faulty"
    cut -c 67- "$tree/SHA256SUMS" | sort >"$work/listed"
    (cd "$tree" && find . -type f) | sed 's|^\./||' | grep -Evx 'SHA256SUMS(\.sig|\.csr)?' | sort >"$work/present"
    cmp -s "$work/listed" "$work/present" || bad "the release has other files than its SHA256SUMS"
    while read -r sum name; do
        [ "$(hash_of "$tree/$name")" = "$sum" ] || bad "$name is not what was signed"
    done <"$tree/SHA256SUMS" || exit 1
    [ "$(cat "$tree/VERSION")" = "$version" ] || bad "this is version $(head -c 20 "$tree/VERSION"), not $version"
    for each in "$tree"/bin/*; do check_processor "$each"; done
    say "signature and checksums of DSO $version are right"
}

# The name of a tarball is not signed, but what its programs are made for is: their headers (ELF) say it.
check_processor() { # PROGRAM
    [ "$(head -c 4 "$1" | tail -c 3)" = ELF ] || return 0
    made_for=$(head -c 19 "$1" | tail -c 1)
    case $made_for in
    '>') made_for=x86_64 ;;
    "$(printf '\267')") made_for=aarch64 ;;
    *) made_for="another processor" ;;
    esac
    [ "$made_for" = "$arch" ] || bad "${1##*/} is for $made_for, and this machine is $arch"
}

# verify_signature FILE, with FILE.sig and FILE.csr beside it
verify_signature() {
    case $release_key in
    @*) die "this install.sh has no release key: it is the source, not a release" "\`make dist\` makes one" ;;
    esac
    printf -- '-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n' "$release_key" >"$work/key.pem"
    signed=$1
    if openssl pkeyutl -help 2>&1 | grep -q -- -rawin; then
        openssl pkeyutl -verify -pubin -inkey "$work/key.pem" -rawin -in "$signed" -sigfile "$signed.sig" \
            >/dev/null 2>&1 </dev/null
        return
    fi
    # OpenSSL 1.1.1 verifies Ed25519 in certificate requests only: here is one for the file's checksum.
    # It succeeds, whatever it finds, and says what it found.
    [ -s "$signed.csr" ] || die "$(openssl version) cannot verify this release" "OpenSSL 3 can"
    request() { openssl req -config /dev/null -in "$signed.csr" -noout "$@" 2>&1 </dev/null; }
    [ "$(request -verify)" = "verify OK" ] &&
        [ "$(request -pubkey)" = "$(cat "$work/key.pem")" ] &&
        [ "$(request -subject | tr -d ' ')" = "subject=CN=$(hash_of "$signed")" ]
}

# What goes where: lines MODE SOURCE DESTINATION

add() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$work/plan"; }
add_all() { # PATTERN-DIRECTORY DESTINATION-DIRECTORY
    [ -d "$tree/$1" ] || return 0
    (cd "$tree/$1" && find . -type f) | sed 's|^\./||' | sort >"$work/names"
    while read -r name; do add 644 "$1/$name" "$2/$name"; done <"$work/names"
}

plan() {
    : >"$work/plan"
    choose
    add 755 bin/docker-dso "$plugin/docker-dso"
    add_all completions/bash "$share/bash-completion/completions"
    add_all completions/zsh "$share/zsh/site-functions"
    add_all completions/fish "$share/fish/vendor_completions.d"
    add_all man/man1 "$share/man/man1"
    add_all man/man5 "$share/man/man5"
    add_all licenses "$share/doc/dso/licenses"
    for name in sbom.cdx.json LICENSE LICENSE.txt LICENSE.md; do
        [ ! -f "$tree/$name" ] || add 644 "$name" "$share/doc/dso/$name"
    done
    [ -z "$agent" ] || plan_agent
    add 755 uninstall.sh "$home/uninstall.sh"
    # For `docker dso system setup --from`, which has no release key of its own.
    ! is_system || add 755 install.sh "$home/install.sh"
    while read -r mode name path; do
        [ -f "$tree/$name" ] || die "the release has no $name"
        [ ! -d "$path" ] || die "$path is a directory, and a file has to go there"
        is_known "$path" || die "the release has $name, and this install.sh does not know it"
        is_safe "${path%/*}" || die "$path would not be safe: $flaw" "nothing was changed; mend that, or see --prefix"
    done <"$work/plan" || exit 1
    write_manifest
    add 644 ../../manifest "$manifest"
    differences
}

# What the command line does not say stays as it was.
choose() {
    agent=''
    is_system || return 0
    agent=yes
    if [ -n "$no_agent" ]; then
        agent=''
    elif [ -z "$providers" ] && [ -f "$manifest" ]; then
        agent=$(sed -n 's/^agent //p' "$manifest")
        providers=$(sed -n 's/^providers //p' "$manifest")
    fi
    [ -n "$agent" ] || return 0
    if [ -z "$providers" ]; then
        for each in $all_providers; do
            [ ! -f "$tree/bin/dso-provider-$each" ] || providers="$providers $each"
        done
        providers=${providers# }
    fi
    for each in $providers; do
        [ -f "$tree/bin/dso-provider-$each" ] || die "the release has no plugin for $each"
    done
}

plan_agent() {
    add 755 bin/dso-agent "$prefix/bin/dso-agent"
    for each in $providers; do
        add 755 "bin/dso-provider-$each" "$home/plugins/dso-provider-$each"
    done
    add_all man/man8 "$share/man/man8"
    add 644 sysusers.d/dso.conf "$users"
    for unit in $units; do
        if [ "$prefix" != /usr/local ]; then
            sed "s|^ExecStart=/usr/local/|Environment=DSO_PLUGIN_DIR=$home/plugins\\
ExecStart=$prefix/|" "$tree/systemd/$unit" >"$work/$unit" && cp "$work/$unit" "$tree/systemd/$unit" || exit 1
        fi
        add 644 "systemd/$unit" "$unit_dir/$unit"
    done
}

write_manifest() {
    {
        say "# What the installer of DSO put where; uninstall.sh beside this file removes it."
        say "version $version"
        say "agent $agent"
        say "providers $providers"
        directories
        while read -r mode name path; do
            say "file $(hash_of "$tree/$name") $mode $path"
        done <"$work/plan"
    } >"$work/manifest" || die "cannot write to $work"
}

# Those that are missing, or were when DSO came here first: uninstall.sh removes them when they are empty.
directories() {
    {
        say "$home"
        [ ! -f "$work/made" ] || cat "$work/made"
        [ ! -f "$manifest" ] || sed -n 's/^dir //p' "$manifest"
        cut -d ' ' -f 3- "$work/plan" | sed 's|/[^/]*$||' | parents
    } | sort -u | sed 's/^/dir /'
}

# Of the directories on standard input and those above, the ones that are missing.
parents() {
    while read -r directory; do
        while [ ! -d "$directory" ]; do
            say "$directory"
            directory=${directory%/*}
        done
    done
}

# is_as MODE SOURCE PATH: nothing to do there
is_as() { cmp -s "$tree/$2" "$3" && [ -n "$(find "$3" -prune -type f -perm "$1" -user "$uid")" ]; }

differences() {
    : >"$work/changed"
    : >"$work/obsolete"
    while read -r mode name path; do
        is_as "$mode" "$name" "$path" || say "$mode $name $path" >>"$work/changed"
    done <"$work/plan"
    [ -f "$manifest" ] || return 0
    sed -n 's/^file [^ ]* [^ ]* //p' "$manifest" >"$work/former"
    cut -d ' ' -f 3- "$work/plan" >"$work/paths"
    while read -r path; do
        grep -Fqx "$path" "$work/paths" || [ ! -e "$path" ] || say "$path" >>"$work/obsolete"
    done <"$work/former"
}

# Older than what is installed only by name.
check_version() {
    former=''
    [ ! -f "$manifest" ] || former=$(sed -n 's/^version //p' "$manifest")
    [ -n "$former" ] && [ -z "$is_named" ] && [ "$former" != "$version" ] || return 0
    newest=$(printf '%s\n' "$former" "$version" | by_age | tail -n 1)
    source=${offline:-$base_url}
    [ "$newest" = "$version" ] || die "DSO $former is installed, and $source offers an older one, $version" \
        "to go back to it: --version $version"
}

# Sorts versions. Numbers are padded, to be compared as numbers; 1.0.0-rc1 comes before 1.0.0, and that before 1.0.0.1:
# it is 1.0.0~ here, for ~ comes last in ASCII.
by_age() {
    sed 'h; s/^\([0-9]*\.[0-9]*\.[0-9]*\)\([.+].*\)*$/\1~\2/; s/[0-9][0-9]*/00000000000&/g
        s/0*\([0-9]\{12\}\)/\1/g; G; s/\n/ /' | sort | sed 's/^.* //'
}

# Doing it. The journal says what is to be put back, by whoever finds it. It is there before anything changes, and is
# renamed when everything is done and only the former files (.dso-old) are left to be removed.

take_lock() {
    say "$home" | parents >"$work/made"
    mkdir -p "$home" 2>/dev/null && [ -w "$home" ] || die "cannot write to $home" \
        "for the whole machine run this as root; another place: --prefix"
    lock=$home/.lock
    me=$$.$(started $$)
    while ! ln -s "$me" "$lock" 2>/dev/null; do
        holder=$(readlink "$lock") || die "cannot write to $home"
        [ "$(started "${holder%.*}")" != "${holder#*.}" ] ||
            die "another installation is under way: process ${holder%.*}" "wait until it has ended"
        rm -f "$lock"
    done
}

# When a process was started, in ticks since the boot: its number alone may be another's by now.
started() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

recover() {
    if [ -f "$journal.done" ]; then
        tidy
    fi
    if [ -f "$journal" ]; then
        say "an installation was interrupted: putting back what there was before it"
        sed -n 's/^dir //p' "$journal" >>"$work/made"
        roll_back || die "not everything could be put back, see above" "run this again"
    fi
    rm -f "$journal.new"
}

roll_back() {
    rolled=0
    while read -r what path; do
        case $what in
        # where nothing took its place yet, both are links to one file, and mv may refuse
        old) [ ! -e "$path.dso-old" ] || mv -f "$path.dso-old" "$path" 2>/dev/null ||
            cmp -s "$path.dso-old" "$path" || rolled=1 ;;
        new) rm -f "$path" || rolled=1 ;;
        esac
        [ "$rolled" = 1 ] || [ "$what" = dir ] || rm -f "$path.dso-new" "$path.dso-old"
    done <"$journal"
    [ "$rolled" = 0 ] || return 1
    sort -r "$journal" | sed -n 's/^dir //p' >"$journal.new"
    rm -f "$journal"
    while read -r path; do rmdir "$path" 2>/dev/null; done <"$journal.new"
    rm -f "$journal.new"
}

tidy() {
    while read -r what path; do
        [ "$what" != old ] || rm -f "$path.dso-old"
    done <"$journal.done"
    rm -f "$journal.done"
}

write_journal() {
    has_changed=yes
    {
        sed -n 's/^dir //p' "$work/manifest" | while read -r path; do
            if [ ! -d "$path" ] || grep -Fqx "$path" "$work/made"; then say "dir $path"; fi
        done
        cut -d ' ' -f 3- "$work/changed" | cat - "$work/obsolete" | while read -r path; do
            if [ -e "$path" ]; then say "old $path"; else say "new $path"; fi
        done
    } >"$journal.new" && sync_to "$journal.new" && mv -f "$journal.new" "$journal" ||
        die "cannot write to $home" "is the disk full?"
}

sync_to() { sync -f "$@" 2>/dev/null || sync; }

failed() { die "cannot write $1" "is the disk full, or read-only? DSO is as it was before"; }

stage() {
    while read -r mode name path; do
        # .dso-old is a whole file or is not there
        [ ! -e "$path" ] || ln -f "$path" "$path.dso-old" 2>/dev/null ||
            { cp -p "$path" "$path.dso-new" && mv -f "$path.dso-new" "$path.dso-old"; } || failed "$path"
        mkdir -p "${path%/*}" && cp "$tree/$name" "$path.dso-new" && chmod "$mode" "$path.dso-new" &&
            cmp -s "$tree/$name" "$path.dso-new" || failed "$path"
    done <"$work/changed" || exit 1
    cut -d ' ' -f 3- "$work/changed" | sed 's|/[^/]*$||' | sort -u | while read -r path; do sync_to "$path"; done
}

# Before anybody gets them: do the programs run here?
try() {
    new=$plugin/docker-dso.dso-new
    [ -e "$new" ] || return 0
    # The first is answered by its boot loader, the second by its interpreter.
    for words in docker-cli-plugin-metadata "version --format json"; do
        # shellcheck disable=SC2086  # words
        "$new" $words >"$work/said" 2>"$work/log" </dev/null ||
            { head -n 5 "$work/log" >&2; die "docker-dso does not run on this machine, see above"; }
        grep -Fq "\"$version\"" "$work/said" || die "docker-dso does not say that it is $version"
    done
}

swap() {
    while read -r mode name path; do
        mv -f "$path.dso-new" "$path" || failed "$path"
    done <"$work/changed" || exit 1
    while read -r path; do
        mv -f "$path" "$path.dso-old" || failed "$path"
    done <"$work/obsolete" || exit 1
}

# Whom the agent runs plugins as: without them it starts none. They stay when the former version is put back.
make_users() {
    is_system && [ -n "$agent" ] || return 0
    sed -n 's/^u  *\([a-z-]*\)  *\([0-9]*\).*/\1 \2/p' "$users" | while read -r user number; do
        ! id -u "$user" >/dev/null 2>&1 || continue
        if has systemd-sysusers; then
            systemd-sysusers "$users" >"$work/log" 2>&1 </dev/null
        else
            set -- --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
            useradd --uid "$number" "$@" >"$work/log" 2>&1 </dev/null || useradd "$@" >"$work/log" 2>&1 </dev/null
        fi
        id -u "$user" >/dev/null 2>&1 || {
            head -n 3 "$work/log" >&2
            die "cannot make the user $user, whom plugins of the agent run as" \
                "make it yourself (useradd --system $user) and run this again, or install with --no-agent"
        }
    done || exit 1
}

has_systemd() { is_system && [ -d /run/systemd/system ] && has systemctl; }

look_at_agent() {
    has_systemd && systemctl is-active --quiet dso-agent.service || return 0
    was_active=yes
    [ -n "$agent" ] || die "the agent runs, and would be removed" "stop it first: systemctl disable --now $units"
}

tell_systemd() {
    has_systemd || return 0
    cat "$work/changed" "$work/obsolete" >"$work/touched"
    ! grep -Fq "$unit_dir/" "$work/touched" || systemctl daemon-reload || warn "systemctl daemon-reload failed"
    [ -n "$was_active" ] || return 0
    set -- dso-agent.service
    ! grep -Fq .socket "$work/changed" || set -- dso-agent.socket dso-volume.socket "$@"
    grep -Eq "/dso-agent$|$home/plugins/|$unit_dir/" "$work/touched" || return 0
    say "restarting the agent"
    was_restarted=yes
    systemctl restart "$@" && systemctl is-active --quiet dso-agent.service || {
        journalctl -u dso-agent.service -n 5 --no-pager -o cat 2>/dev/null >&2
        die "the new agent does not start, see above" "the former version is put back"
    }
}

commit() {
    mv -f "$journal" "$journal.done" || die "cannot write to $home"
    has_changed=''
    tidy
}

finish() {
    code=$?
    trap '' HUP INT TERM PIPE
    trap - EXIT
    if [ -n "$has_changed" ] && [ -f "$journal" ]; then
        if roll_back; then
            ! has_systemd || systemctl daemon-reload
            [ -z "$was_restarted" ] || systemctl restart dso-agent.service
            printf '%s\n' "DSO was not installed; what was there before is there still." >&2
        else
            printf '%s\n' "Not everything could be put back. Run the installer again: it goes on with that." >&2
        fi
    fi
    if [ -n "$lock" ] && [ "$(readlink "$lock")" = "$me" ]; then
        rm -f "$journal.new" "$lock"
    fi
    if [ "$code" != 0 ] && [ -n "$work" ] && [ -f "$work/made" ]; then
        sort -r "$work/made" | while read -r directory; do rmdir "$directory" 2>/dev/null; done
    fi
    [ -z "$work" ] || rm -rf "$work"
    exit "$code"
}

# Telling

show_plan() {
    say "DSO $version would be installed${former:+ in place of $former}:"
    sed 's/^[0-9]* [^ ]* /  /' "$work/changed"
    [ ! -s "$work/obsolete" ] || { say "and removed:"; sed 's/^/  /' "$work/obsolete"; }
    say "Nothing was changed (--dry-run)."
}

show_result() {
    say "DSO $version is installed${former:+ in place of $former}:"
    say "  $plugin/docker-dso"
    [ -z "$agent" ] || {
        say "  $prefix/bin/dso-agent"
        for each in $providers; do say "  $home/plugins/dso-provider-$each"; done
        for unit in $units; do say "  $unit_dir/$unit"; done
    }
    say "  man pages and completions in $share"
    say "  to remove it: $home/uninstall.sh"
    hints
}

hints() {
    check_docker
    case $plugin in
    /usr/local/lib/docker/* | /usr/lib/docker/* | "${DOCKER_CONFIG:-${HOME:-}/.docker}"/*) ;;
    *) warn "Docker does not look for plugins in $plugin: add it to cliPluginsExtraDirs in ~/.docker/config.json" ;;
    esac
    for unit in $units; do
        [ -z "$agent" ] || [ ! -f "/etc/systemd/system/$unit" ] ||
            warn "/etc/systemd/system/$unit takes the place of what was installed; remove it unless it is meant to"
    done
    if ! is_system; then
        say "Next: docker dso init"
    elif [ -z "$former" ] && [ -n "$agent" ]; then
        say "Next: docker dso system setup (as root), or for a vault of your own, without root: docker dso init"
    fi
}

main() {
    surroundings
    settings
    options "$@"
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
    check_machine
    places
    case ${TMPDIR:=/tmp} in
    /*) ;;
    *) die "the temporary directory is not safe: $TMPDIR is not an absolute path" "TMPDIR names another place for it" ;;
    esac
    work=$(umask 077 && mktemp -d "$TMPDIR/dso-install.XXXXXX") || die "cannot make a temporary directory" \
        "TMPDIR names a place for it"
    is_safe "$work" || die "the temporary directory is not safe: $flaw" "TMPDIR names another place for it"
    archive=$work/archive
    if [ -n "$offline" ]; then take_offline; else download; fi
    unpack
    verify
    check_version
    [ -n "$dry_run" ] || { take_lock && recover && check_version; }
    plan
    look_at_agent
    if [ ! -s "$work/changed" ] && [ ! -s "$work/obsolete" ]; then
        [ -n "$dry_run" ] || make_users
        say "DSO $version is installed already; nothing to do"
    elif [ -n "$dry_run" ]; then
        show_plan
    else
        write_journal
        stage
        try
        swap
        make_users
        tell_systemd
        commit
        show_result
    fi
}

main "$@"; exit; }
