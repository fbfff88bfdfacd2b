"""What all figures share: sizes of a journal page, fonts, colours, files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from universality.origin import Facts, in_figure

MM = 1 / 25.4
DOUBLE_MM = 183.0
TRAINED, UNTRAINED, HAAR = "#0173b2", "#949494", "#de8f05"
_STYLE: dict[Any, Any] = {
    "font.size": 6, "axes.titlesize": 6.5, "axes.labelsize": 6, "xtick.labelsize": 5, "ytick.labelsize": 5,
    "legend.fontsize": 5.5, "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "universality",
    "axes.linewidth": 0.5, "lines.linewidth": 0.8, "xtick.major.width": 0.5, "ytick.major.width": 0.5,
    "xtick.major.size": 2, "ytick.major.size": 2, "axes.spines.top": False, "axes.spines.right": False,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Apply the figures' own settings, and only here."""
    with mpl.rc_context(_STYLE):
        yield


def short(model: str) -> str:
    """Return a model's name without its source."""
    return model.split("/", 1)[-1]


def tap_label(tap: str, depth: float) -> str:
    """Return a tap's name with its relative depth in percent."""
    return f"{tap.removesuffix('.bn2')} ({depth:.0%})"


def save(
    figure: Figure, stem: Path, facts: Facts | None = None, suffixes: Sequence[str] = (".png", ".pdf")
) -> list[Path]:
    """Write a figure without dates, as PNG (300 dpi), PDF or SVG, with its provenance inside; return the files."""
    with style():
        files = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        for file, suffix in zip(files, suffixes, strict=True):
            figure.savefig(file, dpi=300 if suffix == ".png" else "figure", metadata=in_figure(suffix, facts))
    return files
