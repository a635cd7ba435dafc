# Sourced by the scripts beside it, after debian.sh: a Go tool chain. bash.
# shellcheck shell=bash disable=SC2154
#
# Theirs: $cache, where a fetched one is kept; $work, a scratch directory; and `unobtainable WHY`, which ends the script.

# A Go that is new enough: 1.20.
find_go() {
    local go
    for go in go /usr/local/go/bin/go "$cache"/go/usr/lib/go-*/bin/go; do
        case $("$go" env GOVERSION 2>/dev/null) in
            go1.[0-9] | go1.[0-9].* | go1.1[0-9] | go1.1[0-9].* | "") ;;
            *) echo "$go" && return ;;
        esac
    done
    return 1
}

# Debian 13's Go needs no library of the system: unpacked beside the servers it runs on Debian 12 as well.
fetch_go() {
    local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(debian_mirror)
    if [ -z "$mirror" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt_update || true
        mirror=$(debian_mirror)
    fi
    [ -n "$mirror" ] && [ -e "$keyring" ] || unobtainable "install Go 1.20 or newer to have it built"
    say "fetching Debian's Go"
    mkdir -p "$work"/apt/{state/lists/partial,archives/partial}
    echo "deb [signed-by=$keyring] $mirror trixie main" >"$work/apt/sources.list"
    local options=(-q -o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null
        -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State=$work/apt/state" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=)
    (cd "$work/apt" && apt-get "${options[@]}" update && apt-get "${options[@]}" download golang-1.24-go golang-1.24-src) \
        >&2 || unobtainable "Debian's Go cannot be downloaded; install Go 1.20 or newer"
    local package
    for package in "$work"/apt/*.deb; do dpkg -x "$package" "$work/go"; done
    rm -rf "$cache/go"
    mv "$work/go" "$cache/go"
}
