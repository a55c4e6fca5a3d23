"""The build backend (PEP 517): maturin, with two additions.

- Wheels have the man page and the completions, which the built binary prints.
- The sdist has the whole workspace: the host, which the binary contains, is no dependency of it, so neither cargo
  nor maturin would pack it. Its crates are locked; with the setting `vendor=yes` it contains them as well, and
  builds without a network and without a registry.

    python3 python/build_backend.py documents WHEEL [BINARY]   adds them; BINARY runs here, where the wheel's cannot
    python3 python/build_backend.py sdist DIRECTORY [vendor]   needs maturin on the path
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

TOP = pathlib.Path(__file__).resolve().parent.parent

#: Arguments of the binary, and where the text goes below the prefix of an environment.
DOCUMENTS = [
    (["man"], "share/man/man1/pyserve.1"),
    (["completions", "bash"], "share/bash-completion/completions/pyserve"),
    (["completions", "zsh"], "share/zsh/site-functions/_pyserve"),
    (["completions", "fish"], "share/fish/vendor_completions.d/pyserve.fish"),
]


def get_requires_for_build_wheel(config_settings=None):
    import maturin

    return maturin.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_sdist(config_settings=None):
    import maturin

    return maturin.get_requires_for_build_sdist(config_settings)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    import maturin

    return maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import maturin

    name = maturin.build_wheel(wheel_directory, config_settings, metadata_directory)
    add_documents(pathlib.Path(wheel_directory, name), os.environ.get("PYSERVE_DOCUMENTS_BY"))
    return name


def build_sdist(sdist_directory, config_settings=None):
    vendored = (config_settings or {}).get("vendor") == "yes"
    with tempfile.TemporaryDirectory() as work:
        return write_sdist(pathlib.Path(sdist_directory), pathlib.Path(work), vendored)


#: Settings of pyproject.toml that name files, in python/ of a checkout and at the top of an sdist.
MOVED = [
    ('backend-path = ["."]', 'backend-path = ["python"]'),
    ('readme = "README.md"', 'readme = "python/README.md"'),
    ('manifest-path = "../Cargo.toml"', 'manifest-path = "Cargo.toml"'),
    ('python-source = "."', 'python-source = "python"'),
    ('path = "pyserve/', 'path = "python/pyserve/'),
]
#: A build with the crates of `vendor/`.
VENDORED = """
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"
"""


def write_sdist(directory, work, vendored):
    metadata = dist_info(work)
    version = next(line[9:] for line in metadata.splitlines() if line.startswith("Version: "))
    name = "pyserve_wsgi-%s" % version
    files = {path: (TOP / path).read_bytes() for path in sources()}
    project = (TOP / "python/pyproject.toml").read_text()
    for here, there in MOVED:
        if here not in project:
            raise SystemExit("build_backend.py: pyproject.toml does not have %s" % here)
        project = project.replace(here, there)
    files["pyproject.toml"] = project.encode()
    files["PKG-INFO"] = metadata.encode()
    if vendored:
        files.update(vendor(work / "vendor"))
        files[".cargo/config.toml"] = VENDORED.encode()
        name += "-vendored"
    pack(directory / (name + ".tar.gz"), name, files)
    return name + ".tar.gz"


def dist_info(work):
    """The text of METADATA."""
    info = work / "info"
    info.mkdir()
    command = ["maturin", "pep517", "write-dist-info", "--metadata-directory", str(info), "--interpreter", sys.executable]
    subprocess.run(command, cwd=TOP / "python", stdout=subprocess.DEVNULL, check=True)
    (metadata,) = info.glob("*.dist-info/METADATA")
    return metadata.read_text()


def sources():
    """All files of the source tree, as git knows them."""
    command = ["git", "ls-files", "-z", "--cached"]
    done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, check=True)
    return sorted(path for path in done.stdout.decode().split("\0") if path and (TOP / path).is_file())


def vendor(directory):
    """The files of all crates. Those that no build for Linux compiles have no code."""
    subprocess.run(
        ["cargo", "vendor", "--locked", "--quiet", str(directory)], cwd=TOP, stdout=subprocess.DEVNULL, check=True
    )
    used = {name for target in TARGETS for name in used_crates(target)}
    files = {}
    for crate in sorted(directory.iterdir()):
        about = json.loads((crate / ".cargo-checksum.json").read_text())
        manifest = (crate / "Cargo.toml").read_text()
        if package_id(manifest) in used:
            for path in crate.rglob("*"):
                if path.is_file():
                    files["vendor/%s/%s" % (crate.name, path.relative_to(crate))] = path.read_bytes()
            continue
        # The manifest is needed to resolve the dependencies.
        about["files"] = {}
        files["vendor/%s/Cargo.toml" % crate.name] = manifest.encode()
        files["vendor/%s/src/lib.rs" % crate.name] = b""
        files["vendor/%s/.cargo-checksum.json" % crate.name] = json.dumps(about).encode()
    return files


#: The targets for which a vendored sdist has code.
TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]


def used_crates(target):
    """Name and version of the crates that a build, its build scripts and macros compile."""
    command = ["cargo", "tree", "--locked", "--workspace", "--edges", "normal,build", "--prefix", "none"]
    command += ["--format", "{p}", "--target", target, "--no-dedupe"]
    done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, check=True)
    words = [line.split() for line in done.stdout.decode().splitlines() if line]
    return {(word[0], word[1].lstrip("v")) for word in words}


def package_id(manifest):
    section = manifest.split("[package]", 1)[1]
    fields = dict(line.split(" = ", 1) for line in section.split("\n[")[0].splitlines() if " = " in line)
    return fields["name"].strip('"'), fields["version"].strip('"')


def pack(archive, top, files):
    """The same files give the same bytes."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "1577836800"))
    with open(archive, "wb") as out, gzip.GzipFile("", "wb", 9, out, epoch) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(files):
                entry = tarfile.TarInfo("%s/%s" % (top, path))
                entry.size = len(files[path])
                entry.mtime = epoch
                is_script = path.endswith(".sh") or files[path].startswith(b"#!/")
                entry.mode = 0o755 if is_script else 0o644
                tar.addfile(entry, io.BytesIO(files[path]))


def add_documents(wheel, binary=None):
    """Adds the documents to a wheel; `binary` prints them, by default the wheel's own."""
    with zipfile.ZipFile(wheel) as old:
        entries = [(entry, old.read(entry)) for entry in old.infolist()]
    (scripts,) = [entry.filename for entry, _ in entries if entry.filename.endswith(".data/scripts/pyserve")]
    (record,) = [entry.filename for entry, _ in entries if entry.filename.endswith(".dist-info/RECORD")]
    base = scripts[: -len("scripts/pyserve")] + "data/"
    with tempfile.TemporaryDirectory() as work:
        if binary is None:
            binary = os.path.join(work, "pyserve")
            with open(binary, "wb") as file:
                file.write(dict((entry.filename, data) for entry, data in entries)[scripts])
            os.chmod(binary, 0o755)
        new = [(base + path, printed_by(binary, arguments)) for arguments, path in DOCUMENTS]
    template = next(entry for entry, _ in entries if entry.filename == record)
    names = {name for name, _ in new}
    lines = dict((entry.filename, data) for entry, data in entries)[record].decode().splitlines()
    lines = [line for line in lines if line.split(",")[0] not in names and not line.startswith(record + ",")]
    lines += ["%s,sha256=%s,%d" % (name, digest(data), len(data)) for name, data in new] + [record + ",,"]
    temporary = wheel.with_name(wheel.name + ".new")
    with smallest_deflate(), zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for entry, data in entries:
            if entry.filename not in names and entry.filename != record:
                out.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
        for name, data in [*new, (record, ("\n".join(lines) + "\n").encode())]:
            entry = zipfile.ZipInfo(name, template.date_time)
            entry.external_attr = 0o100644 << 16
            out.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
    os.replace(temporary, wheel)


@contextlib.contextmanager
def smallest_deflate():
    """Lets zipfile compress by zopfli, if that is installed: the same format, 3 % smaller, in a minute."""
    try:
        from zopfli.zlib import compress
    except ImportError:
        yield
        return

    class Compressor:
        def __init__(self):
            self.data = bytearray()

        def compress(self, data):
            self.data += data
            return b""

        def flush(self):
            # Without the head and the checksum of zlib (RFC 1950).
            return compress(bytes(self.data))[2:-4]

    usual = zipfile._get_compressor
    zipfile._get_compressor = lambda *_kind_and_level: Compressor()
    try:
        yield
    finally:
        zipfile._get_compressor = usual


def printed_by(binary, arguments):
    return subprocess.run([binary, *arguments], stdout=subprocess.PIPE, check=True).stdout


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "documents":
        add_documents(pathlib.Path(arguments[0]), *arguments[1:])
    else:
        setting = {"vendor": "yes"} if arguments[1:] == ["vendor"] else None
        print(build_sdist(arguments[0], setting))
