#!/bin/sh
set -e
[ ! -f /app/prestart.sh ] || . /app/prestart.sh
exec supervisord -n -c /etc/supervisor/conf.d/supervisord.conf
