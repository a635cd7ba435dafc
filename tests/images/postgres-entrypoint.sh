#!/bin/bash
# PostgreSQL with the official image's contract, as far as the tests and the demo use it:
# POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, POSTGRES_USER, POSTGRES_DB, PGDATA.
set -euo pipefail

PATH=/usr/lib/postgresql/15/bin:$PATH
sockets=/var/run/postgresql

as_root() {
    mkdir -p "$PGDATA" "$sockets"
    chown postgres:postgres "$PGDATA" "$sockets"
    chmod 0700 "$PGDATA"
    # As the official image does: the password file is read by postgres, not by root, so a file that
    # only root may read fails here too.
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
}

password() {
    if [ -n "${POSTGRES_PASSWORD:-}" ] && [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        echo "postgres: POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE exclude each other" >&2
        return 1
    fi
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        cat "$POSTGRES_PASSWORD_FILE"
    else
        printf '%s' "${POSTGRES_PASSWORD:?a new database needs POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE}"
    fi
}

create_database() {
    local user=${POSTGRES_USER:-postgres} database secret
    database=${POSTGRES_DB:-$user}
    secret=$(password)
    initdb -D "$PGDATA" -U "$user" -E UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 \
        --no-sync --pwfile=<(printf '%s\n' "$secret") >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    if [ "$database" != postgres ]; then
        printf 'CREATE DATABASE "%s";\n' "$database" | postgres --single -D "$PGDATA" postgres >/dev/null
    fi
}

[ "${1:-}" = postgres ] || exec "$@"
[ "$(id -u)" != 0 ] || as_root "$@"
[ -s "$PGDATA/PG_VERSION" ] || create_database
unset POSTGRES_PASSWORD
exec "$@" -c "listen_addresses=*" -c "unix_socket_directories=$sockets"
