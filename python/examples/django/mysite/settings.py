"""Settings of the example: production's defaults, reachable from this machine only.

These may be set in the environment:

    EXAMPLE_DATABASE   file of the database          (db.sqlite3)
    EXAMPLE_MEDIA      directory of uploaded files   (media)
    EXAMPLE_STATIC     where collectstatic writes    (static)
    EXAMPLE_HOSTS      host names, with commas       (localhost and loopback)
    DJANGO_SECRET_KEY  signs sessions; set your own wherever others can reach the site
    DJANGO_DEBUG       1 shows tracebacks in the browser
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "django-insecure-known-to-every-reader-of-this-example")
ALLOWED_HOSTS = os.environ.get("EXAMPLE_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "notes",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_DATABASE", BASE_DIR / "db.sqlite3"),
        # Seconds that a worker keeps its connection for the next request.
        "CONN_MAX_AGE": 60,
        # Seconds that it waits for the write of another worker.
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The server sends /static from here, without Python.
STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("EXAMPLE_STATIC", BASE_DIR / "static")
# Uploads are served by a view only, never from a public directory.
MEDIA_ROOT = os.environ.get("EXAMPLE_MEDIA", BASE_DIR / "media")

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# With DEBUG off Django mails errors; here they go to the server's log.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False}},
}
