"""Wiring: where in a field sources lie, how far weights follow angles alone, the strongest sources of a unit, and the weights of two matched units side by side."""

from __future__ import annotations

from collections.abc import Mapping
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
    PAGE_MM,
    TRAINED,
    Panels,
    canvas,
    columns_for,
    distinct,
    drawn_width,
    fitted,
    key_of,
    lines_mm,
    plain,
    style,
    wrapped,
)

EXCITES, INHIBITS = "#b2182b", "#2166ac"
COLOURS = "RdBu_r"
"""Of weights: red excites, blue inhibits."""
BINS = 8
MOST_ROWS = 12
MOST_MATRICES = 16
MOST_UNITS = 4
MOST_PAIRS = 4
EACH_SIGN = 5
"""Sources of each sign in a diagram."""
_LAYER = ["model", "source_tap", "target_tap"]


def _noun(family: str) -> str:
    return FAMILIES[family].noun if family in FAMILIES else family or "no family"


def _mapped(values: Any) -> NDArray[np.float64]:
    flat = np.asarray(values, dtype=np.float64)
    side = round(flat.size**0.5)
    return flat.reshape(side, side)


def _show(ax: Axes, image: NDArray[np.float64], most: float) -> Any:
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.3)
    return ax.imshow(image, cmap=COLOURS, vmin=-most, vmax=most, interpolation="nearest")


# layouts --------------------------------------------------------------------------------------------------------------


def layout_data(laid: pd.DataFrame) -> pd.DataFrame:
    """Return what `field_layouts` draws: a row for each square of each map, with the quantiles of other sources, of the first `MOST_ROWS` families of sources and layers."""
    rows = laid[laid["frame"] == "own"]
    groups = rows[[*_LAYER, "source_family"]].drop_duplicates().iloc[:MOST_ROWS]
    parts = []
    for row in rows.merge(groups).to_dict("records"):
        maps = {name: _mapped(row[name]) for name in ("map", "map_null_low", "map_null_high")}
        y, x = np.indices(maps["map"].shape)
        facts = {
            name: row[name]
            for name in (
                *_LAYER,
                "source_family",
                "target_family",
                "difference_deg",
                "n_sources",
                "n_targets",
                "square_px",
            )
        }
        middle = (len(maps["map"]) - 1) / 2
        parts.append(pd.DataFrame({
            **facts, "u_px": ((x - middle) * row["square_px"]).ravel(), "v_px": ((y - middle) * row["square_px"]).ravel(), "weight": maps["map"].ravel(),
            "null_low": maps["map_null_low"].ravel(), "null_high": maps["map_null_high"].ravel(),
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*_LAYER, "source_family", "weight"])


def field_layouts(
    laid: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw where in their field detectors of one family are excited and inhibited, by difference of preferred angles, one row per layer and family of sources.

    Maps are means over the targets, each turned so that its preferred direction points to the right. The second column is the middle of the null: labels exchanged, norms
    kept. A dot marks a square outside 95 % of these. Each row has its own scale.

    Parameters
    ----------
    laid : DataFrame
        Rows of the table ``layouts`` that have one family of targets.
    noun : str
        What the targets are called.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column): all sources, the null, then each difference; panels without sources are switched off.
    """
    own = laid[laid["frame"] == "own"]
    groups = list(own.groupby([*_LAYER, "source_family"], sort=False))[:MOST_ROWS]
    period = max((FAMILIES[f].period_deg for f in own["target_family"] if f in FAMILIES), default=360.0)
    width, columns = drawn_width(figure, width_mm), 2 + BINS
    names = distinct(own["model"])
    side = (width - 30) / columns
    with style():
        sheet = canvas(figure, width_mm, min(14 + (side + 3) * max(len(groups), 1), PAGE_MM))
        axes = sheet.subplots(max(len(groups), 1), columns, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for line, ((model, first, second, source), rows) in zip(axes, groups, strict=False):
            whole = rows[rows["difference_deg"].isna()]
            most = max(float(np.abs(np.concatenate(list(rows["map"]))).max()), 1e-12)
            at = {0: whole.iloc[0]} if len(whole) else {}
            at |= {
                2 + round(BINS * row["difference_deg"] / period) % BINS: row
                for _, row in rows[rows["difference_deg"].notna()].iterrows()
            }
            for column, row in at.items():
                _layout(line[column], row, most)
            if len(whole):
                line[1].set_axis_on()
                _show(
                    line[1],
                    (_mapped(whole["map_null_low"].iloc[0]) + _mapped(whole["map_null_high"].iloc[0])) / 2,
                    most,
                )
            said = f"{names[str(model)]}\n{plain(str(first))} to {plain(str(second))}\nfrom {_noun(str(source))}"
            line[0].text(
                -0.12, 0.5, wrapped(said, 27, 5), transform=line[0].transAxes, ha="right", va="center", fontsize=4.8
            )
        heads = ["all", "null", *(f"{period * k / BINS:g}°" for k in range(BINS))]
        for ax, head in zip(axes[0], heads, strict=True):
            ax.set_title(head, fontsize=6)
        sheet.suptitle(
            wrapped(f"weights into {noun}, in their field turned so that the preferred angle points to the right, by the angle of the source less that of the target", width, 7),
            fontsize=7,
        )  # fmt: skip
    return axes


def _layout(ax: Axes, row: pd.Series, most: float) -> None:
    ax.set_axis_on()
    image, low, high = (_mapped(row[name]) for name in ("map", "map_null_low", "map_null_high"))
    _show(ax, image, most)
    y, x = np.nonzero((image < low) | (image > high))
    ax.plot(x, y, ".", color="black", markersize=1.5)
    ax.set_xlabel(f"{row['n_sources']}", fontsize=4.5, labelpad=1)


# equivariance ---------------------------------------------------------------------------------------------------------


def equivariance_data(matrices: pd.DataFrame) -> pd.DataFrame:
    """Return what `equivariance_matrices` draws: a row for each cell of the first `MOST_MATRICES` matrices."""
    parts = []
    for row in matrices.iloc[:MOST_MATRICES].to_dict("records"):
        matrix = _mapped(row["matrix"])
        target, source = np.indices(matrix.shape)
        facts = {
            name: row[name]
            for name in (*_LAYER, "source_family", "target_family", "share", "share_permuted_95", "share_untrained")
        }
        parts.append(
            pd.DataFrame(
                {**facts, "target_bin": target.ravel(), "source_bin": source.ravel(), "weight": matrix.ravel()}
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*_LAYER, "source_family", "weight"])


def equivariance_matrices(
    matrices: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw mean weights by preferred angle of target and source, one panel per layer and family of sources: stripes along the diagonal are equivariance.

    Parameters
    ----------
    matrices : DataFrame
        Rows of the table ``equivariance`` that have one family of targets.
    noun : str
        What the targets are called.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column); each panel has its own scale, grey where no unit prefers an angle; panels beyond the last are switched off.
    """
    drawn = matrices.iloc[:MOST_MATRICES]
    width = drawn_width(figure, width_mm)
    columns = columns_for(width, max(len(drawn), 1), double=4)
    rows = max(-(-len(drawn) // columns), 1)
    names = fitted(list(dict.fromkeys(drawn["model"])), (width - 6) / columns - 3, points=6, lines=1)
    key = key_of(names.key, width)
    side = (width - 6) / columns - 8
    with style():
        sheet = canvas(figure, width_mm, min(16 + (side + 16) * rows + lines_mm(key, 5.5), PAGE_MM))
        axes = sheet.subplots(rows, columns, squeeze=False)
        for ax, row in zip(axes.ravel(), drawn.to_dict("records"), strict=False):
            matrix = _mapped(row["matrix"])
            ax.set_facecolor("0.9")
            _show(ax, matrix, max(float(np.nanmax(np.abs(matrix), initial=0.0)), 1e-12))
            period = FAMILIES[row["target_family"]].period_deg if row["target_family"] in FAMILIES else 360.0
            ticks = [0, 2, 4, 6]
            ax.set(
                xticks=ticks,
                yticks=ticks,
                xticklabels=[f"{period * k / BINS:g}" for k in ticks],
                yticklabels=[f"{period * k / BINS:g}" for k in ticks],
            )
            said = f"from {_noun(row['source_family'])}\n{plain(row['source_tap'])} to {plain(row['target_tap'])}"
            shares = f"circulant {number(row['share'])} (exchanged {number(row['share_permuted_95'])}, untrained {number(row['share_untrained'])})"
            ax.set_title(wrapped(f"{names.of[row['model']]}\n{said}\n{shares}", side + 8, 5.2), fontsize=5.2)
        for ax in axes.ravel()[len(drawn) :]:
            ax.set_axis_off()
        sheet.supxlabel(f"preferred angle of the source, degrees\n{key}".strip(), fontsize=6)
        sheet.supylabel("of the target, degrees", fontsize=6)
        sheet.suptitle(
            wrapped(f"mean weights into {noun} by both preferred angles; red excites, blue inhibits", width, 7),
            fontsize=7,
        )
    return axes


# a unit's circuit -----------------------------------------------------------------------------------------------------


def strongest(edges: pd.DataFrame, each: int = EACH_SIGN) -> pd.DataFrame:
    """Return the sources of one unit that excite it most, from the strongest, then those that inhibit it most, the strongest last."""
    order = edges.sort_values("weight", ascending=False, kind="stable")
    return pd.concat([order[order["weight"] > 0].head(each), order[order["weight"] < 0].tail(each)])


def drawn_units(edges: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Return the detectors whose circuits are drawn: of each network the one with the largest score at the last tap that has edges; keys and preferred angle."""
    known = units[(units["seed"] == -1) & units["detector"]]
    held = edges[[*_LAYER, "unit"]].drop_duplicates().rename(columns={"target_tap": "tap"})
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
    with style():
        sheet = canvas(figure, width_mm, 82 if len(chosen) else 15)
        if not len(chosen):
            ax = sheet.subplots()
            ax.set_axis_off()
            ax.text(0.5, 0.5, f"no {noun} with weights from a tap before", ha="center", transform=ax.transAxes)
            return np.array([[ax]], dtype=object)
        sheet.suptitle(wrapped(f"strongest sources of one of the {noun} of each network", width, 7), fontsize=7)
        parts: Any = sheet.subfigures(1, len(chosen), squeeze=False)[0]
        return np.array([[
            circuit_diagram(_edges_of(edges, row["model"], row["tap"], row["unit"]), units, figure=part) for part, row in zip(parts, chosen.to_dict("records"), strict=True)
        ]], dtype=object)  # fmt: skip


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
    shown = strongest(edges)
    first = edges.iloc[0]
    curves = {
        (row["tap"], row["unit"]): row
        for row in units[(units["model"] == first["model"]) & (units["seed"] == -1)].to_dict("records")
    }
    most = max(float(shown["weight"].abs().max()), 1e-12)
    highest = max(float(np.abs(np.concatenate(list(shown["map"]))).max()), 1e-12)
    with style():
        sheet = canvas(figure, width_mm, 80)
        if isinstance(sheet, Figure):
            sheet.set_layout_engine("none")
        rows = len(shown)
        # Icons are placed by hand: lines between them have to start and end where they are.
        height = 0.84 / max(rows, 1)
        own = _placed(sheet, (0.76, 0.36, 0.22, 0.2))
        _icon(own, str(first["target_tap"]), int(first["unit"]), curves, pictures, TRAINED)
        own.set_title(
            wrapped(
                f"{distinct([str(first['model'])])[str(first['model'])]}\n{plain(str(first['target_tap']))}, unit {first['unit']}",
                17,
                4.8,
            ),
            fontsize=4.8,
        )
        for k, row in enumerate(shown.to_dict("records")):
            bottom = 0.9 - (k + 1) * height
            colour = EXCITES if row["weight"] > 0 else INHIBITS
            icon = _placed(sheet, (0.15, bottom + 0.1 * height, 0.17, 0.8 * height))
            _icon(icon, str(row["source_tap"]), int(row["source_unit"]), curves, pictures, colour)
            said = f"{row['source_unit']}{_prefers(row, curves)}"
            icon.text(
                -0.1,
                0.5,
                said,
                transform=icon.transAxes,
                ha="right",
                va="center",
                fontsize=4.6,
                fontweight="bold" if row["source_family"] else None,
            )
            field = _placed(sheet, (0.34, bottom + 0.1 * height, 0.12, 0.8 * height))
            _show(field, _mapped(row["map"]), highest)
            end = 0.95 - 0.9 * (k + 0.5) / rows
            line = ConnectionPatch(
                (1.75, 0.5), (-0.02, end), "axes fraction", "axes fraction", axesA=field, axesB=own, color=colour,
                linewidth=0.3 + 2.2 * abs(row["weight"]) / most, linestyle=(0, (2, 1.5)) if abs(row["weight"]) <= row["untrained_95"] else "-", alpha=0.8,
            )  # fmt: skip
            sheet.add_artist(line)
            field.text(
                1.08,
                0.5,
                number(row["weight"], 1 if most < 100 else 0),
                transform=field.transAxes,
                fontsize=4.5,
                color=colour,
                va="center",
            )
    return own


def _prefers(row: Mapping[Any, Any], curves: Mapping[tuple[str, int], Any]) -> str:
    """Return the preferred angle that a source's icon shows; of a detector of another family that family's."""
    own = curves.get((row["source_tap"], row["source_unit"]))
    if own is not None and own["detector"]:
        return f"\n{own['preferred_deg']:.0f}°"
    return (
        f"\n{_noun(row['source_family']).removesuffix(' detectors')}\n{row['source_deg']:.0f}°"
        if row["source_family"]
        else ""
    )


def _placed(sheet: Figure | SubFigure, where: tuple[float, float, float, float]) -> Axes:
    ax = sheet.add_axes(where)
    ax.set_in_layout(False)
    return ax


def _icon(
    ax: Axes, tap: str, unit: int, curves: Mapping[tuple[str, int], Any], pictures: Mapping[tuple[str, int], NDArray[np.uint8]] | None, colour: str
) -> None:  # fmt: skip
    """Draw what a unit answers to: a picture, or its tuning curve."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.3)
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
    pairs = chosen_pairs(correspondence, edges, method)
    width = drawn_width(figure, width_mm)
    side = (width - 34) / BINS
    with style():
        sheet = canvas(figure, width_mm, min(16 + (side + 2) * 2 * max(len(pairs), 1), PAGE_MM))
        axes = sheet.subplots(2 * max(len(pairs), 1), BINS, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        names = distinct([*pairs["model_a"], *pairs["model_b"]])
        period = 360.0
        for k, row in enumerate(pairs.to_dict("records")):
            for line, of in zip(axes[2 * k : 2 * k + 2], "ab", strict=True):
                unit = str(row[f"model_{of}"]), str(row[f"tap_{of}"]), int(row[f"unit_{of}"])
                found = paired_maps(edges, unit, row[f"preferred_{of}_deg"], row["family"])
                period = FAMILIES[row["family"]].period_deg
                more = f", r {number(row['r_natural'])}, {row['verdict']}" if of == "a" else ""
                said = f"{names[unit[0]]}\n{plain(unit[1])}, unit {unit[2]}, {row[f'preferred_{of}_deg']:.0f}°{more}"
                line[0].text(
                    -0.12, 0.5, wrapped(said, 32, 5), transform=line[0].transAxes, ha="right", va="center", fontsize=4.8
                )
                most = max((float(np.abs(one).max()) for one in found["map"]), default=1.0)
                for part in found.to_dict("records"):
                    ax = line[round(part["difference_deg"] / period * BINS)]
                    ax.set_axis_on()
                    _show(ax, _mapped(part["map"]), most)
                    ax.set_xlabel(f"{part['n_sources']}", fontsize=4.5, labelpad=1)
        for place, ax in enumerate(axes[0]):
            ax.set_title(f"{period * place / BINS:g}°", fontsize=6)
        title = (
            f"incoming weights of matched {noun} from {noun} of the tap before, by the preferred angle of the source less their own"
            if len(pairs)
            else f"no matched {noun} with weights from a tap before"
        )
        sheet.suptitle(wrapped(title, width, 7), fontsize=7)
    return axes


def layout_words(laid: pd.DataFrame, noun: str) -> dict[str, str]:
    """Return what a caption says of `field_layouts`: how many families of sources are drawn of how many."""
    return _left_out(len(laid[laid["frame"] == "own"][[*_LAYER, "source_family"]].drop_duplicates()), MOST_ROWS)


def equivariance_words(matrices: pd.DataFrame, noun: str) -> dict[str, str]:
    """Return what a caption says of `equivariance_matrices`: how many are drawn of how many."""
    return _left_out(len(matrices), MOST_MATRICES)


def _left_out(count: int, most: int) -> dict[str, str]:
    return {"left_out": f" The first {most} of {count} are drawn." if count > most else ""}
