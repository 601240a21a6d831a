"""Balls that roll along drawn paths, all by the same clock."""

import numpy as np

AT_REST = 0.005  # of the picture's size


def animate_paths(display, *, frames, interval):
    """FuncAnimation of a DescentPathDisplay that has been plotted."""
    from matplotlib.animation import FuncAnimation

    if frames < 2:
        raise ValueError(f"frames must be at least 2, got {frames}.")
    size = np.array([np.ptp(display.x), np.ptp(display.y)])
    balls, last = [], 0.0
    for ax, name, number in display._drawn:
        way = display.paths[name][number]
        times = np.arange(len(way)) if display.times is None else display.times[name][number][: len(way)]
        balls.append((ax, way, times, display.lines_[name][number], display.ends_[name][number]))
        last = max(last, _time_to_rest(way, times, size))
    clock = np.append(np.linspace(0.0, last, frames), np.full(frames // 6, np.inf))  # the end, to look at

    def show(frame):
        drawn = []
        for ax, way, times, line, ball in balls:
            reached = int(np.searchsorted(times, clock[frame], side="right"))
            _move(line, display._on(ax, way[:reached]))
            _move(ball, display._on(ax, way[reached - 1 : reached]))
            drawn += [line, ball]
        return drawn

    display.figure_.canvas.draw()
    display.figure_.set_layout_engine("none")  # balls move, axes do not
    return FuncAnimation(
        display.figure_, show, frames=len(clock), interval=interval, init_func=lambda: show(0)
    )


def _time_to_rest(way, times, size):
    """When a path last was visibly away from its end."""
    away = np.linalg.norm((way - way[-1]) / size, axis=1) > AT_REST
    return float(times[np.flatnonzero(away)[-1] + 1]) if away.any() else 0.0


def _move(artist, coordinates):
    if len(coordinates) == 3:
        artist.set_data_3d(*coordinates)
    else:
        artist.set_data(*coordinates)
