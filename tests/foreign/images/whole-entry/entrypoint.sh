#!/bin/sh
set -e
export RELEASE=$(cat release)
mkdir -p /code/static
nginx
exec gunicorn probe:app --bind 127.0.0.1:8001 --workers $WORKERS --timeout 90
