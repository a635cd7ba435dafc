#!/bin/sh
# Removes what the installer of DSO put on this machine, by the manifest beside this script.
# shellcheck disable=SC2015,SC2317  # `a && b || die`: die ends it all
{
usage() {
    cat <<'USAGE'
Usage: uninstall.sh [OPTION]...

Removes DSO's programs, units, man pages and completions. Configuration (/etc/dso) and state (/var/lib/dso) are kept
unless you say otherwise when asked; without a terminal they are kept. Vaults (~/.dso) are kept in any case but --purge.

  --purge         remove configuration, state and the vault of the user who runs this, too; secrets in it are LOST
  --yes           do not ask; with --purge: yes, really
  --force         even while containers or volumes still need the agent
  --prefix DIR    uninstall what was installed with this prefix (default: where this script lies)
  --help
USAGE
}

say() { printf '%s\n' "$*"; }
warn() { printf 'Warning: %s\n' "$*" >&2; }
die() {
    printf 'Error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  hint: %s\n' "$2" >&2
    exit 1
}
misuse() {
    printf 'Error: %s\n  hint: uninstall.sh --help\n' "$1" >&2
    exit 2
}
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

has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }

options() {
    purge='' yes='' force='' home=''
    while [ $# -gt 0 ]; do
        case $1 in
        --purge) purge=yes ;;
        --yes | -y) yes=yes ;;
        --force) force=yes ;;
        --prefix=?*) home=${1#*=}/lib/dso ;;
        --prefix)
            [ $# -gt 1 ] && [ -n "$2" ] || misuse "--prefix needs a value"
            home=${2%/}/lib/dso
            shift ;;
        -h | --help) usage; exit 0 ;;
        *) misuse "unknown option: $1" ;;
        esac
        shift
    done
}

find_manifest() {
    if [ -z "$home" ]; then
        # as `... | sh` it has no place, and a file called manifest in the present directory is anybody's
        case $0 in
        */uninstall.sh) home=$(cd "${0%/*}" && pwd -P) ;;
        uninstall.sh) home=$(pwd -P) ;;
        esac
        if [ ! -f "$home/manifest" ]; then # unpacked from a release, say
            if [ "$uid" = 0 ]; then home=/usr/local/lib/dso; else home=${XDG_DATA_HOME:-${HOME:-}/.local/share}/dso; fi
        fi
    fi
    case $home in
    /*) ;;
    *) home=$(pwd -P)/$home ;;
    esac
    manifest=$home/manifest
    [ -f "$manifest" ] || die "DSO is not installed: there is no $manifest" "with another prefix: --prefix DIR"
    [ -w "$home" ] || die "you may not remove what is in $home" "run this as root: sudo $home/uninstall.sh"
    # the same directory by the name that the manifest has for it: links may lead there
    named=$(sed -n 's|^file [^ ]* [^ ]* \(/.*\)/uninstall\.sh$|\1|p' "$manifest")
    [ -z "$named" ] || [ "$(cd "$named" 2>/dev/null && pwd -P)" != "$(cd "$home" && pwd -P)" ] || home=$named
    # the journals are of an installation that was interrupted
    for each in "$manifest" "$home/.journal" "$home/.journal.done"; do check_record "$each"; done
    agent=$(sed -n 's/^agent //p' "$manifest")
    units=$(sed -n 's|^file [^ ]* [^ ]* .*/systemd/system/||p' "$manifest")
}

# The vault of the user who runs this, whatever HOME says: with sudo that is root.
find_vault() {
    vault=$(getent passwd "$uid" 2>/dev/null | cut -d : -f 6)
    vault=${vault:-${HOME:-}}/.dso
    [ -f "$vault/vault.enc" ] && [ -n "$(find "$vault/." -prune -user "$uid" 2>/dev/null)" ] || vault=''
}

confirm() { # QUESTION
    [ -z "$yes" ] || return 0
    [ -t 0 ] || return 1
    printf '%s [y/N] ' "$1"
    read -r answer || answer=''
    case $answer in
    [yY] | [yY][eE][sS]) return 0 ;;
    esac
    return 1
}

check_purge() {
    [ -n "$purge" ] || return 0
    find_vault
    confirm "Remove DSO with its configuration${vault:+ AND THE VAULT $vault with all secrets in it}?" ||
        die "nothing was removed" "--purge takes a yes: add --yes if you mean it"
    yes=yes
}

# A volume of the agent's stalls and fails without it, and so do the containers that use it.
check_volumes() {
    [ -n "$agent" ] && [ -z "$force" ] && command -v docker >/dev/null 2>&1 || return 0
    volumes=$(docker volume ls -q --filter driver=dso 2>/dev/null </dev/null) ||
        die "the Docker Engine does not say whether containers need the agent" \
            "start it, or see \`docker volume ls\`; --force removes the agent all the same"
    [ -n "$volumes" ] || return 0
    for each in $volumes; do
        docker ps -a --filter "volume=$each" --format "  container {{.Names}} ({{.State}}) uses volume $each" </dev/null
    done
    for each in $volumes; do say "  volume $each"; done
    die "the agent serves volumes still, see above: those containers would not start again" \
        "\`docker dso down\` in each project (or docker rm, docker volume rm); --force removes the agent all the same"
}

# The lock is a link to the installer's process and when that was started.
check_lock() {
    holder=$(readlink "$home/.lock") || return 0
    started=$(sed 's/^.*) //' "/proc/${holder%.*}/stat" 2>/dev/null | cut -d ' ' -f 20)
    [ "$started" != "${holder#*.}" ] ||
        die "an installation is under way: process ${holder%.*}" "wait until it has ended"
}

stop_units() {
    [ "$uid" = 0 ] && [ -n "$units" ] && has_systemd || return 0
    # shellcheck disable=SC2086  # names without blanks
    systemctl disable --now $units >/dev/null 2>&1
    for unit in $units; do
        ! systemctl is-active --quiet "$unit" || die "$unit cannot be stopped" "systemctl status $unit"
    done
}

# The manifest goes last: whoever is interrupted can go on.
remove_files() {
    for each in "$manifest" "$home/.journal" "$home/.journal.done"; do
        [ ! -f "$each" ] || sed -n 's/^file [^ ]* [^ ]* //p; s/^old //p; s/^new //p' "$each"
    done | while read -r path; do
        [ "$path" = "$manifest" ] || rm -f "$path" "$path.dso-new" "$path.dso-old" || die "cannot remove $path"
    done || exit 1
    directories=$(cat "$manifest" "$home/.journal" 2>/dev/null | sed -n 's/^dir //p' | sort -ru)
    rm -f "$home"/.journal* "$home/.lock" "$manifest".* "$manifest" || exit 1
    printf '%s\n' "$directories" | while read -r path; do rmdir "$path" 2>/dev/null; done
    if [ "$uid" = 0 ] && [ -n "$units" ] && has_systemd; then
        systemctl daemon-reload
        # shellcheck disable=SC2086
        systemctl reset-failed $units 2>/dev/null
    fi
}

remove_configuration() {
    left=''
    for each in /etc/dso /var/lib/dso; do
        [ "$uid" != 0 ] || [ -z "$agent" ] || [ ! -e "$each" ] || left="${left:+$left }$each"
    done
    if [ -n "$left" ]; then
        # --yes alone is no answer to this question
        [ -n "$purge" ] || yes=''
        if confirm "Remove configuration and state too ($left)?"; then
            # shellcheck disable=SC2086
            rm -rf $left || die "cannot remove $left"
            say "removed: $left"
        else
            say "kept: $left"
        fi
    fi
    if [ -n "$purge" ] && [ -n "$vault" ]; then
        rm -rf "$vault" || die "cannot remove $vault"
        say "removed: $vault"
    fi
}

tell() {
    [ "$uid" = 0 ] && [ -n "$agent" ] || return 0
    say "The Docker Engine asks for the volume driver until it is restarted; that makes \`docker volume ls\` slow."
    ! getent group dso >/dev/null 2>&1 || say "kept: the group dso, which files may belong to (groupdel dso)"
    kept=''
    for user in dso-vault dso-aws dso-azure dso-huawei dso-plugin; do
        ! getent passwd "$user" >/dev/null 2>&1 || kept="$kept $user"
    done
    [ -z "$kept" ] || say "kept: the users$kept, who own nothing (userdel)"
    ! grep -q ' /run/dso/volumes/' /proc/self/mountinfo 2>/dev/null ||
        say "kept: secrets of running containers, mounted below /run/dso/volumes until the next boot"
}

main() {
    surroundings
    vault=''
    options "$@"
    find_manifest
    check_lock
    check_purge
    check_volumes
    stop_units
    remove_files
    say "DSO was removed from ${home%/lib/dso}"
    remove_configuration
    tell
}

main "$@"; exit; }
