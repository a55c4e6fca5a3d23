#!/usr/bin/env python3
"""The results of compare.py as Markdown and as figures for charts. Measures nothing.

    python3 benches/report.py target/compare/results.json            # prints the Markdown
    python3 benches/report.py target/compare/results.json --readme   # writes the table of benches/README.md

compare.py does both itself: this repeats them for a run that is over.
"""

import argparse
import json
from pathlib import Path
from statistics import median

import works

README = Path(__file__).resolve().parent / "README.md"
BEGIN = "<!-- compare.py writes from here -->"
END = "<!-- to here -->"
# Above this part of the CPUs' time for other processes, ratios of neighbouring rounds wander.
NOISE = 0.05
BY_NAME = {work.name: work for work in works.WORKS}
CHARTED = [
    "hello", "10 KiB body", "Flask, JSON", "Django, page", "POST of 64 KiB", "20 ms of waiting, defaults",
    "file of 1 KiB", "file of 16 KiB", "file of 1 MiB", "memory, Django",
]  # fmt: skip


def collect(work, series, other_cpu):
    """What results.json has of one work. A series with an error has no figures that count.

    ``other_cpu`` is the part of the CPU time that other processes took meanwhile; memory does not depend on it.
    """
    servers = {}
    for name, one in series.items():
        why = one.failure
        if one.errors and not why:
            why = f"{one.errors} of {one.requests} requests failed" + (f": {one.error}" if one.error else "")
        servers[name] = {"invalid": why, "errors": one.errors, "requests": one.requests, "runs": one.runs}
    return {
        "metric": work.metric.key,
        "connections": work.connections,
        "rate": work.rate,
        "other_cpu": other_cpu,
        "goals": [goal.text(work.metric) for goal in work.goals],
        "servers": servers,
    }


def values(server, key):
    """The figures of all rounds; none where they do not count."""
    if server["invalid"]:
        return []
    return [run[key] for run in server["runs"] if run.get(key) is not None]


def middle(server, key):
    figures = values(server, key)
    return median(figures) if figures else None


def invalid(results):
    """The series with errors, as text."""
    return [
        f"{work}: {name}: {first_line(server['invalid'])}"
        for work, row in results["works"].items()
        for name, server in row["servers"].items()
        if server["invalid"]
    ]


def heading(results):
    """What was measured, on what."""
    options = results["options"]
    same = options["server_cpus"] == options["load_cpus"]
    where = "wrk and paced on the same CPUs" if same else f"generators on CPUs {options['load_cpus']}"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{results['machine']}, {results['interpreter']}; servers on CPUs {options['server_cpus']}, {where}; medians "
        f"of {options['rounds']} interleaved rounds of {options['seconds']} s, ranges in brackets. {versions}."
    )


def noisy(row):
    return row["other_cpu"] > NOISE


def warnings(results):
    """Reasons to distrust the figures, as paragraphs."""
    told = []
    shares = [row["other_cpu"] for row in results["works"].values() if noisy(row)]
    if shares:
        told.append(
            f"**Noisy**: other processes took up to {max(shares):.0%} of the CPU time. A server that waits for a CPU "
            "serves more requests at once, at a lower cost for each: these figures show that everything runs, no more."
        )
    if results["options"]["short"]:
        told.append("A short run: two rounds of a second.")
    builds = {tuple(found) for found in results["interpreters"].values()}
    if len(builds) > 1:
        told.append(
            "**Different interpreters**: "
            + "; ".join(f"{name}: {', '.join(found)}" for name, found in results["interpreters"].items())
            + "."
        )
    wrong = invalid(results)
    if wrong:
        told.append("**Invalid**, and without figures: " + "; ".join(wrong) + ".")
    return "\n\n".join(told)


def summary(results):
    """Goal, figure, range and ratio to each peer: a table for applications and one for files."""
    tables = []
    for peers, is_files in ((works.APPLICATION_PEERS, False), (works.FILE_PEERS, True)):
        rows = {name: row for name, row in results["works"].items() if (BY_NAME[name].app == "files") == is_files}
        peers = [peer for peer in peers if any(peer in row["servers"] for row in rows.values())]
        if rows:
            headings = ["work", "figure", "goal", "pyserve", "spread", "goal met", *(f"÷ {peer}" for peer in peers)]
            tables.append(
                f"| {' | '.join(headings)} |\n|---|---|---|{'--:|' * (len(headings) - 3)}\n"
                + "\n".join(f"| {' | '.join(summary_row(name, row, peers))} |" for name, row in rows.items())
            )
    return "\n\n".join(tables)


def summary_row(name, row, peers):
    """The cells of one work."""
    metric, goals = BY_NAME[name].metric, BY_NAME[name].goals
    medians = {server: middle(found, metric.key) for server, found in row["servers"].items()}
    own = medians["pyserve"]
    if own is None:
        return [name, metric.heading, ", ".join(row["goals"]) or "–", "invalid", "–", "–", *("–" for _ in peers)]
    met = [goal.met(metric, own, medians) for goal in goals]
    ratios = [f"{own / medians[peer]:.2f}" if medians.get(peer) else "–" for peer in peers]
    # ``None`` is a goal whose peer has no figure.
    verdict = "no" if False in met else "–" if not met or None in met else "yes"
    if noisy(row) and met:
        verdict = "noisy"
    return [
        name, metric.heading, ", ".join(row["goals"]) or "–", f"{own:{metric.shape}}",
        spread(row["servers"]["pyserve"], metric), verdict, *ratios,
    ]  # fmt: skip


def spread(server, metric):
    figures = values(server, metric.key)
    return f"{min(figures):{metric.shape}}–{max(figures):{metric.shape}}"


def details(work, results):
    """All servers with one work."""
    row = results["works"][work.name]
    columns = []
    if work.saturates:
        columns += [
            works.CPU,
            works.RATE,
            works.Metric("p50_ms", "p50 ms", "", ",.2f"),
            works.Metric("p99_ms", "p99 ms", "", ",.2f"),
        ]
    if work.metric is works.MEMORY:
        columns.append(works.MEMORY)
    if work.rate:
        columns += [
            works.Metric(f"paced_{key}_ms", f"at {work.rate:,}/s: {text} ms", "", ",.2f")
            for key, text in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max"))
        ]
    if len(work.paths) > 1:
        columns.append(works.LONG_P50)
    key = work.metric.key if work.metric is not works.SHORT_P99 else "paced_p99_ms"
    headings = ["server", *(column.heading for column in columns), "errors"]
    lines = [f"| {' | '.join(headings)} |", f"|---|{'--:|' * (len(headings) - 1)}"]
    for name, server in row["servers"].items():
        cells = []
        for column in columns:
            figure = middle(server, column.key)
            text = "–" if figure is None else f"{figure:{column.shape}}"
            if figure is not None and column.key == key:
                text += f" ({spread(server, column)})"
            cells.append(text)
        errors = first_line(server["invalid"]) if server["invalid"] else "0"
        lines.append(f"| {name} | {' | '.join(cells)} | {errors} |")
    what = f"; latencies of `{work.path}`" if len(work.paths) > 1 else ""
    return f"### {work.name}\n\n{work.connections} connections{what}\n\n" + "\n".join(lines)


def first_line(text):
    return text.splitlines()[0].replace("|", "/") if text else ""


def document(results):
    """All of it, as a page."""
    parts = ["# Comparison", heading(results), warnings(results), summary(results), "## By work"]
    parts += [details(BY_NAME[name], results) for name in results["works"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_readme(results):
    """Replaces what is between the markers of benches/README.md."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{README} has no {BEGIN} … {END}")
    parts = [heading(results), warnings(results), summary(results)]
    table = "\n\n".join(part for part in parts if part)
    README.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def figures(results):
    """Panels for chart.py: what counts of each charted work, with the peers that have figures."""
    panels = []
    for name in CHARTED:
        row = results["works"].get(name)
        if row is None:
            continue
        metric = BY_NAME[name].metric
        bars = [
            {"name": server, "value": round(figure, 2)}
            for server, found in row["servers"].items()
            if (figure := middle(found, metric.key)) is not None
        ]
        if bars:
            better = "less" if metric.less_is_better else "more"
            panels.append({"title": f"{name}: {metric.heading}, {better} is better", "unit": "", "figures": bars})
    return {
        "title": "pyserve beside other servers",
        "note": f"{results['machine']}, {results['interpreter']}; bjoern has no front and no isolation"
        + ("; noisy" if any(map(noisy, results["works"].values())) else ""),
        "panels": panels,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--readme", action="store_true", help="write the table of benches/README.md")
    options = parser.parse_args()
    results = json.loads(options.results.read_text(encoding="utf-8"))
    if options.readme:
        write_readme(results)
    else:
        print(document(results), end="")


if __name__ == "__main__":
    main()
