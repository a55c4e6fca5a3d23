#!/usr/bin/env python3
"""The chart of the README, in colours for a light and a dark page.

    python3 benches/chart.py

Reads benches/figures.json and writes benches/chart-light.svg and benches/chart-dark.svg. Enter new
figures by hand, from one run of benches/side_by_side.py: figures of different runs do not compare.
"""

import json
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH, NAMES, VALUES = 720, 230, 80
ROW, BAR, TOP = 34, 20, 50
THEMES = {
    "light": {"text": "#1f2328", "faint": "#59636e", "bar": "#afb8c1", "own": "#0969da"},
    "dark": {"text": "#f0f6fc", "faint": "#9198a1", "bar": "#3d444d", "own": "#4493f8"},
}


def chart(data, colours):
    """The SVG document: one bar for each figure, pyserve's in a colour of its own."""
    figures = data["figures"]
    scale = (WIDTH - NAMES - VALUES) / max(figure["value"] for figure in figures)
    height = TOP + ROW * len(figures) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="14" role="img">',
        f"<title>{escape(data['title'])}</title>",
        text(0, 20, data["title"], colours["text"], weight="600"),
    ]
    for row, figure in enumerate(figures):
        y = TOP + row * ROW
        own = figure["name"] == "pyserve"
        length = round(figure["value"] * scale, 1)
        parts += [
            text(NAMES - 12, y + 15, figure["name"], colours["text"], "end", "600" if own else "400"),
            f'<rect x="{NAMES}" y="{y}" width="{length}" height="{BAR}" rx="3" '
            f'fill="{colours["own" if own else "bar"]}"/>',
            text(NAMES + length + 8, y + 15, f"{figure['value']:.1f} {data['unit']}", colours["text"]),
        ]
    parts += [text(0, height - 6, data["note"], colours["faint"], size=12), "</svg>\n"]
    return "\n".join(parts)


def text(x, y, words, colour, anchor="start", weight="400", size=14):
    """One line of text."""
    return (
        f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}" '
        f'font-size="{size}">{escape(words)}</text>'
    )


def main():
    """Writes both files."""
    data = json.loads((HERE / "figures.json").read_text(encoding="utf-8"))
    for theme, colours in THEMES.items():
        (HERE / f"chart-{theme}.svg").write_text(chart(data, colours), encoding="utf-8")


if __name__ == "__main__":
    main()
