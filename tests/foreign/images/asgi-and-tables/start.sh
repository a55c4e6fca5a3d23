#!/bin/sh
redis-server --daemonize yes
daphne -b 127.0.0.1 -p 9000 site.asgi:application &
gosu www-data uwsgi --http :80 --mount /shop=shop:app --manage-script-name
