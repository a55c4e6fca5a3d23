#!/bin/bash
export STARTED_BY=start.sh
service nginx start && uwsgi --ini /srv/site/site.ini
