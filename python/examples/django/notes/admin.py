"""How the admin lists notes and documents."""

from django.contrib import admin

from .models import Document, Note


@admin.register(Note)
class NoteAdmin(admin.ModelAdmin):
    list_display = ["text", "written"]
    search_fields = ["text"]


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    """Documents come in through the page, which measures them; here they can be read and removed."""

    list_display = ["name", "size", "sha256", "uploaded"]
    readonly_fields = ["file", "name", "size", "sha256"]

    def has_add_permission(self, request):
        return False
