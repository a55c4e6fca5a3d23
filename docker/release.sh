#!/usr/bin/env bash
# Makes the files of a release from a tag, in a clean checkout of it:
#
#   docker/release.sh [--dry-run] [--out DIR] [--target TRIPLE]... vX.Y.Z
#
#   archives    pyserve-X.Y.Z-TRIPLE.tar.gz: binary, man page, completions, licence
#   wheels      pyserve_wsgi-X.Y.Z-py3-none-manylinux2014_*.manylinux_2_17_*.whl
#   sources     pyserve_wsgi-X.Y.Z.tar.gz, for the package index; with -vendored, it has all crates inside
#   SBOMs       pyserve-X.Y.Z-TRIPLE.cdx.json
#   notes.md    the section of CHANGELOG.md
#   images.txt  the tags of the images, one on each line
#   SHA256SUMS
#
# Binaries run on glibc 2.17 or newer. --dry-run checks tag, versions and changelog, writes what needs no
# compiler (SBOMs, notes, tags), lists the other files in files.txt, and builds nothing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null

GLIBC=2.17
# The versions of Python whose slim images get a tag of their own; the plain tags have that of docker/Dockerfile.
PYTHONS=(3.14 3.15 3.13 3.12 3.11 3.10)
targets=()
out=
dry=
tag=

main() {
    while [ $# -gt 0 ]; do
        case $1 in
        --dry-run) dry=yes ;;
        --out) out=${2:?a directory} && shift ;;
        --target) targets+=("${2:?a target}") && shift ;;
        -*) usage ;;
        *) [ -z "$tag" ] || usage && tag=$1 ;;
        esac
        shift
    done
    [ -n "$tag" ] || usage
    [ ${#targets[@]} -gt 0 ] || targets=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu)
    version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
    out=$(realpath -m "${out:-target/release-$version}")
    check_release
    rm -rf "$out"
    mkdir -p "$out"
    notes >"$out/notes.md"
    image_tags >"$out/images.txt"
    for target in "${targets[@]}"; do
        python3 docker/sbom.py "$target" >"$out/pyserve-$version-$target.cdx.json"
    done
    if [ -n "$dry" ]; then
        built_files >"$out/files.txt"
        echo "dry run: nothing is built; see $out"
        return
    fi
    for target in "${targets[@]}"; do
        [ -d "$(rustc --print target-libdir --target "$target")" ] ||
            fail "this toolchain has no standard library for $target (rustup target add $target)"
    done
    export SOURCE_DATE_EPOCH
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
    tools
    for target in "${targets[@]}"; do
        build "$target"
        archive "$target"
    done
    python3 python/build_backend.py sdist "$out"
    python3 python/build_backend.py sdist "$out" vendor
    twine check --strict "$out"/*.whl "$out/pyserve_wsgi-$version.tar.gz"
    check-wheel-contents "$out"/*.whl
    (cd "$out" && sha256sum -- *.tar.gz *.whl *.cdx.json >SHA256SUMS)
    built_files | while read -r file; do
        [ -s "$out/$file" ] || fail "$file was not made"
    done
    ls -l "$out"
}

# The tag has the version of Cargo.toml, and the changelog has a section with a date for it.
check_release() {
    [ "$tag" = "v$version" ] || fail "the tag is $tag, and Cargo.toml has version $version"
    for manifest in src/wire/Cargo.toml python/host/Cargo.toml; do
        grep -q '^version.workspace = true' "$manifest" || fail "$manifest has a version of its own"
    done
    heading=$(grep -m 1 "^## $version\b" CHANGELOG.md) || fail "CHANGELOG.md has no section $version"
    [ -z "$dry" ] || return 0
    case $heading in
    *unreleased*) fail "CHANGELOG.md says: $heading" ;;
    esac
    [ "$(git describe --tags --exact-match 2>/dev/null)" = "$tag" ] || fail "this checkout is not the tag $tag"
    [ -z "$(git status --porcelain)" ] || fail "the checkout has changes"
}

notes() {
    awk -v heading="## $version" '/^## / { inside = index($0, heading) == 1; next } inside' CHANGELOG.md | sed '/./,$!d'
}

image_tags() {
    minor=${version%.*}
    printf 'pyserve:%s\n' "$version" "$minor" latest
    for python in "${PYTHONS[@]}"; do
        printf "pyserve:%s-python$python-slim\n" "$version" "$minor"
    done
}

# The files that a compiler makes.
built_files() {
    for target in "${targets[@]}"; do
        echo "pyserve-$version-$target.tar.gz"
        echo "pyserve_wsgi-$version-py3-none-$(platform "$target").whl"
    done
    printf 'pyserve_wsgi-%s.tar.gz\n' "$version" "$version-vendored"
    echo SHA256SUMS
}

# The platform tags of a wheel for a target (PEP 600), with the older name first, as maturin names the file.
platform() {
    echo "manylinux2014_${1%%-*}.manylinux_${GLIBC/./_}_${1%%-*}"
}

tools() {
    tools=$PWD/target/release-tools
    [ "$tools/done" -nt docker/release-tools.txt ] || {
        rm -rf "$tools"
        python3 -m venv "$tools"
        "$tools/bin/pip" --quiet install -r docker/release-tools.txt
        touch "$tools/done"
    }
    export PATH=$tools/bin:$PATH
}

# Builds the binary and the wheel around it, with zig as linker and C compiler, for the old glibc.
build() {
    (cd python && maturin build --release --locked --zig --target "$1" --compatibility manylinux2014 --out "$out")
    binary=target/$1/release/pyserve
    python3 docker/glibc.py "$binary" "$GLIBC" || fail "$1 needs a newer glibc than $GLIBC"
    wheel=$out/pyserve_wsgi-$version-py3-none-$(platform "$1").whl
    # The documents are the same for all targets: the first one that runs here prints them.
    if "$binary" --version >/dev/null 2>&1; then
        printer=$PWD/$binary
    fi
    [ -n "${printer-}" ] || fail "none of the binaries runs on this machine; name its own target first"
    python3 python/build_backend.py documents "$wheel" "$printer"
}

# The archive: the same sources give the same bytes.
archive() {
    name=pyserve-$version-$1
    staged=$(mktemp -d)
    mkdir -p "$staged/$name/completions"
    strip_binary "$1" "$staged/$name/pyserve"
    "$printer" man >"$staged/$name/pyserve.1"
    "$printer" completions bash >"$staged/$name/completions/pyserve.bash"
    "$printer" completions zsh >"$staged/$name/completions/_pyserve"
    "$printer" completions fish >"$staged/$name/completions/pyserve.fish"
    cp LICENSE README.md CHANGELOG.md "$staged/$name/"
    cp -r docker/systemd "$staged/$name/systemd"
    tar -C "$staged" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode=u+rwX,go+rX,go-w -cf - "$name" | gzip -n -9 >"$out/$name.tar.gz"
    rm -rf "$staged"
}

# The stripped binary, which the wheel has as well.
strip_binary() {
    python3 - "$out/pyserve_wsgi-$version-py3-none-$(platform "$1").whl" "$2" <<'PYTHON'
import os, sys, zipfile
wheel, binary = sys.argv[1:]
with zipfile.ZipFile(wheel) as file:
    name = next(name for name in file.namelist() if name.endswith(".data/scripts/pyserve"))
    with open(binary, "wb") as out:
        out.write(file.read(name))
os.chmod(binary, 0o755)
PYTHON
}

usage() {
    sed -n '2,5s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

fail() {
    echo "release.sh: $1" >&2
    exit 1
}

main "$@"
