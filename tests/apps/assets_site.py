"""A Django project in one file: its directories are named by environment variables."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="of the tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.staticfiles"],
    STATIC_URL=os.environ.get("ASSETS_URL", "/assets/"),
    STATIC_ROOT=os.environ["COLLECTED"],
    STATICFILES_DIRS=[os.environ["SOURCES"], ("below", os.environ["SOURCES"])],
    MEDIA_URL="/media/",
    MEDIA_ROOT=os.environ["MEDIA"],
)
urlpatterns = [path("", lambda request: HttpResponse("app"))]
application = get_wsgi_application()
