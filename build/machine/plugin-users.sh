#!/bin/sh
# Makes the system users that root's agent runs plugins as, from the list that the installer has: those that are missing.
set -eu
list=$(cd "$(dirname "$0")/../../installer/sysusers.d" && pwd)/dso.conf
PATH=$PATH:/usr/sbin:/sbin
sed -n 's/^u  *\([a-z-]*\)  *\([0-9]*\).*/\1 \2/p' "$list" | while read -r user number; do
    ! getent passwd "$user" >/dev/null || continue
    set -- --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    useradd --uid "$number" "$@" 2>/dev/null || useradd "$@"
    echo "made the user $user"
done
