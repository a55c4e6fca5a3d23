"""`python -m pyserve`: the command `pyserve` of this environment."""

import os
import shutil
import sys
import sysconfig


def _binary() -> str:
    """The installed command; that of this environment before any other on the path."""
    schemes = [sysconfig.get_path("scripts")]
    # Where `pip install --user` puts it.
    user = f"{os.name}_user"
    if user in sysconfig.get_scheme_names():
        schemes.append(sysconfig.get_path("scripts", user))
    for directory in schemes:
        path = os.path.join(directory, "pyserve")
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("pyserve")
    if found is None:
        sys.exit("pyserve: the command is not installed: pip install --force-reinstall pyserve-wsgi")
    return found


def main() -> None:
    """Replaces this process by the server, which runs the application with this interpreter."""
    binary = _binary()
    named = ("--python", "--venv")
    if not any(argument.split("=")[0] in named for argument in sys.argv[1:]) and not (
        os.environ.get("PYSERVE_PYTHON") or os.environ.get("PYSERVE_VENV")
    ):
        os.environ["PYSERVE_PYTHON"] = sys.executable
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
