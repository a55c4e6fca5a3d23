"""Settings of Django from the environment of a container. Optional: pyserve itself never imports this module.

All of them, with the defaults below, at the end of `settings.py`:

    from pyserve.django_settings import *

or one by one:

    from pyserve import django_settings as env

    DATABASES = {"default": env.database("sqlite:///db.sqlite3")}
    LOGGING = env.logging()

========================  ==============================================================================
variable                  setting
========================  ==============================================================================
DB_DEFAULT_URL,           DATABASES["default"]; `DB_NAME_URL` is DATABASES["name"]. With CONN_MAX_AGE and
DATABASE_URL              CONN_HEALTH_CHECKS, as `?conn_max_age=60` gives another age
SECRET_KEY                SECRET_KEY; or the file named by SECRET_KEY_FILE, as secrets are mounted
ALLOWED_HOSTS             ALLOWED_HOSTS, between commas
CSRF_TRUSTED_ORIGINS      CSRF_TRUSTED_ORIGINS, between commas
DEBUG                     DEBUG
LOG_LEVEL                 level of LOGGING, which goes to standard output
STATIC_URL, STATIC_ROOT   the same; pyserve serves STATIC_ROOT without a setting. A URL gets its last slash
MEDIA_URL, MEDIA_ROOT     the same
USE_X_FORWARDED_HOST      the same: only behind a proxy that overwrites X-Forwarded-Host
SECURE_PROXY_SSL_HEADER   `yes`: believe X-Forwarded-Proto, which pyserve removes unless the peer is in --trust
========================  ==============================================================================

A variable that is not set leaves Django's own default, except for LOGGING. `NAME_FILE` names a file with the value
of `NAME` for DB_DEFAULT_URL, DATABASE_URL and SECRET_KEY.
"""

import os
import urllib.parse
from typing import Any, Dict, List, Optional, Tuple

__all__: List[str] = []

#: Engines by the scheme of a URL.
ENGINES: Dict[str, str] = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "psql": "django.db.backends.postgresql",
    "postgis": "django.contrib.gis.db.backends.postgis",
    "mysql": "django.db.backends.mysql",
    "mariadb": "django.db.backends.mysql",
    "sqlite": "django.db.backends.sqlite3",
    "sqlite3": "django.db.backends.sqlite3",
    "oracle": "django.db.backends.oracle",
}


def variable(name: str) -> Optional[str]:
    """The value of a variable; without one, the content of the file that `NAME_FILE` names."""
    value = os.environ.get(name)
    if value:
        return value
    path = os.environ.get(name + "_FILE")
    if path:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    return None


def flag(name: str, default: bool = False) -> bool:
    """True for `1`, `yes`, `true` and `on`; `default` where the variable is not set.

    Raises ValueError for anything but these and `0`, `no`, `false`, `off`.
    """
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in ("1", "yes", "true", "on"):
        return True
    if value in ("0", "no", "false", "off"):
        return False
    raise ValueError("%s=%s: give yes or no" % (name, value))


def listed(name: str) -> List[str]:
    """The parts of a variable between commas."""
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def parse(url: str) -> Dict[str, Any]:
    """The entry of DATABASES for a URL such as `postgres://user:password@host:5432/name?sslmode=require`.

    Special characters of the user, the password and the name are percent-encoded. `sqlite:///name.db` is relative,
    `sqlite:////data/name.db` absolute, `sqlite://:memory:` in memory. Parameters in upper or lower case that Django
    has as keys (`conn_max_age`, `atomic_requests`) become these; all others go to OPTIONS.

    Raises ValueError for an unknown scheme, a port that is no number, and a raw `#` or `@` behind the host: with a
    raw `/`, `?` or `#` in the password, its beginning would be the port and the user the host.
    """
    scheme, colon, rest = url.partition("://")
    engine = ENGINES.get(scheme.lower()) if colon else None
    if engine is None:
        # The URL itself has a password.
        raise ValueError("the database URL has no scheme among %s" % ", ".join(sorted(ENGINES)))
    if engine.endswith("sqlite3"):
        path, _, query = rest.partition("?")
        name = ":memory:" if path in ("", ":memory:", "/:memory:") else path[1:] if path.startswith("/") else path
        return _with_parameters({"ENGINE": engine, "NAME": urllib.parse.unquote(name)}, query)
    # RFC 3986, section 3.2: the authority ends at the first of these.
    end = next((at for at, character in enumerate(rest) if character in "/?#"), len(rest))
    authority, behind = rest[:end], rest[end:]
    for character in "#@":
        if character in behind:
            raise ValueError(
                "the database URL has a raw %s behind its host: percent-encode special characters of the user, the"
                " password, the name and parameters (/ is %%2F, ? is %%3F, # is %%23, @ is %%40)" % character
            )
    path, _, query = behind.partition("?")
    userinfo, _, place = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    host, port = _host_and_port(place)
    entry = {
        "ENGINE": engine,
        "NAME": urllib.parse.unquote(path[1:]),
        "USER": urllib.parse.unquote(user),
        "PASSWORD": urllib.parse.unquote(password),
        "HOST": host,
        "PORT": port,
    }
    return _with_parameters(entry, query)


def _host_and_port(place: str) -> Tuple[str, str]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = place.partition(":")
    if (colon and colon != ":") or (port and not (port.isascii() and port.isdigit() and int(port) <= 65535)):
        raise ValueError("the port of the database URL is no number up to 65535")
    # A socket's directory, as in postgres://%2Fvar%2Frun%2Fpostgresql/name.
    host = urllib.parse.unquote(host) if "%" in host else host.lower()
    return host, str(int(port)) if port.strip("0") else ""


#: Keys of DATABASES that a parameter may set, and their types.
_KEYS: Dict[str, type] = {
    "ATOMIC_REQUESTS": bool,
    "AUTOCOMMIT": bool,
    "CONN_HEALTH_CHECKS": bool,
    "CONN_MAX_AGE": int,
    "DISABLE_SERVER_SIDE_CURSORS": bool,
    "TIME_ZONE": str,
}


def _with_parameters(entry: Dict[str, Any], query: str) -> Dict[str, Any]:
    options: Dict[str, Any] = {}
    for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
        kind = _KEYS.get(name.upper())
        if kind is None:
            options[name] = text
        elif kind is bool:
            entry[name.upper()] = text.lower() in ("1", "yes", "true", "on")
        elif name.upper() == "CONN_MAX_AGE" and text.lower() == "none":
            entry["CONN_MAX_AGE"] = None
        else:
            entry[name.upper()] = kind(text)
    if options:
        entry["OPTIONS"] = options
    return entry


def database(default: Optional[str] = None, name: str = "default") -> Optional[Dict[str, Any]]:
    """The entry `name` of DATABASES: by `DB_NAME_URL`, for `default` also by DATABASE_URL, else by the URL `default`.

    Connections to servers stay open for a minute, and are checked when they are used again.
    """
    url = variable("DB_%s_URL" % name.upper())
    if url is None and name == "default":
        url = variable("DATABASE_URL")
    url = url or default
    if url is None:
        return None
    entry = parse(url)
    if not entry["ENGINE"].endswith("sqlite3"):
        entry.setdefault("CONN_MAX_AGE", 60)
        entry.setdefault("CONN_HEALTH_CHECKS", True)
    return entry


def databases() -> Dict[str, Dict[str, Any]]:
    """DATABASES by all variables `DB_*_URL`, and DATABASE_URL."""
    found: Dict[str, Dict[str, Any]] = {}
    names = ["default"]
    for key in sorted(os.environ):
        key = key[: -len("_FILE")] if key.endswith("_FILE") else key
        if key.startswith("DB_") and key.endswith("_URL") and len(key) > len("DB__URL"):
            names.append(key[len("DB_") : -len("_URL")].lower())
    for name in names:
        entry = database(name=name)
        if entry is not None:
            found[name] = entry
    return found


def logging(level: Optional[str] = None) -> Dict[str, Any]:
    """LOGGING: everything goes to standard output, one line for each record, from LOG_LEVEL or INFO on.

    Errors of requests are among it in production too, where Django itself would only send mail.
    """
    level = (level or os.environ.get("LOG_LEVEL") or "INFO").upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "line"},
        },
        "root": {"handlers": ["stdout"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": level, "propagate": True},
            # The development server's own lines have a form of their own.
            "django.server": {"handlers": ["stdout"], "level": level, "propagate": False},
        },
    }


def secure_proxy_header() -> Optional[Tuple[str, str]]:
    """SECURE_PROXY_SSL_HEADER, if the variable of that name is `yes`."""
    return ("HTTP_X_FORWARDED_PROTO", "https") if flag("SECURE_PROXY_SSL_HEADER") else None


def settings() -> Dict[str, Any]:
    """All settings that the environment gives, by their names."""
    found: Dict[str, Any] = {"LOGGING": logging()}
    entries = databases()
    if entries:
        found["DATABASES"] = entries
    secret = variable("SECRET_KEY")
    if secret:
        found["SECRET_KEY"] = secret
    for name in ("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS"):
        if os.environ.get(name):
            found[name] = listed(name)
    for name in ("DEBUG", "USE_X_FORWARDED_HOST"):
        if os.environ.get(name):
            found[name] = flag(name)
    for name in ("STATIC_ROOT", "MEDIA_ROOT"):
        if os.environ.get(name):
            found[name] = os.environ[name]
    for name in ("STATIC_URL", "MEDIA_URL"):
        url = os.environ.get(name, "").strip()
        if url:
            # Django refuses to start without the slash, which the variables of other images lack.
            found[name] = url if url.endswith("/") else url + "/"
    header = secure_proxy_header()
    if header:
        found["SECURE_PROXY_SSL_HEADER"] = header
    return found


# For `from pyserve.django_settings import *`: exactly what the environment gives.
_settings = settings()
globals().update(_settings)
__all__ += list(_settings)
