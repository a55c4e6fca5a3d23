"""A page with two forms; uploads, downloads, a session, a stream and some JSON."""

import hashlib
import os
import time

from django.contrib import messages
from django.http import FileResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from .forms import DocumentForm, NoteForm
from .models import Document, Note

SHOWN = 10


@require_safe
def index(request):
    return page(request, NoteForm(), DocumentForm())


@require_POST
def add_note(request):
    form = NoteForm(request.POST)
    if not form.is_valid():
        return page(request, form, DocumentForm(), status=400)
    form.save()
    messages.success(request, "The note is saved.")
    return redirect("index")


@require_POST
def upload(request):
    """Stores one file; responds with a redirect, or with JSON if ``Accept`` asks for it."""
    form = DocumentForm(request.POST, request.FILES)
    wants_json = request.headers.get("Accept") == "application/json"
    if not form.is_valid():
        if wants_json:
            return JsonResponse({"errors": form.errors}, status=400)
        return page(request, NoteForm(), form, status=400)
    document = store(form.cleaned_data["file"])
    if wants_json:
        return JsonResponse(as_json(document), status=201)
    messages.success(request, f"{document.name}: {document.size} bytes, SHA-256 {document.sha256}")
    return redirect("index")


def store(file):
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return Document.objects.create(file=file, name=file.name, size=file.size, sha256=digest.hexdigest())


@require_safe
def download(request, number):
    document = get_object_or_404(Document, pk=number)
    return FileResponse(document.file.open("rb"), as_attachment=True, filename=document.name)


@require_safe
def visits(request):
    """Counts the visits of this browser in its session."""
    count = request.session.get("visits", 0) + 1
    request.session["visits"] = count
    return JsonResponse({"visits": count})


@require_safe
def stream(request):
    """Some lines with a pause before each; ``?pieces=5&pause_ms=300``."""
    pieces = bounded(request.GET.get("pieces", ""), 5, 50)
    pause = bounded(request.GET.get("pause_ms", ""), 300, 2000) / 1000
    return StreamingHttpResponse(produce(pieces, pause), content_type="text/plain; charset=utf-8")


def produce(pieces, pause):
    for number in range(1, pieces + 1):
        time.sleep(pause)
        yield f"piece {number} of {pieces} from process {os.getpid()}\n"


@require_safe
def api(request):
    return JsonResponse({"pid": os.getpid(), "notes": Note.objects.count(), "documents": Document.objects.count()})


def page(request, note_form, document_form, status=200):
    context = {
        "note_form": note_form,
        "document_form": document_form,
        "notes": Note.objects.all()[:SHOWN],
        "documents": Document.objects.all()[:SHOWN],
        "pid": os.getpid(),
    }
    return render(request, "notes/index.html", context, status=status)


def as_json(document):
    return {
        "id": document.pk,
        "name": document.name,
        "size": document.size,
        "sha256": document.sha256,
        "url": reverse("download", args=[document.pk]),
    }


def bounded(text, default, most):
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 9 else default
