"""A small site in containers: the environment gives what differs between development and production."""

from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "of the example: set SECRET_KEY or SECRET_KEY_FILE"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.staticfiles", "visits"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
MEDIA_ROOT = BASE_DIR / "media"
USE_TZ = True

# DATABASE_URL, SECRET_KEY, ALLOWED_HOSTS, STATIC_ROOT, ... where they are set.
from pyserve.django_settings import *  # noqa: E402, F403
