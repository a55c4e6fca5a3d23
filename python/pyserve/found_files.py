"""Finds the files of a loaded Django project that a web server should serve.

The host runs `found_files` after the import. It uses only loaded modules; with another framework it
costs one dictionary lookup.
"""

import os
import sys


def found_files(static, media, dev, mount):
    """Rows of URL prefix, directory and source; of equal prefixes the first one that has a file serves it.

    `static` and `media` select the kinds, `dev` puts the sources before the collected files, `mount` is the
    SCRIPT_NAME of requests.
    """
    module = sys.modules.get("django.conf")
    settings = getattr(module, "settings", None)
    if settings is None or not settings.configured:
        return []
    _set_script_prefix(settings, mount)
    rows = []
    if static:
        rows += _static(settings, dev)
    if media:
        rows += _row(settings, "MEDIA_URL", "MEDIA_ROOT")
    return rows


def _set_script_prefix(settings, mount):
    """Sets the script prefix of requests: Django makes each relative URL of the settings absolute at its first
    read, and caches the result."""
    forced = getattr(settings, "FORCE_SCRIPT_NAME", None)
    name = mount if forced is None else forced
    if name:
        from django.urls import set_script_prefix

        set_script_prefix(name)


def _static(settings, dev):
    collected = _row(settings, "STATIC_URL", "STATIC_ROOT")
    if collected and not dev:
        return collected
    # Nothing is collected yet, or the sources are being edited.
    return _sources(settings) + collected


def _row(settings, url_name, root_name):
    prefix = _prefix(getattr(settings, url_name, None))
    root = getattr(settings, root_name, None)
    if not prefix or not root or not os.path.isdir(root):
        return []
    return [(prefix, os.path.abspath(root), root_name)]


def _sources(settings):
    prefix = _prefix(getattr(settings, "STATIC_URL", None))
    if not prefix or "django.contrib.staticfiles" not in settings.INSTALLED_APPS:
        return []
    from django.contrib.staticfiles import finders

    rows = []
    for finder in finders.get_finders():
        for below, directory in _directories(finder):
            if os.path.isdir(directory):
                where = prefix + "/" + below.strip("/") if below else prefix
                rows.append((where, os.path.abspath(directory), "staticfiles finders"))
    return rows


def _directories(finder):
    """Pairs of prefix and directory."""
    # FileSystemFinder keeps one storage for each directory, even if it has several prefixes.
    pairs = getattr(finder, "locations", None)
    if pairs is not None:
        return pairs
    storages = getattr(finder, "storages", {}).values()
    located = [storage for storage in storages if getattr(storage, "location", None)]
    return [(getattr(storage, "prefix", None), storage.location) for storage in located]


def _prefix(url):
    """The path of a URL setting without its trailing slash; None for another host or the whole site."""
    if not url or not url.startswith("/") or url.startswith("//"):
        return None
    return url.rstrip("/") or None
