#!/bin/sh
python manage.py migrate --noinput || exit 1
nginx
exec gunicorn mysite.wsgi:application --bind 127.0.0.1:8001 --workers $WORKERS --timeout 90
