#!/bin/sh
set -e
cat >/etc/nginx/nginx.conf <<FILE
user nginx;
worker_processes $NGINX_WORKER_PROCESSES;
error_log /var/log/nginx/error.log warn;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
daemon off;
FILE
echo "client_max_body_size $NGINX_MAX_UPLOAD;" >/etc/nginx/conf.d/upload.conf
cat >/etc/nginx/conf.d/nginx.conf <<FILE
server {
    listen $LISTEN_PORT;
    location / { try_files \$uri @app; }
    location @app {
        include uwsgi_params;
        uwsgi_pass unix:///tmp/uwsgi.sock;
    }
    location $STATIC_URL { alias $STATIC_PATH; }
}
FILE
[ ! -f /app/nginx.conf ] || cp /app/nginx.conf /etc/nginx/nginx.conf
exec "$@"
