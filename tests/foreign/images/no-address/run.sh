#!/bin/sh
python manage.py migrate
uwsgi --socket /run/app.sock --module site.wsgi
