"""Tuning curves as lines of an SVG."""

from __future__ import annotations

from collections.abc import Sequence


def tuning_line(values: Sequence[float], top: float, width: float, height: float) -> str:
    """Return a closed tuning curve as the points of an SVG line; responses below 0 lie on the axis."""
    closed = [*values, values[0]]
    scale = height / top if top > 0 else 0.0
    step = width / (len(closed) - 1)
    return " ".join(f"{step * k:.1f},{height - scale * max(value, 0.0):.1f}" for k, value in enumerate(closed))
