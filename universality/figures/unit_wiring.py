"""Wiring of units: the strongest sources of a unit, and the weights of two matched units side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray

from universality.base.names import number
from universality.features.families import FAMILIES
from universality.figures.style import (
    DOUBLE_MM,
    MM,
    PAGE_MM,
    TRAINED,
    Labels,
    Panels,
    below,
    canvas,
    columns_for,
    drawn_width,
    fitted,
    key_of,
    lines_mm,
    style,
    wrapped,
)
from universality.figures.weight_maps import (
    BINS,
    EXCITES,
    INHIBITS,
    LAYER,
    SAID_PT,
    family_word,
    framed,
    label_width,
    map_rows,
    mapped,
    names_of,
    period_of,
    show_map,
)

MOST_UNITS = 4
MOST_PAIRS = 4
EACH_SIGN = 5
"""Sources of each sign in a diagram."""
_ROW_MM = 8.2
"""Height of a source in a diagram: of three lines of text, or of its icon."""
_WIDEST_MM, _LABEL_MM, _OWN_MM, _HEAD_MM = 90.0, 11.5, 8.0, 8.5
"""Widths of a diagram, of the text beside its sources and of the unit's own icon; height of the unit's name."""
_TITLE_PT = 5.5

# a unit's circuit -----------------------------------------------------------------------------------------------------


def strongest(edges: pd.DataFrame, each: int = EACH_SIGN) -> pd.DataFrame:
    """Return the sources of one unit that excite it most, from the strongest, then those that inhibit it most, the strongest last."""
    order = edges.sort_values("weight", ascending=False, kind="stable")
    return pd.concat([order[order["weight"] > 0].head(each), order[order["weight"] < 0].tail(each)])


def drawn_units(edges: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Return the detectors whose circuits are drawn: of each network the one with the largest score at the last tap that has edges; keys and preferred angle."""
    known = units[(units["seed"] == -1) & units["detector"]]
    held = edges[[*LAYER, "unit"]].drop_duplicates().rename(columns={"target_tap": "tap"})
    both = held.merge(known, on=["model", "tap", "unit"], how="inner")
    if both.empty:
        return both
    last = both.groupby("model", sort=False)["tap"].transform("last")
    best = both[both["tap"] == last].sort_values("score", ascending=False, kind="stable").drop_duplicates("model")
    return best.sort_index().iloc[:MOST_UNITS].reset_index(drop=True)


def diagram_data(edges: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Return what `unit_circuits` draws: the strongest sources of each unit that it draws."""
    parts = []
    for row in drawn_units(edges, units).to_dict("records"):
        parts.append(strongest(_edges_of(edges, row["model"], row["tap"], row["unit"])).drop(columns=["map"]))
    return pd.concat(parts, ignore_index=True) if parts else edges.drop(columns=["map"]).head(0)


def _edges_of(edges: pd.DataFrame, model: str, tap: str, unit: int) -> pd.DataFrame:
    found: pd.DataFrame = edges[(edges["model"] == model) & (edges["target_tap"] == tap) & (edges["unit"] == unit)]
    return found


def unit_circuits(
    edges: pd.DataFrame,
    units: pd.DataFrame,
    noun: str,
    *,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw the circuits of one detector of each network: see `circuit_diagram`.

    Parameters
    ----------
    edges : DataFrame
        The table ``edges``.
    units : DataFrame
        Rows of the table ``units`` of one family: its detectors are drawn, and tuning curves come from it.
    noun : str
        What the detectors are called.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (1, unit), the unit's own icon in each diagram.
    """
    chosen = drawn_units(edges, units)
    width = drawn_width(figure, width_mm)
    if not len(chosen):
        with style():
            sheet = canvas(figure, width_mm, 15)
            ax = sheet.subplots()
            ax.set_axis_off()
            ax.text(0.5, 0.5, f"no {noun} with weights from a tap before", ha="center", transform=ax.transAxes)
        return np.array([[ax]], dtype=object)
    columns = columns_for(width, len(chosen), double=4)
    names = names_of(chosen["model"], chosen["tap"], width / columns - 3, _TITLE_PT)
    said = wrapped(f"strongest sources of one of the {noun} of each network", width, 7)
    return _diagrams(
        [_edges_of(edges, row["model"], row["tap"], row["unit"]) for row in chosen.to_dict("records")],
        units,
        names,
        columns,
        said,
        figure,
        width_mm,
    )


def circuit_diagram(
    edges: pd.DataFrame, units: pd.DataFrame, pictures: Mapping[tuple[str, int], NDArray[np.uint8]] | None = None, *,
    figure: Figure | SubFigure | None = None, width_mm: float = 70.0,
) -> Axes:  # fmt: skip
    """Draw one unit with the sources that excite it most (red, above) and that inhibit it most (blue, below); the width of a line is the weight.

    Dashed lines are no stronger than 95 % of the weights into the same unit of untrained twins. Beside each source is its map of weights; its icon is its tuning curve over the
    angles of the family of `units`, or a picture of what it answers to.

    Parameters
    ----------
    edges : DataFrame
        Rows of the table ``edges`` of one unit.
    units : DataFrame
        Rows of the table ``units`` of one family.
    pictures : mapping, optional
        By tap and unit, (y, x, channel) uint8: shown instead of tuning curves.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    Axes
        Of the unit's own icon.
    """
    first = edges.iloc[0]
    width = drawn_width(figure, width_mm)
    names = names_of([first["model"]], [first["target_tap"]], width - 3, _TITLE_PT)
    ax: Axes = _diagrams([edges], units, names, 1, "", figure, width_mm, pictures)[0, 0]
    return ax


def _diagrams(
    each: list[pd.DataFrame],
    units: pd.DataFrame,
    names: Labels,
    columns: int,
    title: str,
    figure: Figure | SubFigure | None,
    width_mm: float,
    pictures: Mapping[tuple[str, int], NDArray[np.uint8]] | None = None,
) -> Panels:
    """Draw diagrams in rows and columns on one sheet, below a title and above the key to `names`; return the units' own icons."""
    width, rows = drawn_width(figure, width_mm), -(-len(each) // columns)
    key = key_of(names.key, width)
    above, under = lines_mm(title, 7) + 3, lines_mm(key, 5.5) + 2
    height = min(above + under + rows * (_HEAD_MM + 2 * EACH_SIGN * _ROW_MM + 2), PAGE_MM)
    with style():
        sheet = canvas(figure, width_mm, height)
        if isinstance(sheet, Figure):
            # Icons are placed by hand: lines between them have to start and end where they are.
            sheet.set_layout_engine("none")
        height = float(sheet.bbox.height / sheet.dpi / MM)
        if title:
            sheet.suptitle(title, fontsize=7, y=1 - 1 / height)
        below(sheet, key)
        one = (height - above - under) / rows
        own = []
        for place, edges in enumerate(each):
            row, column = divmod(place, columns)
            box = _Box(sheet, width, height, column * width / columns, height - above - (row + 1) * one)
            own.append(_diagram(box, edges, units, names, min(width / columns, _WIDEST_MM), one, pictures))
        return np.array([own], dtype=object)


@dataclass(frozen=True)
class _Box:
    """A part of a sheet, in which things are placed in mm from its lower left corner."""

    sheet: Figure | SubFigure
    sheet_mm: float
    sheet_high_mm: float
    left_mm: float
    bottom_mm: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (self.left_mm + x) / self.sheet_mm, (self.bottom_mm + y) / self.sheet_high_mm

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        ax: Axes = self.sheet.add_axes((*self.at(x, y), width / self.sheet_mm, height / self.sheet_high_mm))
        ax.set_in_layout(False)
        return ax

    def text(self, x: float, y: float, text: str, **how: Any) -> None:
        self.sheet.text(*self.at(x, y), text, in_layout=False, **how)


def _diagram(
    box: _Box,
    edges: pd.DataFrame,
    units: pd.DataFrame,
    names: Labels,
    width: float,
    height: float,
    pictures: Mapping[tuple[str, int], NDArray[np.uint8]] | None,
) -> Axes:
    """Draw one unit and its strongest sources into a box of that width and height, mm."""
    shown, first = strongest(edges), edges.iloc[0]
    curves = {
        (row["tap"], row["unit"]): row
        for row in units[(units["model"] == first["model"]) & (units["seed"] == -1)].to_dict("records")
    }
    most = max(float(shown["weight"].abs().max()), 1e-12)
    highest = max(float(np.abs(np.concatenate(list(shown["map"]))).max()), 1e-12)
    body = height - _HEAD_MM - 2
    row_mm = body / max(len(shown), 2 * EACH_SIGN)
    tap, unit = str(first["target_tap"]), int(first["unit"])
    said = f"{names.of[str(first['model'])]}\n{names.of[tap]}\nunit {unit}{_degrees(curves.get((tap, unit)))}"
    box.text(width / 2, height - 0.5, said, ha="center", va="top", fontsize=_TITLE_PT)
    own = box.axes(width - _OWN_MM - 1, 2 + body / 2 - 7, _OWN_MM, 14)
    _icon(own, tap, unit, curves, pictures, TRAINED)
    for k, row in enumerate(shown.to_dict("records")):
        colour = EXCITES if row["weight"] > 0 else INHIBITS
        middle = 2 + body - (k + 0.5) * row_mm
        side = min(0.8 * row_mm, 6.0)
        icon = box.axes(_LABEL_MM + 0.8, middle - side / 2, 6.5, side)
        _icon(icon, str(row["source_tap"]), int(row["source_unit"]), curves, pictures, colour)
        box.text(_LABEL_MM, middle, _source(row, curves), ha="right", va="center", fontsize=SAID_PT)
        field = box.axes(_LABEL_MM + 8, middle - side / 2, side, side)
        show_map(field, mapped(row["map"]), highest)
        weight = number(row["weight"], 1 if most < 100 else 0)
        box.text(_LABEL_MM + 8.5 + side, middle, weight, fontsize=SAID_PT, color=colour, va="center")
        dashed = abs(row["weight"]) <= row["untrained_95"]
        line = ConnectionPatch(
            ((side + 6.0) / side, 0.5), (-0.02, 0.95 - 0.9 * (k + 0.5) / len(shown)), "axes fraction", "axes fraction", axesA=field, axesB=own, color=colour,
            linewidth=0.3 + 1.9 * abs(row["weight"]) / most, linestyle=(0, (2, 1.5)) if dashed else "-", alpha=0.8,
        )  # fmt: skip
        line.set_in_layout(False)
        box.sheet.add_artist(line)
    return own


def _degrees(row: Mapping[str, Any] | None) -> str:
    """Return the preferred angle of a detector, behind a comma."""
    return f", {row['preferred_deg']:.0f}°" if row is not None and row["detector"] else ""


def _source(row: Mapping[Any, Any], curves: Mapping[tuple[str, int], Any]) -> str:
    """Return the number of a source and the preferred angle that its icon shows; of a detector of another family that family and its angle."""
    own = _degrees(curves.get((row["source_tap"], row["source_unit"])))
    if own or not row["source_family"]:
        return f"{row['source_unit']}{own}"
    # Behind a space that does not break a name may be broken, behind a common one it is not.
    word = family_word(row["source_family"]).replace(" ", "\N{NO-BREAK SPACE}")
    family = fitted([word], _LABEL_MM - 0.5, points=SAID_PT, lines=3).of[word].replace("\N{NO-BREAK SPACE}\n", "\n")
    return f"{row['source_unit']}, {row['source_deg']:.0f}°\n{family}"


def _icon(
    ax: Axes, tap: str, unit: int, curves: Mapping[tuple[str, int], Any], pictures: Mapping[tuple[str, int], NDArray[np.uint8]] | None, colour: str
) -> None:  # fmt: skip
    """Draw what a unit answers to: a picture, or its tuning curve."""
    framed(ax)
    if pictures is not None and (tap, unit) in pictures:
        ax.imshow(pictures[tap, unit], aspect="auto")
        return
    row = curves.get((tap, unit))
    if row is None:
        return
    line = np.maximum(np.append(row["tuning_sigma"], row["tuning_sigma"][0]).astype(np.float64), 0.0)
    ax.fill_between(np.arange(len(line)), line, color=colour if row["detector"] else "0.6", alpha=0.7, linewidth=0)
    ax.set(xlim=(0, len(line) - 1), ylim=(0, max(float(line.max()), 1e-12) * 1.05))


# matched units --------------------------------------------------------------------------------------------------------


def paired_maps(edges: pd.DataFrame, unit: tuple[str, str, int], degrees: float, family: str) -> pd.DataFrame:
    """Return the mean map of one unit's sources of a family by difference of preferred angles: difference_deg, n_sources, map; differences without any are missing.

    Parameters
    ----------
    edges : the table of this name
    unit : model, tap and number
    degrees : its preferred angle
    """
    own = _edges_of(edges, *unit)
    own = own[own["source_family"] == family]
    period = FAMILIES[family].period_deg
    bins = np.rint((own["source_deg"].to_numpy(np.float64) - degrees) / period * BINS).astype(int) % BINS
    rows = [
        {"difference_deg": period * k / BINS, "n_sources": int((bins == k).sum()), "map": np.mean(np.stack(list(own["map"][bins == k])), axis=0)}
        for k in range(BINS) if (bins == k).any()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["difference_deg", "n_sources", "map"])


def chosen_pairs(
    correspondence: pd.DataFrame, edges: pd.DataFrame, method: str, most: int = MOST_PAIRS
) -> pd.DataFrame:
    """Return matched pairs of two detectors that both have edges: those that are the same feature first, of these those of the largest held-out r."""
    held = edges[["model", "target_tap", "unit"]].drop_duplicates()
    found = correspondence[
        (correspondence["method"] == method) & correspondence["detector_a"] & correspondence["detector_b"]
    ]
    for side in "ab":
        found = found.merge(held.set_axis([f"model_{side}", f"tap_{side}", f"unit_{side}"], axis=1))
    same = found["verdict"] == "same_feature"
    return (
        found.assign(_same=same)
        .sort_values(["_same", "r_natural"], ascending=False, kind="stable")
        .head(most)
        .drop(columns="_same")
        .reset_index(drop=True)
    )


def matched_weights_data(correspondence: pd.DataFrame, edges: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return what `matched_weights` draws: a row for each unit, difference of angles and square."""
    parts = []
    for pair, row in enumerate(chosen_pairs(correspondence, edges, method).to_dict("records")):
        for side in "ab":
            unit = str(row[f"model_{side}"]), str(row[f"tap_{side}"]), int(row[f"unit_{side}"])
            for found in paired_maps(edges, unit, row[f"preferred_{side}_deg"], row["family"]).to_dict("records"):
                parts.append(pd.DataFrame({
                    "pair": pair, "model": unit[0], "tap": unit[1], "unit": unit[2], "r_natural": row["r_natural"], "verdict": row["verdict"],
                    "difference_deg": found["difference_deg"], "n_sources": found["n_sources"], "square": np.arange(len(found["map"])), "weight": found["map"],
                }))  # fmt: skip
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["pair", "model", "tap", "unit", "weight"])
    )


def matched_weights(
    correspondence: pd.DataFrame, edges: pd.DataFrame, noun: str, *, method: str, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:  # fmt: skip
    """Draw the incoming weights of matched detectors side by side: mean maps of their sources of the same family, by the difference of preferred angles.

    Parameters
    ----------
    correspondence : DataFrame
        Rows of the table ``correspondence`` of one family and one pair of models.
    edges : DataFrame
        The table ``edges``.
    noun : str
        What the units are called.
    method : str
        How they were matched.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (unit, difference): the two units of a pair one below the other, each on its own scale; panels without sources are switched off.
    """
    pairs = chosen_pairs(correspondence, edges, method).to_dict("records")
    room = label_width(drawn_width(figure, width_mm))
    units = [
        (row, side, (str(row[f"model_{side}"]), str(row[f"tap_{side}"]), int(row[f"unit_{side}"])))
        for row in pairs
        for side in "ab"
    ]
    names = names_of((unit[0] for *_, unit in units), (unit[1] for *_, unit in units), room)
    labels = []
    for row, side, (model, tap, unit) in units:
        matched = f"\nr {number(row['r_natural'])}, {row['verdict'].replace('_', ' ')}" if side == "a" else ""
        labels.append(f"{names.of[model]}\n{names.of[tap]}\nunit {unit}, {row[f'preferred_{side}_deg']:.0f}°{matched}")
    period = period_of(pairs[0]["family"]) if pairs else 360.0
    title = (
        f"incoming weights of matched {noun} from {noun} of the tap before, by the preferred angle of the source less their own"
        if pairs
        else f"no matched {noun} with weights from a tap before"
    )
    heads = [f"{period * k / BINS:g}°" for k in range(BINS)]
    axes = map_rows(figure, width_mm, labels, heads, title, dict(names.key))
    with style():
        for line, (row, side, whole) in zip(axes, units, strict=False):
            found = paired_maps(edges, whole, row[f"preferred_{side}_deg"], row["family"])
            most = max((float(np.abs(one).max()) for one in found["map"]), default=1.0)
            for part in found.to_dict("records"):
                ax = line[round(part["difference_deg"] / period * BINS)]
                show_map(ax, mapped(part["map"]), most)
                ax.set_xlabel(f"{part['n_sources']}", fontsize=SAID_PT, labelpad=1)
    return axes
