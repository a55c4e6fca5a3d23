#!/usr/bin/env bash
set -euo pipefail

export TOKEN_FILE=/run/token
case "${MODE:-web}" in
    web)
        nginx -t || exit 1
        nginx -g "daemon off;" &
        uwsgi --http-socket 127.0.0.1:8001 --wsgi-file probe.py --callable app --uid www-data --gid www-data \
            --master --processes 2 --enable-threads --die-on-term &
        ;;
    shell) exec python ;;
esac
if [ -n "${WITH_CRON:-}" ]; then
    service cron start
fi
wait -n
exit $?
