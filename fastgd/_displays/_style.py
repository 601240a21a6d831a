"""How displays look: colours that colour-blind readers tell apart, legends that do not hide lines."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

# Okabe & Ito (2008), without the yellow that white paper swallows
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
FEW = len(OKABE_ITO)
LEGEND_LIMIT = 24  # entries of a legend that can still be read


def new_axes(display, method, ax, n_lines=1, **subplots):
    """figure and ax: the given ones, or new ones with room for a legend beside many lines."""
    check_matplotlib_support(f"{type(display).__name__}.{method}")
    import matplotlib.pyplot as plt

    if ax is None:
        width = 6.4 if n_lines <= FEW else 8.0
        return plt.subplots(layout="constrained", **{"figsize": (width, 4.8), **subplots})
    return ax.figure, ax


def colours(n):
    """n colours: well apart where they are few, else a scale from dark to light in their order."""
    if n <= FEW:
        return list(OKABE_ITO[:n])
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.92, n)))


def legend(ax, n_lines, **kwargs):
    """Inside where lines are few, else beside the axes; of very many entries, evenly chosen ones."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return None
    if n_lines <= FEW:
        return ax.legend(handles, labels, **{"fontsize": "small", **kwargs})
    if len(handles) > LEGEND_LIMIT:
        kept = np.unique(np.linspace(0, len(handles) - 1, LEGEND_LIMIT).astype(int))
        handles, labels = [handles[i] for i in kept], [labels[i] for i in kept]
    outside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "fontsize": "small", "borderaxespad": 0}
    return ax.legend(handles, labels, **outside)


def panel_below(ax, share=0.38):
    """Axes under `ax` that share its x-axis, cut out of its place: a picture within anybody's layout."""
    place = ax.get_subplotspec()
    if place is None:  # axes put down by hand: no layout to ask
        from mpl_toolkits.axes_grid1 import make_axes_locatable

        size = f"{100 * share / (1 - share):.0f}%"
        below = make_axes_locatable(ax).append_axes("bottom", size=size, pad=0.15, sharex=ax)
    else:
        rows = place.subgridspec(2, 1, height_ratios=[1 - share, share], hspace=0.08)
        ax.set_subplotspec(rows[0])
        below = ax.figure.add_subplot(rows[1], sharex=ax)
    ax.tick_params(labelbottom=False, which="both")
    return below


def wide_range(curves, decades=2):
    """Whether positive numbers spread so far that only a log scale shows all of them."""
    values = np.concatenate([np.ravel(curve) for curve in curves]) if len(curves) else np.empty(0)
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and values.max() > 10**decades * values.min()
