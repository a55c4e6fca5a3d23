"""Makes a wheel around a binary that is there, as maturin lays it out, and adds the documents.

    python3 tests/wheel/around.py BINARY DIRECTORY VERSION
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "python"))
sys.dont_write_bytecode = True

import build_backend  # noqa: E402

METADATA = "Metadata-Version: 2.4\nName: pyserve-wsgi\nVersion: %s\nRequires-Python: >=3.9\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: py3-none-any\n"


def main():
    binary, directory, version = sys.argv[1:]
    name = "pyserve_wsgi-%s" % version
    wheel = pathlib.Path(directory, name + "-py3-none-any.whl")
    files = {"pyserve/" + part: (TOP / "python/pyserve" / part).read_bytes() for part in packed()}
    files[name + ".data/scripts/pyserve"] = stripped(binary)
    files[name + ".dist-info/METADATA"] = (METADATA % version).encode()
    files[name + ".dist-info/WHEEL"] = WHEEL.encode()
    record = name + ".dist-info/RECORD"
    lines = ["%s,sha256=%s,%d" % (path, build_backend.digest(data), len(data)) for path, data in files.items()]
    files[record] = "\n".join([*lines, record + ",,", ""]).encode()
    with zipfile.ZipFile(wheel, "w") as out:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            out.writestr(entry, data, zipfile.ZIP_DEFLATED, 1)
    build_backend.add_documents(wheel)
    print(wheel)


def packed():
    """The files of the package that pyproject.toml does not exclude, by the names there."""
    project = (TOP / "python/pyproject.toml").read_text()
    excluded = re.findall('path = "pyserve/([^"]*)", format = "wheel"', project)
    names = sorted(path.name for path in (TOP / "python/pyserve").iterdir() if path.is_file())
    return [name for name in names if name not in excluded]


def stripped(binary):
    if shutil.which("strip") is None:
        return pathlib.Path(binary).read_bytes()
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["strip", "-o", out.name, binary], check=True)
        return pathlib.Path(out.name).read_bytes()


if __name__ == "__main__":
    main()
