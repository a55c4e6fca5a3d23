"""Tries a wheel with the interpreter that runs this file, in fresh virtual environments.

    python3 python/try_wheel.py WHEEL

1. The command and `python -m pyserve` serve the hello example, with the interpreter of the environment.
2. Alone in an environment, as pipx and uv install it, the command prefers `VIRTUAL_ENV`, then `./.venv`.
3. It contains the modules that applications may import, the binary, the man page and the completions, and nothing else.
4. `pip uninstall` removes every file.

It needs no network and no packages. Ends with 0, with 1 and the reason, or with 3 where the interpreter has no
`venv` or is too old.
"""

import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
DEADLINE = 60

APP = """
import sys
import {module}
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [sys.prefix.encode()]
"""
DOCUMENTS = [
    "share/man/man1/pyserve.1",
    "share/bash-completion/completions/pyserve",
    "share/zsh/site-functions/_pyserve",
    "share/fish/vendor_completions.d/pyserve.fish",
]
#: The package outside the server; the server contains its other modules.
PACKAGE = ["__init__.py", "__main__.py", "django_settings.py", "py.typed"]


def main():
    (wheel,) = sys.argv[1:]
    if sys.version_info < (3, 9):
        skip("it is older than 3.9")
    try:
        import ensurepip
        import venv
    except ImportError as error:
        skip(str(error))
    with tempfile.TemporaryDirectory(prefix="try-wheel-") as work:
        work = pathlib.Path(work)
        everything(pathlib.Path(wheel).resolve(), work)
    version = "%d.%d.%d" % sys.version_info[:3]
    print("%s (%s): serves, as a module too, alone as a tool, and leaves nothing behind" % (sys.executable, version))


def everything(wheel, work):
    env = work / "env"
    make_environment(env)
    before = files(env)
    pip(env, "install", "--no-index", wheel)
    packages = packages_of(env)
    installed = {name for name in files(env) - before if ".dist-info/" not in name}
    expected = {"bin/pyserve", *DOCUMENTS, *(str(packages.relative_to(env) / "pyserve" / name) for name in PACKAGE)}
    check(installed == expected, "it has other files than it should: %s" % sorted(installed ^ expected))
    for name in DOCUMENTS:
        check((env / name).is_file() and (env / name).stat().st_size > 500, "%s is there" % name)
    page = served(work, [env / "bin/pyserve", "--app", "hello.wsgi"], cwd=HERE / "examples")
    check(b"It works." in page, "the command serves the hello example")
    (work / "prefix.py").write_text(APP.format(module="os"))
    for command in [env / "bin/pyserve"], [env / "bin/python", "-m", "pyserve"]:
        page = served(work, [*command, "--app", "prefix.py"], cwd=work)
        check(page.decode() == str(env), "%s uses the interpreter of its environment: %s" % (command, page))
    outside = "import pyserve; assert pyserve.worker_id() is None; print(pyserve.__version__)"
    run(env / "bin/python", "-c", outside)
    as_tool(work, env)
    pip(env, "uninstall", "--yes", "pyserve-wsgi")
    left = sorted(files(env) - before)
    check(not left, "left behind: %s" % left)


def as_tool(work, tool):
    """`tool` contains pyserve and nothing else."""
    project = work / "project"
    active = work / "active"
    for env, module in [(project / ".venv", "in_project"), (active, "in_active")]:
        make_environment(env, "--without-pip")
        (packages_of(env) / (module + ".py")).write_text("")
        (project / (module + "_app.py")).write_text(APP.format(module=module))
    # As a link on the path, which pipx and uv make.
    link = work / "bin/pyserve"
    link.parent.mkdir()
    link.symlink_to(tool / "bin/pyserve")
    page = served(work, [link, "--app", "in_project_app.py"], cwd=project)
    check(page.decode() == str(project / ".venv"), "./.venv comes before the environment of a tool: %s" % page)
    page = served(work, [link, "--app", "in_active_app.py"], cwd=project, VIRTUAL_ENV=str(active))
    check(page.decode() == str(active), "VIRTUAL_ENV comes before ./.venv: %s" % page)


def served(work, command, cwd=None, **variables):
    """The page at / of a server that is started and stopped."""
    path = str(work / "socket")
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV" and not k.startswith("PYSERVE_")}
    environment.update(variables)
    command = [*map(str, command), "--bind", "unix:" + path, "--control", "off"]
    with open(work / "log", "w+") as log:
        server = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
        try:
            page = get(path, server)
            server.send_signal(signal.SIGTERM)
            code = server.wait(DEADLINE)
        finally:
            server.kill()
            server.wait()
        log.seek(0)
        text = log.read()
    check(page is not None and code == 0, "%s ended with %s: %s" % (command, code, text))
    return page


def get(path, server):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and server.poll() is None:
        connection = http.client.HTTPConnection("localhost", timeout=DEADLINE)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(path)
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read()
            if response.status == 200:
                return body
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    return None


def make_environment(directory, option=None):
    options = [option] if option else []
    run(sys.executable, "-m", "venv", *options, directory)


def packages_of(env):
    """Its site-packages."""
    return pathlib.Path(run(env / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def pip(env, *arguments):
    run(env / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def files(directory):
    """Everything below it but compiled code, which pip itself leaves."""
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if "__pycache__" not in path.parts and not path.is_dir()
    }


def run(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 0, "%s ended with %s: %s" % (command, done.returncode, done.stdout))
    return done.stdout


def check(holds, what):
    if not holds:
        sys.exit("%s: %s" % (sys.executable, what))


def skip(why):
    print("skipped: %s because %s" % (sys.executable, why), file=sys.stderr)
    sys.exit(3)


if __name__ == "__main__":
    main()
