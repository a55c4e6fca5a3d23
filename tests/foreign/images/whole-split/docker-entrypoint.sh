#!/bin/sh
set -e
python -c "import flask"
export STAGE=entry
umask 027
exec "$@"
