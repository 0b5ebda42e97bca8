"""Curves of a metric as text: a line of blocks beside a trial, and a chart as large as the terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from trainer_app.errors import InputError, StorageError
from trainer_app.formatting import format_number, one_line
from trainer_app.records import RunFolder
from trainer_app.results.model import FitResults, RunResults
from trainer_app.storage import Store
from trainer_app.storage.parallel import map_parallel

_log = logging.getLogger(__name__)
BLOCKS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 16  # characters of a line of blocks
MOST_TRIALS: Final = 64  # a curve costs a listing and a request a trial: a table of more trials has none
LARGEST: Final = 1e300  # of the values that a chart tells apart
MOST_LINES: Final = 6  # of a chart: more can't be told apart
Curve = list[tuple[int, float]]


def read_curves(storage: Store, run: RunResults) -> dict[str | None, Curve]:
    """Return the run's metric by epoch, for a train run or for each trial; nothing for more than MOST_TRIALS trials.

    A part that cannot be read leaves a gap: the table beside the curve names what is damaged.
    """
    metric = run.record.metric
    if metric is None or len(run.fits) > MOST_TRIALS:
        return {}
    folder = RunFolder(storage.child(run.record.name), run.record)

    def read(fit: FitResults) -> Curve:
        if fit.trial is None:
            return curve(fit.history, metric)
        try:
            return curve(folder.fit_folder(fit.trial).read_metrics(_log.debug), metric)
        except StorageError as error:
            _log.debug("no curve of %s: %s", fit.trial, error)
            return []

    return {fit.trial: points for fit, points in zip(run.fits, map_parallel(read, run.fits), strict=True)}


def curve(lines: Sequence[Mapping[str, Any]], metric: str) -> Curve:
    """Return (epoch, value) of each line whose value of the metric is a finite number."""
    pairs = ((line["epoch"], line["metrics"].get(metric)) for line in lines)
    return [(epoch, float(value)) for epoch, value in pairs if is_finite(value)]


def is_finite(value: Any) -> bool:
    """Return whether it is a number that a curve can show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def sparkline(points: Curve, low: float, high: float, width: int = WIDTH) -> str:
    """Return blocks for a curve, at most `width`; an epoch without a value is a space.

    Args:
        points: (epoch, value).
        low, high: the values of the lowest and the highest block, the same for all curves that are compared.
        width: characters. If there are more epochs, each block is the mean of those it stands for.
    """
    if not points:
        return ""
    length = max(epoch for epoch, _ in points) + 1
    cells: list[list[float]] = [[] for _ in range(min(width, length))]
    for epoch, value in points:
        cells[epoch * len(cells) // length].append(value)
    half = high / 2 - low / 2 or 1.0  # the whole is beyond a float's largest between -1e308 and 1e308
    means = [sum(value / len(cell) for value in cell) if cell else None for cell in cells]
    steps = [None if mean is None else (mean / 2 - low / 2) / half * (len(BLOCKS) - 1) for mean in means]
    return "".join(" " if step is None else BLOCKS[round(min(step, len(BLOCKS) - 1.0))] for step in steps)


def sparklines(curves: Mapping[str | None, Curve]) -> dict[str | None, str]:
    """Return the blocks of curves that are compared, by the same key."""
    values = [value for points in curves.values() for _, value in points]
    if not values:
        return {}
    return {name: sparkline(points, min(values), max(values)) for name, points in curves.items()}


def chart(curves: Mapping[str, Curve], metric: str, *, width: int, height: int = 15) -> str:
    """Return a chart with epochs from left to right, of the first MOST_LINES curves that have a value.

    Args:
        curves: by their name in the legend.
        metric: the name of the vertical axis.
        width, height: of the whole, and of the drawing, in characters.

    Raises:
        InputError: no curve has a value.
    """
    import plotille

    shown = {name: points for name, points in curves.items() if points}
    if not shown:
        raise InputError(f"--plot: no epoch has a value of {metric} yet")
    figure = plotille.Figure()
    figure.height, figure.color_mode = height, "names"
    _set_epochs(figure, max(epoch for points in shown.values() for epoch, _ in points) + 1, max(20, width - 24))
    figure.x_label, figure.y_label = "epoch", one_line(metric)[:10]
    figure.register_label_formatter(float, lambda value, chars, delta, left=False: _label(value, chars, left=left))
    figure.register_label_formatter(int, lambda value, chars, delta, left=False: _label(value, chars, left=left))
    for name, points in list(shown.items())[:MOST_LINES]:
        figure.plot([epoch + 1 for epoch, _ in points], [_clip(value) for _, value in points], label=one_line(name))
    return str(figure.show(legend=len(shown) > 1))


def _set_epochs(figure: Any, last: int, width: int) -> None:
    """Set the horizontal axis, from epoch 1, so that each of its marks, ten characters apart, is a whole epoch.

    Marks between two epochs have no label: there are some if there are fewer epochs than marks.
    """
    marks, epochs = width // 10, max(last - 1, 1)
    step = ceil(epochs / marks)
    figure.width = 10 * ceil(epochs / step) * max(marks // epochs, 1)
    figure.set_x_limits(min_=1, max_=1 + step * ceil(epochs / step))
    figure.x_ticks_fkt = lambda epoch, following: round(epoch) if abs(epoch - round(epoch)) < 0.01 else ""


def _clip(value: float) -> float:
    """Return a value whose distance to any other can be divided by."""
    return 0.0 if abs(value) < 1 / LARGEST else max(-LARGEST, min(value, LARGEST))


def _label(value: float, chars: int, *, left: bool) -> str:
    text = format_number(value)
    return text.ljust(chars) if left else text.rjust(chars)
