#!/bin/bash
if [[ $1 == web ]]; then
  python manage.py migrate && exec uwsgi --ini uwsgi.ini --http-socket 0.0.0.0:$PORT
elif [[ $1 == celery ]]; then
  celery -A a worker
fi
/usr/sbin/nginx -g "daemon off;" &
uwsgi --socket :8001 --module a.wsgi --enable-threads --die-on-term --uid www-data
$(which uwsgi) --ini x.ini
