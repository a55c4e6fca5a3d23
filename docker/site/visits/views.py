"""Counts visits in the database."""

from django.db import connection
from django.http import HttpRequest, HttpResponse

from .models import Visit

GREETING = "Hello"


def page(request: HttpRequest) -> HttpResponse:
    Visit.objects.create()
    count = Visit.objects.count()
    return HttpResponse(
        "<!doctype html><link rel=stylesheet href=/static/visits/site.css>"
        f"<p>{GREETING} from {connection.vendor}: visit {count}</p>\n"
    )
