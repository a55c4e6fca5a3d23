"""Writes the software bill of materials of the binary: CycloneDX 1.6, from Cargo.lock and cargo's metadata.

    python3 docker/sbom.py TARGET >FILE

It lists the crates that are linked into the binary and into the host inside it, for one target, without those
that only tests and build scripts use. The same sources give the same bytes.
"""

import json
import pathlib
import subprocess
import sys
import uuid

TOP = pathlib.Path(__file__).resolve().parent.parent
#: The packages of the two files: the binary, and the host that it contains.
ROOTS = ["pyserve", "pyserve-host"]


def main():
    (target,) = sys.argv[1:]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, check=True).stdout)
    json.dump(document(metadata, checksums(), target), sys.stdout, indent=1, sort_keys=True)
    print()


def checksums():
    """SHA-256 of the crates by name and version, from Cargo.lock."""
    found = {}
    for block in (TOP / "Cargo.lock").read_text().split("[[package]]")[1:]:
        fields = dict(line.split(" = ", 1) for line in block.splitlines() if " = " in line)
        fields = {name: value.strip('"') for name, value in fields.items()}
        if "checksum" in fields:
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def document(metadata, hashes, target):
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    roots = [key for key in packages if packages[key]["name"] in ROOTS and packages[key]["source"] is None]
    linked = {}
    waiting = list(roots)
    while waiting:
        key = waiting.pop()
        if key in linked:
            continue
        # `None` is a dependency of the code, `build` and `dev` are not in the file.
        linked[key] = sorted(
            dependency["pkg"]
            for dependency in nodes[key]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            and not is_macro(packages[dependency["pkg"]])
        )
        waiting.extend(linked[key])
    binary = next(key for key in roots if packages[key]["name"] == ROOTS[0])
    linked[binary] = sorted({*linked[binary], *(key for key in roots if key != binary)})
    listed = sorted(linked, key=lambda key: reference(packages[key]))
    facts = json.dumps([[reference(packages[key]) for key in listed], target])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "serialNumber": "urn:uuid:%s" % uuid.uuid5(uuid.NAMESPACE_URL, facts),
        "metadata": {
            "component": component(packages[binary], hashes, "application"),
            "properties": [{"name": "target", "value": target}],
        },
        "components": [component(packages[key], hashes, "library") for key in listed if key != binary],
        "dependencies": [
            {"ref": reference(packages[key]), "dependsOn": sorted(reference(packages[other]) for other in linked[key])}
            for key in listed
        ],
    }


def is_macro(package):
    """Procedural macros run in the compiler."""
    return any("proc-macro" in target["kind"] for target in package["targets"])


def reference(package):
    return "pkg:cargo/%s@%s" % (package["name"], package["version"])


def component(package, hashes, kind):
    found = {
        "type": kind,
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
    }
    if package.get("license"):
        # Old crates separate alternatives by a slash.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = hashes.get((package["name"], package["version"]))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


if __name__ == "__main__":
    main()
