"""Which taps of which models hold matched detectors, as chords of a circle."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from universality.base.names import HAAR_NAME, number
from universality.figures.style import (
    DOUBLE_MM,
    TRAINED,
    UNTRAINED,
    Panels,
    canvas,
    columns_for,
    distinct,
    drawn_width,
    key_of,
    legend_below,
    lines_mm,
    style,
    wrapped,
)
from universality.similarity.matching import HOW

NETWORKS = {
    "": "trained",
    "_random": "trained, all units matched\nat random (expected)",
    "_untrained": "untrained twins",
    "_haar": f"one of both in a\n{HAAR_NAME}",
}
"""Ending of the columns of a panel: its title. What is drawn, and the three nulls it stands beside."""
_SAME = "#08306b"
_WIDEST_PT = 5.0
_ARC = 0.72
"""Share of a model's sector that its taps take."""
_KEYS = ["model_a", "tap_a", "depth_a", "model_b", "tap_b", "depth_b", "n_detectors_a", "n_detectors_b"]


def chord_data(pairs: pd.DataFrame, *, method: str) -> pd.DataFrame:
    """Return what `correspondence_chords` draws: one row per pair of taps, of the matches by one `method`.

    `n_met_random` is what a one-to-one matching at random of all units of the narrower layer gives in the mean, detectors of
    A x detectors of B / units of the wider layer. Verdicts need partners, so there is no such number of them (NaN).
    """
    rows = pairs[pairs["method"] == method].reset_index(drop=True)
    # Of both shares the one of the wider layer counts: of the narrower layer's matches all are made.
    of_a, of_b = rows["n_detectors_a"] * rows["share_b"], rows["n_detectors_b"] * rows["share_a"]
    rows = rows.assign(n_met_random=np.minimum(of_a, of_b), n_same_feature_random=np.nan)
    counts = [f"{name}{ending}" for name in ("n_met", "n_same_feature") for ending in NETWORKS]
    return rows[[*_KEYS, *counts]]


def places(drawn: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """Return where on the unit circle each tap (model, tap) lies: models clockwise from the top, taps by depth within."""
    ends = [drawn[[f"model_{x}", f"tap_{x}", f"depth_{x}"]].set_axis(["model", "tap", "depth"], axis=1) for x in "ab"]
    nodes = pd.concat(ends, ignore_index=True).drop_duplicates(["model", "tap"])
    models = list(dict.fromkeys(nodes["model"]))
    found = {}
    for place, model in enumerate(models):
        taps = nodes[nodes["model"] == model].sort_values("depth", kind="stable")["tap"]
        steps = (np.arange(len(taps)) + 0.5) / len(taps) - 0.5
        for step, tap in zip(steps, taps, strict=True):
            turn = np.pi / 2 - 2 * np.pi * (place + _ARC * step) / len(models)
            found[str(model), str(tap)] = (float(np.cos(turn)), float(np.sin(turn)))
    return found


def correspondence_chords(
    pairs: pd.DataFrame,
    noun: str = "detectors",
    *,
    method: str,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw the matched detectors of one family between all taps of all models as chords, beside three nulls on one scale.

    A point is a tap, its area the number of its detectors; a light chord is as wide as the number of matched pairs in which
    both units are detectors, the dark one on it as the number of those with the verdict ``same_feature``. A hairline is
    a pair of taps that was compared; where there is none, nothing was.

    Parameters
    ----------
    pairs : DataFrame
        Rows of the table ``pairs`` of one family.
    noun : str
        What its units are called.
    method : str
        How units were matched, as in the column of that name: rows of other methods are left out.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column), panels in the order of `NETWORKS`.
    """
    drawn = chord_data(pairs, method=method)
    models = list(dict.fromkeys([*drawn["model_a"], *drawn["model_b"]]))
    width = drawn_width(figure, width_mm)
    columns = 2 if columns_for(width, 4, double=4) < 4 else 4
    rows = len(NETWORKS) // columns
    key = key_of({str(place): name for place, name in enumerate(distinct(models).values(), 1)}, width, sign=" ")
    with style():
        sheet = canvas(figure, width_mm, rows * (width / columns + 11) + 15 + lines_mm(key, 5.5) - lines_mm("x", 5.5))
        axes = sheet.subplots(rows, columns, squeeze=False)
        scale = _WIDEST_PT / max(float(np.nanmax(drawn.filter(like="n_met").to_numpy(), initial=0.0)), 1.0)
        for ax, (ending, title) in zip(axes.ravel(), NETWORKS.items(), strict=True):
            _circle(ax, drawn, ending, scale, {model: str(place) for place, model in enumerate(models, 1)})
            ax.set_title(f"{title}\n{_total(drawn, ending)}")
        title = f"{noun} matched {HOW[method]} between networks: pairs of detectors, summed over pairs of taps"
        sheet.suptitle(wrapped(title, width, 7), fontsize=7)
        legend_below(sheet, axes[0, 0], width, handles=_samples(scale), title=key)
    return axes


def _total(drawn: pd.DataFrame, ending: str) -> str:
    met, same = drawn[f"n_met{ending}"].sum(), drawn[f"n_same_feature{ending}"]
    said = f"{number(met, 0 if ending == '' else 1)} pairs"
    return said if same.isna().all() else f"{said}, {number(same.sum(), 0 if ending == '' else 1)} same feature"


def _circle(ax: Axes, drawn: pd.DataFrame, ending: str, scale: float, names: dict[str, str]) -> None:
    where = places(drawn)
    for row in drawn.to_dict("records"):
        ends = where[row["model_a"], row["tap_a"]], where[row["model_b"], row["tap_b"]]
        ax.add_patch(_chord(*ends, 0.2, "0.85", "compared", 1))
        for name, colour, above in (("n_met", "#9ecae1", 2), ("n_same_feature", _SAME, 3)):
            if row[f"{name}{ending}"] > 0:
                ax.add_patch(_chord(*ends, scale * row[f"{name}{ending}"], colour, name, above))
    counts = {
        (row[f"model_{x}"], row[f"tap_{x}"]): row[f"n_detectors_{x}"] for row in drawn.to_dict("records") for x in "ab"
    }
    # Detectors of the trained layers: in panels of other networks they would not be the points' own.
    trained = ending in ("", "_random")
    area = [1.0 + (0.6 * counts[node] if trained else 0.0) for node in where]
    points = np.array(list(where.values()), dtype=np.float64)
    ax.scatter(points[:, 0], points[:, 1], s=area, color=TRAINED if trained else UNTRAINED, linewidths=0, zorder=4)
    for model, name in names.items():
        x, y = np.mean([point for (owner, _), point in where.items() if owner == model], axis=0)
        away = 1.16 / np.hypot(x, y)
        ax.text(x * away, y * away, name, ha="center", va="center", fontsize=6)
    ax.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
    ax.set_axis_off()


def _chord(
    a: tuple[float, float], b: tuple[float, float], width_pt: float, colour: str, name: str, above: int
) -> PathPatch:
    """Return a line from a to b that bends towards the centre; its id (`gid`) says what it stands for."""
    centre: NDArray[np.float64] = np.zeros(2)
    path = Path([a, tuple(centre), b], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    return PathPatch(path, fill=False, linewidth=width_pt, edgecolor=colour, zorder=above, capstyle="butt", gid=name)


def _samples(scale: float) -> list[Line2D]:
    shown = max(1, round(_WIDEST_PT / scale / 2))
    return [
        Line2D([], [], color="#9ecae1", linewidth=scale * shown, label=f"matched pairs of detectors ({shown})"),
        Line2D([], [], color=_SAME, linewidth=scale * shown, label=f"of these, same feature ({shown})"),
        Line2D([], [], color="0.85", linewidth=0.2, label="compared, none matched"),
        Line2D([], [], color=TRAINED, marker="o", markersize=2.5, linewidth=0, label="tap (area: its detectors)"),
    ]
