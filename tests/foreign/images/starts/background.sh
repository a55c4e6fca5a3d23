#!/bin/sh
sed -i s/80/81/ /etc/nginx/nginx.conf
gunicorn core.wsgi -w 2 &
gunicorn core.wsgi -w 2 --daemon
gunicorn core.wsgi $OPTIONS
su app -c "gunicorn core.wsgi -w 2"
supervisord -v
celery -A core worker
