"""The verbs `deploy`, `test` and `shell`: run by the interpreter of the application, in its directory.

Arguments: the verb, the application as the settings name it, and what the command gets.
"""

import importlib.util
import os
import runpy
import sys
from typing import List


def manage(*words: str) -> None:
    """Runs manage.py in this process; it exits if the command fails."""
    sys.argv = ["manage.py", *words]
    runpy.run_path("manage.py", run_name="__main__")


def deploy(words: List[str]) -> None:
    """Checks the project, migrates its database, and collects its static files."""
    if not os.path.isfile("manage.py"):
        sys.exit(
            "pyserve: nothing to deploy in %s: no manage.py of Django, and no `release:` line in a Procfile" % os.getcwd()
        )
    manage("check")
    from django.conf import settings

    engine = settings.DATABASES.get("default", {}).get("ENGINE", "")
    if engine and not engine.endswith(".dummy"):
        manage("migrate", "--noinput", *words)
    if "django.contrib.staticfiles" in settings.INSTALLED_APPS and settings.STATIC_ROOT:
        manage("collectstatic", "--noinput")


def test(words: List[str]) -> None:
    """Runs the tests of Django, else pytest where it is installed, else unittest."""
    if os.path.isfile("manage.py"):
        return manage("test", *words)
    runner = "pytest" if importlib.util.find_spec("pytest") else "unittest"
    sys.argv = [runner, *words]
    runpy.run_module(runner, run_name="__main__", alter_sys=True)


def shell(app: str, words: List[str]) -> None:
    """Replaces this process by an interactive Python."""
    if os.path.isfile("manage.py"):
        command = ["manage.py", "shell", *words]
    elif is_flask(app):
        command = ["-m", "flask", "--app", app, "shell", *words]
    else:
        command = ["-i", *(words or ["-c", import_line(app)])]
    os.execv(sys.executable, [sys.executable, *command])


def is_flask(app: str) -> bool:
    """True if Flask is installed and finds an application of its own."""
    if not importlib.util.find_spec("flask"):
        return False
    from flask.cli import NoAppException, ScriptInfo

    try:
        ScriptInfo(app_import_path=app).load_app()
    except NoAppException:
        return False
    return True


def import_line(app: str) -> str:
    """The line that gives a plain shell the names of `FILE.py:NAME`, `MODULE:NAME` or `MODULE`."""
    module, _, name = app.partition(":")
    if module.endswith(".py"):
        return "import runpy; globals().update(runpy.run_path(%r, run_name=%r))" % (module, "pyserve_shell")
    return "from %s import %s" % (module, name) if name.isidentifier() else "import %s" % module


def main() -> None:
    verb, app, *words = sys.argv[1:]
    # As `python manage.py` has it: the directory of the application comes first.
    sys.path[0] = os.getcwd()
    if verb == "deploy":
        deploy(words)
    elif verb == "test":
        test(words)
    else:
        shell(app, words)


if __name__ == "__main__":
    main()
