from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "of the recipe"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.staticfiles"]
ROOT_URLCONF = "mysite.urls"
STATICFILES_DIRS = [BASE_DIR / "assets"]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
