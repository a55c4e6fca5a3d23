"""Asks a loaded Django project which files a web server is to serve for it.

The host runs `found_files` after the import. It looks only at what is loaded already; another framework
costs one dictionary look-up.
"""

import os
import sys


def found_files(static, media, dev, mount):
    """Rows of URL prefix, directory, and what named it; of equal prefixes the first that has a file serves it.

    `static` and `media` say which of the two are wanted, `dev` that the sources come before what was collected,
    `mount` what SCRIPT_NAME will be.
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
    """Has relative URLs of settings begin as they will in requests: Django makes each absolute once, when it is
    first read, and keeps that."""
    forced = getattr(settings, "FORCE_SCRIPT_NAME", None)
    name = mount if forced is None else forced
    if name:
        from django.urls import set_script_prefix

        set_script_prefix(name)


def _static(settings, dev):
    collected = _row(settings, "STATIC_URL", "STATIC_ROOT")
    if collected and not dev:
        return collected
    # Nothing is collected yet, or somebody works on the sources.
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
    """The path of a URL setting without its last slash; None for another host or the whole site."""
    if not url or not url.startswith("/") or url.startswith("//"):
        return None
    return url.rstrip("/") or None
