"""Sheets of natural examples: what a unit answers to in photographs, and the same of matched units beside their nulls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from universality.base.errors import FigureError
from universality.base.names import HAAR_NAME, number
from universality.features.families import FAMILIES
from universality.figures.style import (
    DOUBLE_MM,
    TRAINED,
    Panels,
    canvas,
    distinct,
    drawn_width,
    figure_of,
    style,
    wrapped,
)
from universality.runs.drawn import drawn_taps, spread
from universality.runs.run import Run

MOST_PAIRS = 8
"""Matched pairs on one sheet, spread evenly over the preferred orientation."""
_EACH = 4
"""Examples of each unit, and of each null, beside a matched pair."""
_ARROW = 0.36
"""Length of the arrow, of the side of a picture, from its middle."""
_COLOUR = "#d7191c"


def points_to(family: str) -> bool:
    """Return whether the angle of a family is a direction in the image, so that it can be drawn into one."""
    return FAMILIES[family].angle == "orientation"


def examples(
    found: xr.Dataset,
    unit: pd.Series | None = None,
    *,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw the sheet of one unit: its tuning curve, the pictures that it answers most to, and those at some quantiles of its answers.

    Parameters
    ----------
    found : Dataset
        As `Run.examples` returns it.
    unit : Series, optional
        The unit's row of the table ``units``: its tuning curve and, as an arrow into each picture, its preferred orientation (a line
        without a head for an axis). Left out, neither is drawn.

    Returns
    -------
    array of Axes
        (row, column); the first two rows are the largest answers, the last one the spread.
    """
    top, spread = (found.isel(example=np.flatnonzero(found["kind"].values == kind)) for kind in ("top", "spread"))
    columns = max(-(-top.sizes["example"] // 2), spread.sizes["example"], 1)
    width = drawn_width(figure, width_mm)
    side = width / (columns + (2.2 if unit is not None else 0.2))
    with style():
        sheet = canvas(figure, width_mm, 3 * (side + 3.4) + 9)
        tight(sheet)
        parts: Any = (None, sheet) if unit is None else sheet.subfigures(1, 2, width_ratios=(2, columns))
        left, right = parts
        axes = right.subplots(3, columns, squeeze=False)
        angle = None if unit is None else _angle(unit)
        for row, part in (
            (0, top.isel(example=slice(0, columns))),
            (1, top.isel(example=slice(columns, None))),
            (2, spread),
        ):
            for ax, place in zip(axes[row], range(part.sizes["example"]), strict=False):
                one = part.isel(example=place)
                said = f"{number(float(one['sigma']))} sigma"
                picture(ax, one["image"].values, said if row < 2 else f"{float(one['quantile']):.0%}: {said}", angle)
        for ax in axes.ravel():
            ax.set_axis_off()
        if unit is not None and left is not None:
            _tuning(left.subplots(), unit)
        attrs = found.attrs
        sheet.suptitle(
            wrapped(f"{attrs['model']}, {attrs['tap']}, unit {attrs['unit']}: largest answers over whole pictures, below at quantiles of all answers", width)
        )  # fmt: skip
    return np.asarray(axes)


def tight(sheet: Figure | SubFigure) -> None:
    """Let pictures stand close."""
    if isinstance(sheet, Figure):
        sheet.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)


def _angle(unit: pd.Series) -> tuple[float, bool] | None:
    """Return the preferred orientation, degrees, and whether it has a head; None where it is no direction in the image."""
    family = str(unit["family"])
    if not points_to(family) or not np.isfinite(unit["preferred_deg"]):
        return None
    return float(unit["preferred_deg"]), FAMILIES[family].period_deg == 360.0


def arrow_ends(degrees: float, side: float, headless: bool) -> dict[str, float]:
    """Return both ends of the line that shows an orientation, clockwise from +x, in a square picture; without a head it is an axis."""
    middle, turn = side / 2, np.deg2rad(degrees)
    x, y = (float(_ARROW * side * part) for part in (np.cos(turn), np.sin(turn)))
    begin = (middle - x, middle - y) if headless else (middle, middle)
    return {"x1": round(begin[0], 1), "y1": round(begin[1], 1), "x2": round(middle + x, 1), "y2": round(middle + y, 1)}


def picture(ax: Axes, image: NDArray[np.uint8], said: str, angle: tuple[float, bool] | None = None) -> None:
    """Draw one picture with what is said of it above, and an orientation into it: clockwise from +x, degrees, with a head or without."""
    ax.imshow(image, interpolation="lanczos", aspect="equal")
    ax.set_axis_off()
    ax.set_title(said, fontsize=4.5, pad=1)
    if angle is None:
        return
    degrees, head = angle
    # Pixels are counted between their centres.
    ends = {name: at - 0.5 for name, at in arrow_ends(degrees, image.shape[0], headless=not head).items()}
    arrow: dict[str, Any] = {
        "shrinkA": 0, "shrinkB": 0, "mutation_scale": 4, "color": _COLOUR, "linewidth": 0.7, "arrowstyle": "->" if head else "-",
    }  # fmt: skip
    ax.annotate("", (ends["x2"], ends["y2"]), (ends["x1"], ends["y1"]), arrowprops=arrow, annotation_clip=False)


def _tuning(ax: Axes, unit: pd.Series) -> None:
    family = FAMILIES[str(unit["family"])]
    line = np.asarray(unit["tuning_sigma"], dtype=np.float64)
    angles = np.arange(len(line) + 1) * (family.period_deg / len(line))
    ax.plot(angles, np.append(line, line[0]), color=TRAINED)
    ax.axvline(unit["preferred_deg"], color=_COLOUR, linewidth=0.7)
    ax.set(
        xlim=(0, family.period_deg), xticks=np.linspace(0, family.period_deg, 5), xlabel=f"{family.angle} (degrees)", ylabel="response (sigma)",
    )  # fmt: skip
    state = f"{family.noun[:-1]}, {unit['level']}" if unit["detector"] else f"no {family.noun[:-1]}: {unit['failed']}"
    ax.set_title(wrapped(f"{state}\nprefers {unit['preferred_deg']:.0f} degrees", 38), fontsize=5.5)


@dataclass(frozen=True)
class Matched:
    """A matched pair of units with their examples, and those of their nulls.

    Attributes
    ----------
    row : of the table ``correspondence``
    a, b : examples of both units
    null_a : of the random direction of layer B that resembles unit A most
    null_b : of the random direction of layer A that resembles unit B most
    """

    row: pd.Series
    a: xr.Dataset
    b: xr.Dataset
    null_a: xr.Dataset
    null_b: xr.Dataset


def matched_examples(
    pairs: Sequence[Matched], *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw matched units of two networks side by side, a row each: four examples of A, of B, and of the random directions they have to beat.

    The arrows are the units' own preferred orientations; directions have none.

    Returns
    -------
    array of Axes
        (pair, example)

    Raises
    ------
    FigureError
        No pair is given.
    """
    if not pairs:
        raise FigureError(
            "no pair to draw, expected matched units with their examples; choose another family, method or verdict"
        )
    width = drawn_width(figure, width_mm)
    side = width / (4 * _EACH + 1.6)
    names = distinct([pairs[0].row["model_a"], pairs[0].row["model_b"]])
    a, b = (names[pairs[0].row[f"model_{s}"]] for s in "ab")
    heads = [
        f"A: {a}\n{pairs[0].row['tap_a']}",
        f"B: {b}\n{pairs[0].row['tap_b']}",
        f"the direction of B's layer\nmost like A ({HAAR_NAME})",
        f"the direction of A's layer\nmost like B ({HAAR_NAME})",
    ]
    with style():
        sheet = canvas(figure, width_mm, len(pairs) * (side + 5.2) + 12)
        tight(sheet)
        axes = np.empty((len(pairs), 4 * _EACH), dtype=object)
        blocks: Any = sheet.subfigures(1, 4, wspace=0.02)
        for block, part in enumerate(blocks):
            axes[:, _EACH * block : _EACH * (block + 1)] = part.subplots(len(pairs), _EACH, squeeze=False)
            part.suptitle(heads[block], fontsize=5.5)
        for line, pair in zip(axes, pairs, strict=True):
            family = str(pair.row["family"])
            head = FAMILIES[family].period_deg == 360.0
            for block, found in enumerate((pair.a, pair.b, pair.null_a, pair.null_b)):
                angle = float(pair.row[f"preferred_{'ab'[block]}_deg"]) if block < 2 and points_to(family) else None
                _examples_of(
                    line[_EACH * block : _EACH * (block + 1)],
                    found,
                    _said(pair, block),
                    None if angle is None else (angle, head),
                )
    return axes


def _said(pair: Matched, block: int) -> str:
    if block < 2:
        side, other = "ab"[block], pair.row
        more = f", r {number(float(other['r_natural']))}" if block == 1 else ""
        return f"unit {other[f'unit_{side}']}{more}"
    return f"r {number(float((pair.null_a, pair.null_b)[block - 2].attrs['r_natural']))}"


def _examples_of(line: NDArray[np.object_], found: xr.Dataset, said: str, angle: tuple[float, bool] | None) -> None:
    top = found.isel(example=np.flatnonzero(found["kind"].values == "top")[: len(line)])
    for place, ax in enumerate(line):
        ax.set_axis_off()
        if place < top.sizes["example"]:
            picture(ax, top["image"].values[place], "", angle)
    line[0].set_title(said, fontsize=5, pad=1.5, loc="left")


def unit_row(run: Run, model: str, tap: str, unit: int, family: str | None = None) -> pd.Series | None:
    """Return a unit's row of a family's units: that of `family`, or of the family of which it is a detector, or of the run's first.

    None where the run has no units.
    """
    if not run.has("units"):
        return None
    units = run.units
    here = units[(units["model"] == model) & (units["tap"] == tap) & (units["unit"] == unit) & (units["seed"] == -1)]
    here = here if family is None else here[here["family"] == family]
    here = here.sort_values("detector", ascending=False, kind="stable")
    return None if here.empty else here.iloc[0]


def sheet_of(run: Run, model: str, tap: str, unit: int, family: str | None = None) -> tuple[xr.Dataset, Figure, str]:
    """Return a unit's examples, their sheet, and its caption."""
    found = run.examples(model, tap, unit)
    row = unit_row(run, model, tap, unit, family)
    caption = (
        f"Unit {unit} of {model} at {tap}: the middle half of its receptive field where it answers most, in the ten pictures with the largest "
        "answers, and in pictures at quantiles of its answers to all."
    )
    if row is not None and points_to(str(row["family"])):
        caption += " Arrows: its preferred orientation among drawings."
    return found, figure_of(examples(found, row)), caption


def matched_of(run: Run, row: pd.Series) -> Matched:
    """Return a matched pair, a row of the table ``correspondence``, with its examples and those of its nulls."""
    a, b = ((str(row[f"model_{s}"]), str(row[f"tap_{s}"]), int(row[f"unit_{s}"])) for s in "ab")
    gallery = run.gallery
    return Matched(
        row, run.examples(*a), run.examples(*b), gallery.of_null(a, b[0], b[1]), gallery.of_null(b, a[0], a[1])
    )


def matched_rows(run: Run, family: str, pair: tuple[str, str], most: int = MOST_PAIRS) -> pd.DataFrame:
    """Return the matched pairs of two networks that a sheet shows: with the verdict same_feature, else pairs of two detectors, by orientation."""
    table = run.correspondence
    a, b = pair
    here = table[
        (table["model_a"] == a)
        & (table["model_b"] == b)
        & (table["family"] == family)
        & (table["method"] == run.job.matched_by())
    ]
    taps = drawn_taps(run.similarity, run.families, family, a, b)
    at = here[(here["tap_a"] == taps[0]) & (here["tap_b"] == taps[1])]
    same = at[at["verdict"] == "same_feature"]
    both = at[at["detector_a"] & at["detector_b"]]
    return spread((both if same.empty else same).sort_values("preferred_a_deg", kind="stable"), most)


def matched_sheets(run: Run, family: str | None = None) -> Iterator[tuple[str, Figure, str]]:
    """Yield stem, sheet and caption of the matched units of each drawn pair of networks and family that has any."""
    for pair in run.job.drawn():
        for name in run.job.comparison.families if family is None else [family]:
            rows = matched_rows(run, name, pair)
            if rows.empty:
                continue
            pairs = [matched_of(run, row) for _, row in rows.iterrows()]
            verdict = (
                "with the verdict same_feature" if (rows["verdict"] == "same_feature").all() else "of two detectors"
            )
            caption = (
                f"{FAMILIES[name].noun.capitalize()} of {pair[0]} and {pair[1]} matched {verdict}, spread evenly over {FAMILIES[name].angle}: where in "
                "whole pictures both units answer most, and the same of the random directions of either layer that resemble them most. Arrows: "
                "preferred orientation among drawings; r on held-out natural images."
            )
            stem = "__".join(("matched_examples", name, *(model.replace("/", ".", 1) for model in pair)))
            yield stem, figure_of(matched_examples(pairs)), caption
