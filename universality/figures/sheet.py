"""Contact sheets of stimuli."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from universality.figures.style import DOUBLE_MM, Panels, canvas, drawn_width, style


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
        sheet = canvas(figure, width_mm, rows * height)
        if isinstance(sheet, Figure) and figure is None:
            sheet.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01)
        axes = sheet.subplots(rows, columns, squeeze=False)
        for ax, image, label in itertools.zip_longest(axes.ravel(), images, labels):
            ax.set_axis_off()
            if image is not None:
                ax.imshow(np.moveaxis(image, 0, 2), vmin=0, vmax=1, interpolation="nearest")
                ax.set_title(label, fontsize=5, pad=1)
        if title:
            sheet.suptitle(title, fontsize=6)
    return axes
