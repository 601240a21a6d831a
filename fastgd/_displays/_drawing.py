"""Pieces of a DescentPathDisplay's picture: landscape, colours of valleys, numbers, long paths."""

import numpy as np

from ._style import colours
from ._surface import contour_levels

DRAWN = 5000  # points of a path that a picture can tell apart
SAME_VALLEY = 0.03  # of the picture's size


def draw_landscape(display, ax, n_levels, surface_kw):
    """Filled contours, light in the valleys and grey, so that coloured paths stand out; or a surface."""
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    x, y, values = display.x, display.y, display.values
    levels = contour_levels(values, n_levels)
    if len(levels) < 2:  # a flat function
        levels = levels[0] + np.array([-0.5, 0.5])
    norm = BoundaryNorm(levels, 256)
    if display.kind_ == "surface":
        style = {"cmap": "viridis", "norm": norm, "alpha": 0.55, "linewidth": 0, "rcount": 80, "ccount": 80}
        ax.computed_zorder = False  # paths lie on the surface, not under it
        drawn = ax.plot_surface(*np.meshgrid(x, y), values, **{**style, **surface_kw})
    else:
        grey = LinearSegmentedColormap.from_list("valleys", ["#fdfdfd", "#a2a2a2"])
        drawn = ax.contourf(x, y, values, **{"levels": levels, "cmap": grey, "norm": norm, **surface_kw})
        ax.contour(x, y, values, levels=levels, colors="0.45", linewidths=0.4)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.set(xlabel=display.axis_names[0], ylabel=display.axis_names[1])
    return drawn


def colours_of_valleys(display, name):
    """(colour, label) of each path of a method: a colour for each place where paths end."""
    ways = display.paths[name]
    lost = [False] * len(ways) if display.diverged is None else display.diverged[name]
    valleys = _valleys(display, ways, lost)
    palette = colours(len(set(valleys)))
    order = list(dict.fromkeys(valleys))
    styles = []
    for i, valley in enumerate(valleys):
        n, label = valleys.count(valley), None
        if valleys.index(valley) == i:
            end = ways[i][-1]
            where = "to " + _place(display, end) if valley >= 0 else "out of sight"
            label = f"{n} start{'s' * (n > 1)} {where}"
        styles.append((palette[order.index(valley)], label))
    return styles


def _place(display, point):
    """Coordinates as exactly as a picture shows them."""
    sizes = np.ptp(display.x), np.ptp(display.y)
    digits = [2 - int(np.floor(np.log10(size))) for size in sizes]
    return "({:g}, {:g})".format(*(round(float(v), n) + 0.0 for v, n in zip(point, digits, strict=True)))


def _valleys(display, ways, lost):
    """Which paths end in the same place: a number for each, -1 for those that left the picture."""
    low = np.array([display.x[0], display.y[0]])
    size = np.array([display.x[-1], display.y[-1]]) - low
    centres, numbers = [], []
    for way, diverged in zip(ways, lost, strict=True):
        end = (way[-1] - low) / size
        if diverged or np.any(end < 0) or np.any(end > 1):
            numbers.append(-1)
            continue
        near = [i for i, centre in enumerate(centres) if np.linalg.norm(end - centre) < SAME_VALLEY]
        if not near:
            centres.append(end)
        numbers.append(near[0] if near else len(centres) - 1)
    return numbers


def thinned(way):
    """At most some thousand points of a long path, the last one among them."""
    if len(way) <= DRAWN:
        return way
    return way[np.unique(np.linspace(0, len(way) - 1, DRAWN).astype(int))]


def short_number(value, position=None):
    """For a colour bar: four digits, exponents only where they are needed."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return np.format_float_positional(value, precision=4, fractional=False, trim="-")
    return f"{value:.2e}"
