"""Contact sheets of stimuli."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from universality.figures.style import DOUBLE_MM, Panels, canvas, drawn_width, figure_of, style
from universality.stimuli import sets

_TITLE_MM = 4.0


def contact_sheet(
    images: np.ndarray,
    labels: Sequence[str],
    columns: int = 12,
    title: str = "",
    *,
    figure: Figure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw images (image, channel, y, x) in [0, 1], row by row, each under its label; `title` says what the labels are.

    Returns the axes (row, column), in `figure` or in a new one of `width_mm`.
    """
    rows = -(-len(images) // columns)
    height = drawn_width(figure, width_mm) / columns + 2.5 * max((la.count("\n") + 1 for la in labels), default=0)
    with style():
        sheet = canvas(figure, width_mm, rows * height + (_TITLE_MM if title else 0.0))
        if isinstance(sheet, Figure) and figure is None:
            sheet.set_layout_engine("constrained", w_pad=0.01, h_pad=0.04 if title else 0.01)
        axes = sheet.subplots(rows, columns, squeeze=False)
        for ax, image, label in itertools.zip_longest(axes.ravel(), images, labels):
            ax.set_axis_off()
            if image is not None:
                ax.imshow(np.moveaxis(image, 0, 2), vmin=0, vmax=1, interpolation="nearest")
                ax.set_title(label, fontsize=5, pad=1)
        if title:
            sheet.suptitle(title, fontsize=6)
    return axes


def stimulus_sheet(drawn: xr.DataArray, most: int = 48, columns: int = 12, title: str = "") -> Figure:
    """Draw stimuli as `sets.render` gives them, (stimulus, channel, y, x) in [0, 1], each under its parameters.

    At most `most` images, evenly from all, in their order; the title, if none is given, is the set's name and their number.
    """
    count = drawn.sizes["stimulus"]
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    shown = drawn.isel(stimulus=rows)
    said = title or f"{drawn.name}: {len(rows)} of {count}"
    return figure_of(contact_sheet(shown.values, sets.captions(shown), min(columns, max(len(rows), 1)), said))
