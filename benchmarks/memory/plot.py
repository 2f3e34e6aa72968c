"""plot.py -- lines over time as a small SVG file, with nothing but Python.

Axes with units, a legend, dashed lines for bars. A line is thinned to what can
be seen: points that lie within half a pixel of it are left out.
"""

import html
import math

WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 40, 50
COLOURS = {"glibc": "#555555", "gperftools": "#e69f00", "jemalloc": "#009e73",
           "mimalloc": "#cc79a7", "tcx": "#0060c0"}
MORE_COLOURS = ["#d55e00", "#56b4e9", "#000000"]
VISIBLE_PIXELS = 0.5


def ticks(high, count=6):
    """Round values from 0 to about `high`."""
    step = 10 ** math.floor(math.log10(high / count))
    step = next(step * m for m in (1, 2, 5, 10) if high / (step * m) <= count)
    return [step * i for i in range(int(high / step) + 1)]


def thinned(points):
    """The points without which the line would look different."""
    keep = {0, len(points) - 1}
    todo = [(0, len(points) - 1)]
    while todo:
        first, last = todo.pop()
        (x0, y0), (x1, y1) = points[first], points[last]
        length = math.hypot(x1 - x0, y1 - y0) or 1
        worst, at = VISIBLE_PIXELS, None
        for i in range(first + 1, last):
            x, y = points[i]
            away = abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length
            if away > worst:
                worst, at = away, i
        if at is not None:
            keep.add(at)
            todo += [(first, at), (at, last)]
    return [points[i] for i in sorted(keep)]


def plot(title, y_label, series, x_range, bars=(), x_label="seconds"):
    """SVG text. series: {name: [(x, y)]}; bars: [(y, text)]."""
    x_low, x_high = x_range
    shown = {n: [p for p in points if x_low <= p[0] <= x_high]
             for n, points in series.items()}
    shown = {n: points for n, points in shown.items() if points}
    high = max([y for points in shown.values() for _, y in points] +
               [y for y, _ in bars] + [1e-9]) * 1.05
    inner_width = WIDTH - LEFT - RIGHT
    inner_height = HEIGHT - TOP - BOTTOM

    def x_at(x):
        return LEFT + (x - x_low) / (x_high - x_low) * inner_width

    def y_at(y):
        return TOP + (1 - y / high) * inner_height

    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d"'
           ' viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">' % (
               WIDTH, HEIGHT, WIDTH, HEIGHT),
           '<rect width="100%" height="100%" fill="white"/>']

    def text(x, y, what, anchor="middle", more=""):
        out.append('<text x="%.0f" y="%.0f" text-anchor="%s"%s>%s</text>' % (
            x, y, anchor, more, html.escape(what)))

    def line(x0, y0, x1, y1, style):
        out.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>' % (
            x0, y0, x1, y1, style))

    text(LEFT + inner_width / 2, 22, title, more=' font-size="14"')
    text(LEFT + inner_width / 2, HEIGHT - 12, x_label)
    text(16, TOP + inner_height / 2, y_label,
         more=' transform="rotate(-90 16 %.0f)"' % (TOP + inner_height / 2))
    for y in ticks(high):
        line(LEFT, y_at(y), LEFT + inner_width, y_at(y), 'stroke="#dddddd"')
        text(LEFT - 6, y_at(y) + 4, "%g" % y, "end")
    for x in ticks(x_high):
        line(x_at(x), TOP, x_at(x), TOP + inner_height, 'stroke="#dddddd"')
        text(x_at(x), TOP + inner_height + 18, "%g" % x)
    out.append('<rect x="%d" y="%d" width="%d" height="%d" fill="none"'
               ' stroke="black"/>' % (LEFT, TOP, inner_width, inner_height))
    for y, what in bars:
        line(LEFT, y_at(y), LEFT + inner_width, y_at(y),
             'stroke="#c00000" stroke-dasharray="6 4"')
        below = y > high / 2
        text(LEFT + inner_width - 4, y_at(y) + (14 if below else -4), what,
             "end", ' fill="#c00000"')
    more_colours = list(MORE_COLOURS)
    for row, (name, points) in enumerate(shown.items()):
        colour = COLOURS.get(name) or more_colours.pop(0)
        style = 'stroke="%s" stroke-width="%s"' % (
            colour, "2.5" if name == "tcx" else "1.5")
        pixels = thinned([(x_at(x), y_at(y)) for x, y in points])
        out.append('<polyline fill="none" %s points="%s"/>' % (
            style, " ".join("%.1f,%.1f" % p for p in pixels)))
        y = TOP + 12 + 20 * row
        line(WIDTH - RIGHT + 10, y, WIDTH - RIGHT + 34, y, style)
        text(WIDTH - RIGHT + 40, y + 4, name, "start")
    return "\n".join(out + ["</svg>", ""])
