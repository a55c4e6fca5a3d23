from pathlib import Path

SECRET_KEY = "for tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django.contrib.staticfiles"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
STATIC_URL = "/static/"
STATIC_ROOT = Path("/srv/shop/collected")
STATICFILES_DIRS = [Path(__file__).parent.parent / "static"]
WSGI_APPLICATION = "shop.wsgi.application"
