"""URLs of the page and its actions."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    path("notes/", views.add_note, name="add_note"),
    path("documents/", views.upload, name="upload"),
    path("documents/<int:number>/", views.download, name="download"),
    path("visits/", views.visits, name="visits"),
    path("stream/", views.stream, name="stream"),
    path("api/", views.api, name="api"),
]
