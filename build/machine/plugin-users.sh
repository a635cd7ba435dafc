#!/bin/sh
# Makes the system users that root's agent runs plugins as, from the list that the installer has: those that are missing.
set -eu
list=$(cd "$(dirname "$0")/../../installer/sysusers.d" && pwd)/dso.conf
PATH=$PATH:/usr/sbin:/sbin
sed -n 's/^u  *\([a-z-]*\).*/\1/p' "$list" | while read -r user; do
    ! getent passwd "$user" >/dev/null || continue
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    echo "made the user $user"
done
