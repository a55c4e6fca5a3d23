import os

for name, value in os.environ.items():
    if name.startswith("SURELY_NOT_SET_GUNICORN_"):
        locals()[name.split("_", 1)[1].lower()] = value

bind = "unix:/run/app/gunicorn.sock"
workers = 2
umask = 0o007
