"""Draws the dashboard's panels from the data of a Prometheus, as SVG: what an operator would see, without Grafana."""

import html
import re

from prometheus import Prometheus, dashboard_queries

COLUMNS, WIDTH, HEIGHT, MARGIN = 3, 400, 150, 20
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#7f7f7f", "#e377c2"]
MOST_LINES = len(COLOURS)


def lines_of(prometheus: Prometheus, expression: str, legend: str, start: float, end: float) -> list[tuple]:
    """The label and the points of each series."""
    found = prometheus.get("query_range", query=expression, start=start, end=end, step=1)["result"]
    lines = []
    for series in found:
        label = re.sub(r"{{(\w+)}}", lambda match: series["metric"].get(match[1], ""), legend)
        points = [(float(t), float(v)) for t, v in series["values"] if v not in ("NaN", "+Inf")]
        lines.append((label, points))
    return lines


def shown(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def panel(title: str, lines: list, start: float, end: float, marks: list) -> str:
    # The busiest lines, when there are too many to tell apart.
    lines = sorted(lines, key=lambda line: -max((v for _, v in line[1]), default=0))[:MOST_LINES]
    top = max((value for _, points in lines for _, value in points), default=0) or 1
    wide, high = WIDTH - 2 * MARGIN, HEIGHT - 55
    parts = [f'<text x="{MARGIN}" y="14" font-weight="bold">{html.escape(title)}</text>',
             f'<text x="{WIDTH - MARGIN}" y="14" text-anchor="end" fill="#777">up to {shown(top)}</text>',
             f'<rect x="{MARGIN}" y="20" width="{wide}" height="{high}" fill="#f7f7f7"/>']
    for number, moment in enumerate(marks, 1):
        x = MARGIN + wide * (moment - start) / (end - start)
        parts.append(f'<path d="M{x:.0f} 20v{high}" stroke="#bbb"/><text x="{x + 2:.0f}" y="29" fill="#999">{number}</text>')
    for number, (label, points) in enumerate(lines):
        path = ""
        last = None
        for moment, value in points:
            x, y = MARGIN + wide * (moment - start) / (end - start), 20 + high * (1 - value / top)
            # A gap in the data is a gap in the line.
            path += f"{'L' if last is not None and moment - last < 5 else 'M'}{x:.1f} {y:.1f}"
            last = moment
        colour = COLOURS[number]
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        x, y = MARGIN + number % 3 * wide / 3, HEIGHT - 23 + number // 3 * 10
        parts.append(f'<text x="{x:.0f}" y="{y}" fill="{colour}">{html.escape(label)}</text>')
    return "".join(parts)


def draw(prometheus: Prometheus, start: float, end: float, marks: list[float]) -> str:
    """All panels between two moments in Unix seconds; `marks` are numbered lines."""
    panels = {}
    for title, expression, legend in dashboard_queries():
        panels.setdefault(title, []).extend(lines_of(prometheus, expression, legend, start, end))
    rows = -(-len(panels) // COLUMNS)
    size = f"{COLUMNS * WIDTH} {rows * HEIGHT + MARGIN}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="9">',
             '<rect width="100%" height="100%" fill="white"/>']
    for number, (title, lines) in enumerate(panels.items()):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + MARGIN / 2
        parts.append(f'<g transform="translate({x} {y})">{panel(title, lines, start, end, marks)}</g>')
    return "\n".join(parts) + "\n</svg>\n"
