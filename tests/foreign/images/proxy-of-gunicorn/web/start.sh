#!/bin/sh
exec gunicorn mysite:application -b 0.0.0.0:8000
