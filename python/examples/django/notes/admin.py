"""The admin pages of notes and documents."""

from django.contrib import admin

from .models import Document, Note


@admin.register(Note)
class NoteAdmin(admin.ModelAdmin):
    list_display = ["text", "written"]
    search_fields = ["text"]


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    """Documents are uploaded through the page, which computes their size and hash; the admin shows and removes them."""

    list_display = ["name", "size", "sha256", "uploaded"]
    readonly_fields = ["file", "name", "size", "sha256"]

    def has_add_permission(self, request):
        return False
