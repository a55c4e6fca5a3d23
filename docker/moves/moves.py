"""The steps of `test-moves.sh` that need more than a shell.

    moves.py apply EXPLAINED DIRECTORY    changes the files of a directory as the JSON of `pyserve explain` says
    moves.py ask ADDRESS REQUEST...       prints what the requests get, as JSON
    moves.py differences BEFORE AFTER     prints what differs; exit code 1 if anything does

A request is `METHOD:TARGET` or `TARGET`; a POST has a body of 3 bytes.
"""

import http.client
import json
import pathlib
import sys


def apply(explained, directory):
    problems = []
    for file in json.loads(pathlib.Path(explained).read_text()):
        if not file["replace"]:
            continue
        path = pathlib.Path(directory, file["name"])
        lines = path.read_text().splitlines()
        for one in sorted(file["replace"], key=lambda one: -one["line"]):
            start, end = one["line"] - 1, one["line"] - 1 + len(one["before"])
            if [line.rstrip() for line in lines[start:end]] != one["before"]:
                problems.append(f"{path}:{one['line']}: the lines are not those of the file")
            lines[start:end] = one["after"]
        path.write_text("\n".join(lines) + "\n")
    sys.exit("\n".join(problems) or 0)


def ask(address, requests):
    found = {}
    for request in requests:
        method, _, target = request.rpartition(":")
        connection = http.client.HTTPConnection(address, timeout=20)
        body = b"a=1" if method == "POST" else None
        headers = {"Host": "shop.example.org", "User-Agent": "moves", "X-Forwarded-For": "192.0.2.7"}
        try:
            connection.request(method or "GET", target, body, headers)
            response = connection.getresponse()
            content = response.read().decode("utf-8", "replace")
        except OSError as error:
            found[request] = {"error": str(error)}
            continue
        one = {"status": response.status}
        names = ["Location", "Cache-Control", "Content-Encoding"]
        if response.status < 300:
            names.append("Content-Type")
            try:
                one["body"] = json.loads(content)
            except ValueError:
                one["body"] = content
        one["headers"] = {name: response.getheader(name) for name in names if response.getheader(name)}
        found[request] = one
    print(json.dumps(found, indent=1, sort_keys=True))


def flat(value, name=""):
    if isinstance(value, dict):
        for key, one in value.items():
            yield from flat(one, f"{name}.{key}" if name else key)
    else:
        yield name, value


def differences(before, after):
    before, after = (json.loads(pathlib.Path(one).read_text()) for one in (before, after))
    found = {}
    for request in before:
        one, other = dict(flat(before[request])), dict(flat(after[request]))
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                found.setdefault(name, []).append((request, one.get(name), other.get(name)))
    for name, cases in found.items():
        request, one, other = cases[0]
        others = f" ({len(cases) - 1} more: {' '.join(case[0] for case in cases[1:])})" if cases[1:] else ""
        print(f"{name}: {one!r} became {other!r} at {request}{others}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    step, *arguments = sys.argv[1:]
    match step:
        case "apply":
            apply(*arguments)
        case "ask":
            ask(arguments[0], arguments[1:])
        case "differences":
            differences(*arguments)
