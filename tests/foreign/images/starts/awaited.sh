#!/bin/sh
if [ "$1" = uwsgi ]; then
    exec "$@" --master
fi
exec "$@"
