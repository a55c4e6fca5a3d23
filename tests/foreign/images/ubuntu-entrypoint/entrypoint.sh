#!/bin/bash
set -e

# Wait for the database
until nc -z "$DB_HOST" 5432; do sleep 1; done
python3 manage.py migrate --noinput
python3 manage.py collectstatic --noinput
cat > /etc/motd <<EOF
uwsgi --ini is not started here
EOF
service cron start
service nginx start
if [ "$DEBUG" = 1 ]; then
    python3 manage.py runserver 0.0.0.0:8000
else
    exec uwsgi --http 127.0.0.1:8000 --module mysite.wsgi \
        --master --processes ${WORKERS:-4} --harakiri 30
fi
