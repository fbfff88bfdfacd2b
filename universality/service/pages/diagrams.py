"""Diagrams that a page draws as SVG: where everything lies, as plain numbers; the templates write them down."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from universality.base.names import number, short
from universality.service.pages.rendering import compare_url

Plain = dict[str, Any]
_STOPS = ("440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725")
LEVELS = 32
MOST_CELLS = 2500
"""Cells that are links of their own; in larger maps each pair of networks is one."""
_NAMED = 48
"""Layers whose names fit beside a map; of more, only networks are named."""
_SIDE_PX = 760.0
_LETTER_PX = 5.6


def colours(levels: int = LEVELS) -> list[str]:
    """Return a scale of colours from the least to the most, dark to light, as hexadecimal numbers."""
    found = []
    for level in range(levels):
        place = level / (levels - 1) * (len(_STOPS) - 1)
        low = min(int(place), len(_STOPS) - 2)
        ends = [[int(stop[k : k + 2], 16) for k in (0, 2, 4)] for stop in _STOPS[low : low + 2]]
        mixed = [round(a + (b - a) * (place - low)) for a, b in zip(*ends, strict=True)]
        found.append("#" + "".join(f"{part:02x}" for part in mixed))
    return found


def scale_of(values: Sequence[float | None]) -> tuple[float, float]:
    """Return the ends of a scale of colours: from 0, or below, to the largest value."""
    known = [value for value in values if value is not None]
    low, high = min(0.0, *known, 0.0), max(known, default=1.0)
    return low, high if high > low else low + 1.0


def level_of(value: float, scale: tuple[float, float], levels: int = LEVELS) -> int:
    """Return the number of a value's colour.

    Examples
    --------
    >>> [level_of(value, (0.0, 1.0)) for value in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    [0, 0, 16, 31, 31]
    """
    share = (value - scale[0]) / (scale[1] - scale[0])
    return max(0, min(levels - 1, int(share * levels)))


def heatmap(every: Mapping[str, Any], run: str) -> Plain:
    """Return the map of one measure between all layers of a run: colours, links, names.

    Parameters
    ----------
    every : as `similarities.all_layers` gives it
    """
    layers, cells = every["layers"], every["cells"]
    scale, palette = scale_of([value for *_, value, _ in cells]), colours()
    side = _SIDE_PX / max(len(layers), 1)
    networks = [(model, len(list(of))) for model, of in itertools.groupby(layers, key=lambda layer: layer["model"])]
    starts = dict(
        zip(
            [model for model, _ in networks], itertools.accumulate([0, *(count for _, count in networks)]), strict=False
        )
    )
    counts = dict(networks)
    drawn, paths = [], dict.fromkeys(range(LEVELS), "")
    few = len(cells) <= MOST_CELLS
    for row, column, value, reason in cells:
        a, b = layers[row], layers[column]
        # A matrix of pairs has two halves: the pair is shown in both, each time from the row to the column.
        for y, x in {(row, column), (column, row)}:
            if value is None and not few:
                continue
            if few:
                said = f"{short(a['model'])} {a['tap']} and {short(b['model'])} {b['tap']}: {number(value) if value is not None else reason or 'not defined'}"
                href = compare_url(
                    a["model"], b["model"], run, tap_a=a["tap"], tap_b=b["tap"], measure=every["measure"]
                )
                fill = palette[level_of(value, scale)] if value is not None else "none"
                drawn.append(
                    {
                        "x": _px(x * side),
                        "y": _px(y * side),
                        "fill": fill,
                        "href": href,
                        "title": said,
                        "main": (y, x) == (row, column),
                    }
                )
            else:
                paths[level_of(value, scale)] += (
                    f"M{_px(x * side)} {_px(y * side)}h{_px(side)}v{_px(side)}h-{_px(side)}z"
                )
    blocks = []
    if not few:
        for a, b in dict.fromkeys((layers[row]["model"], layers[column]["model"]) for row, column, *_ in cells):
            for first, second in {(a, b), (b, a)}:
                blocks.append({
                    "x": _px(starts[second] * side), "y": _px(starts[first] * side), "width": _px(counts[second] * side), "height": _px(counts[first] * side),
                    "href": compare_url(a, b, run, measure=every["measure"]), "title": f"{short(a)} and {short(b)}", "main": (first, second) == (a, b),
                })  # fmt: skip
    named = len(layers) <= _NAMED
    texts = (
        [f"{short(layer['model'])} {layer['tap']}" for layer in layers]
        if named
        else [short(model) for model, _ in networks]
    )
    middles = (
        [(place + 0.5) * side for place in range(len(layers))]
        if named
        else [(starts[m] + n / 2) * side for m, n in networks]
    )
    return {
        "side": _px(side), "size": _px(_SIDE_PX), "left": _px(_LETTER_PX * max(map(len, texts), default=0) + 8), "cells": drawn, "blocks": blocks,
        "paths": [(palette[level], path) for level, path in paths.items() if path], "names": [(text, _px(at)) for text, at in zip(texts, middles, strict=True)],
        "lines": [_px(starts[model] * side) for model, _ in networks[1:]], "low": number(scale[0]), "high": number(scale[1]), "palette": palette,
    }  # fmt: skip


def _px(value: float) -> float:
    return round(value, 1)


def grid(
    taps_a: Sequence[str], taps_b: Sequence[str], values: Sequence[Sequence[float | None]], scale: tuple[float, float]
) -> list[list[Plain]]:
    """Return the cells of a table of layers: text, colour, and whether dark or light text is read on it."""
    palette = colours()

    def cell(value: float | None) -> Plain:
        if value is None:
            return {"text": "", "fill": "none", "dark": False}
        level = level_of(value, scale)
        return {"text": number(value), "fill": palette[level], "dark": level > 0.55 * LEVELS}

    return [[cell(value) for value in line] for line in values]


_WIDTH, _HEIGHT, _NODE, _GAP = 460.0, 280.0, 12.0, 15.0


def sankey(rows: Sequence[Mapping[str, Any]], ending: str, most: float) -> Plain:
    """Return matched detectors between the taps of two networks as ribbons, as wide as their number.

    Parameters
    ----------
    rows : of one family, as `similarities.compared` gives them under ``pairs``
    ending : of the columns: empty for the trained networks, ``_untrained`` or ``_haar`` for a null
    most : number of detectors that fill the height: the same for all diagrams that stand beside one another
    """
    taps = {side: list(dict.fromkeys(row[f"tap_{side}"] for row in rows)) for side in "ab"}
    met = {
        (row["tap_a"], row["tap_b"]): (row[f"n_met{ending}"] or 0.0, row[f"n_same_feature{ending}"] or 0.0)
        for row in rows
    }
    per_px = (_HEIGHT - _GAP * (max(map(len, taps.values()), default=1) - 1)) / max(most, 1.0)
    nodes, at = [], {}
    for side, x in (("a", 0.0), ("b", _WIDTH - _NODE)):
        y = 0.0
        for tap in taps[side]:
            count = sum(n for (one, two), (n, _) in met.items() if tap == (one if side == "a" else two))
            height = max(count * per_px, 1.0)
            nodes.append(
                {"x": x, "y": _px(y), "height": _px(height), "text": tap, "count": _counted(count), "side": side}
            )
            at[side, tap] = y
            y += height + _GAP
    ribbons = []
    for (one, two), (n, same) in met.items():
        if not n:
            continue
        width = n * per_px
        y1, y2 = at["a", one], at["b", two]
        at["a", one], at["b", two] = y1 + width, y2 + width
        title = f"{one} and {two}: {_counted(n)} pairs of detectors, {_counted(same)} the same feature"
        ribbons.append(
            {"d": _ribbon(y1, y2, width), "dark": _ribbon(y1, y2, same * per_px) if same else "", "title": title}
        )
    return {
        "nodes": nodes,
        "ribbons": ribbons,
        "width": _WIDTH,
        "height": _HEIGHT,
        "node": _NODE,
        "total": _counted(sum(n for n, _ in met.values())),
    }


def _counted(pairs: float) -> str:
    """Return a number of pairs; of a null it is a mean, with a digit behind the point."""
    return number(pairs, 0 if pairs == int(pairs) else 1)


def _ribbon(y1: float, y2: float, width: float) -> str:
    left, right, middle = _NODE, _WIDTH - _NODE, _WIDTH / 2
    return (
        f"M{left} {_px(y1)}C{middle} {_px(y1)} {middle} {_px(y2)} {right} {_px(y2)}V{_px(y2 + width)}"
        f"C{middle} {_px(y2 + width)} {middle} {_px(y1 + width)} {left} {_px(y1 + width)}Z"
    )
