#!/bin/bash
# Makes the database at the first start, then becomes the server.
set -e
if [ "$(id -u)" = 0 ]; then
    chown postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export POSTGRES_PASSWORD
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb -U "$POSTGRES_USER" --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=C \
        --pwfile=<(printf '%s' "$POSTGRES_PASSWORD") >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -w start -o "-c listen_addresses= -k /tmp" >/dev/null
    createdb -h /tmp -U "$POSTGRES_USER" "${POSTGRES_DB:-$POSTGRES_USER}" 2>/dev/null || true
    pg_ctl -w stop >/dev/null
fi
exec postgres -c listen_addresses='*' -k /tmp -c fsync=off
