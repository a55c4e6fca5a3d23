#!/bin/bash
service nginx start || exit 1
if service nginx start; then
  echo yes
fi
if [ "$X" = 1 ]; then
  nginx
fi
if [ "$X" = 1 ]; then nginx; fi
case "$1" in
  web) exec gunicorn app:app -b 127.0.0.1:8000 ;;
  web|gunicorn) exec gunicorn app:app -b 127.0.0.1:8000 ;; # both
  other)
    exec gunicorn app:app -b 127.0.0.1:8000 ;;
  nginx)
    nginx ;;
esac
service nginx start ||
  exit 1
serve() { gunicorn app:app -b 127.0.0.1:8000; }
nginx -t && nginx || cat /var/log/nginx/error.log
nginx -g 'daemon off;' | tee x
python manage.py migrate && cd /x && nginx; python b.py
poetry run gunicorn app:app -b 127.0.0.1:8000
gunicorn app:app -b 127.0.0.1:8000 & celery worker &
gunicorn app:app >> /var/log/g.log 2>&1
timeout 30 nginx
set -- gunicorn app:app
gunicorn 'app:create_app("hunter2only")' -w 2
gunicorn 'app:create_app("hunterletters")' -w 2
mkdir -p /var/run/gunicorn /var/log/nginx
chown nginx:nginx x
exec honcho start
gunicorn app:app -b 127.0.0.1:8000 &
exec nginx -g "daemon off;"
