"""Tuning curves as lines of an SVG, maps of weights as its colours."""

from __future__ import annotations

from collections.abc import Sequence


def tuning_line(values: Sequence[float], top: float, width: float, height: float) -> str:
    """Return a closed tuning curve as the points of an SVG line; responses below 0 lie on the axis."""
    closed = [*values, values[0]]
    scale = height / top if top > 0 else 0.0
    step = width / (len(closed) - 1)
    return " ".join(f"{step * k:.1f},{height - scale * max(value, 0.0):.1f}" for k, value in enumerate(closed))


_WHITE, _EXCITES, _INHIBITS = (247, 247, 247), (178, 24, 43), (33, 102, 172)


def weight_colours(values: Sequence[float], most: float) -> list[str]:
    """Return the colours of a map of weights, in its order: red excites, blue inhibits, full colour at `most` and beyond, white at 0.

    Examples
    --------
    >>> weight_colours([2.0, 0.0, -4.0], 2.0)
    ['#b2182b', '#f7f7f7', '#2166ac']
    """
    colours = []
    for value in values:
        strength = min(abs(value) / (most or 1.0), 1.0)
        full = _EXCITES if value > 0 else _INHIBITS
        colours.append(
            "#"
            + "".join(f"{round(white + strength * (end - white)):02x}" for white, end in zip(_WHITE, full, strict=True))
        )
    return colours
