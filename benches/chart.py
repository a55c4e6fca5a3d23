#!/usr/bin/env python3
"""Charts of figures, in colours for a light and a dark page.

    python3 benches/chart.py

Reads benches/figures.json and writes benches/chart-light.svg and benches/chart-dark.svg, the chart of
the README. `compare.py --publish` writes all three; figures of different runs do not compare.
"""

import json
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH, GAP = 720, 24
TITLE, FOOT = 50, 24
THEMES = {
    "light": {"text": "#1f2328", "faint": "#59636e", "bar": "#afb8c1", "own": "#0969da"},
    "dark": {"text": "#f0f6fc", "faint": "#9198a1", "bar": "#3d444d", "own": "#4493f8"},
}


class Layout:
    """Sizes: of one panel over the whole width, or of many in two columns with headings of their own."""

    def __init__(self, panels):
        many = len(panels) > 1
        self.columns = 2 if many else 1
        self.heading = 26 if many else 0
        self.names, self.values = (100, 56) if many else (230, 80)
        self.row, self.bar, self.size = (22, 14, 12) if many else (34, 20, 14)
        self.width = (WIDTH - GAP * (self.columns - 1)) // self.columns
        self.rows = max(len(panel["figures"]) for panel in panels)
        self.panel = self.heading + self.row * self.rows + (16 if many else 0)

    def place(self, number):
        """The upper left corner of a panel."""
        line, column = divmod(number, self.columns)
        return column * (self.width + GAP), TITLE + line * self.panel


def chart(data, colours):
    """The SVG document: one bar for each figure, pyserve's in a colour of its own."""
    layout = Layout(data["panels"])
    lines = -(-len(data["panels"]) // layout.columns)
    height = TITLE + layout.panel * lines + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="14" role="img">',
        f"<title>{escape(data['title'])}</title>",
        text(0, 20, data["title"], colours["text"], weight="600"),
    ]
    for number, panel in enumerate(data["panels"]):
        parts += bars(panel, *layout.place(number), layout, colours)
    parts += [text(0, height - 6, data["note"], colours["faint"], size=12), "</svg>\n"]
    return "\n".join(parts)


def bars(panel, left, top, layout, colours):
    """The bars of one panel, below its heading."""
    parts = []
    if layout.heading:
        parts.append(text(left, top + 12, panel["title"], colours["faint"], weight="600", size=layout.size))
    scale = (layout.width - layout.names - layout.values) / max(figure["value"] for figure in panel["figures"])
    for row, figure in enumerate(panel["figures"]):
        y = top + layout.heading + row * layout.row
        base = y + (layout.bar + layout.size - 4) // 2
        own = figure["name"] == "pyserve"
        length = round(figure["value"] * scale, 1)
        x = left + layout.names
        weight = "600" if own else "400"
        value = f"{shown(figure['value'])} {panel['unit']}".strip()
        parts += [
            text(x - 12, base, figure["name"], colours["text"], "end", weight, layout.size),
            f'<rect x="{x}" y="{y}" width="{length}" height="{layout.bar}" rx="3" '
            f'fill="{colours["own" if own else "bar"]}"/>',
            text(x + length + 8, base, value, colours["text"], size=layout.size),
        ]
    return parts


def shown(value):
    """A number with as many digits as one reads."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def text(x, y, words, colour, anchor="start", weight="400", size=14):
    """One line of text."""
    return (
        f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}" '
        f'font-size="{size}">{escape(words)}</text>'
    )


def write(data, folder):
    """Writes the figures and both charts of them."""
    (folder / "figures.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(data, folder)


def draw(data, folder):
    for theme, colours in THEMES.items():
        (folder / f"chart-{theme}.svg").write_text(chart(data, colours), encoding="utf-8")


if __name__ == "__main__":
    draw(json.loads((HERE / "figures.json").read_text(encoding="utf-8")), HERE)
