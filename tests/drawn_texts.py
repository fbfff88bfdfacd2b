"""What can be read in a figure, and where: measured on its canvas, as it is drawn."""

import itertools
import re

import numpy as np

TOUCHING_PT = 0.3
"""Boxes of text hold a little room: so much of it may be shared."""


def every_axes(figure):
    """The axes of a figure, of its subfigures, and those that lie within others."""
    waiting = [*figure.axes, *(ax for part in figure.subfigs for ax in part.axes)]
    while waiting:
        ax = waiting.pop()
        yield ax
        waiting += ax.child_axes


def shown(figure):
    """Every text that is drawn, at the resolution of a PNG: that of a tick only where its axis reaches it."""
    figure.set_dpi(300)
    figure.draw_without_rendering()
    texts = [*figure.texts, *(text for part in figure.subfigs for text in part.texts)]
    legends = [*figure.legends, *(legend for part in figure.subfigs for legend in part.legends)]
    for ax in every_axes(figure):
        texts += [*ax.texts, ax.title, ax._left_title, ax._right_title]
        legends += [ax.get_legend()] if ax.get_legend() else []
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            low, high = sorted(axis.get_view_interval())
            room = 1e-9 * (high - low)
            texts += [axis.label, axis.offsetText]
            for tick in axis.get_major_ticks():
                if low - room <= tick.get_loc() <= high + room:
                    texts += [tick.label1, tick.label2]
    for legend in legends:
        texts += [legend.get_title(), *legend.get_texts()]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def corners(text):
    """The corners of a text's box, (4, 2) px, turned as the text is, and less by what may be shared."""
    turned, angle = text.get_window_extent(), text.get_rotation()
    text.set_rotation(0)
    flat = text.get_window_extent()
    text.set_rotation(angle)
    less = TOUCHING_PT * text.figure.figure.dpi / 72
    half = np.array([flat.width / 2 - less, flat.height / 2 - less])
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    about = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return about @ np.array([[cos, sin], [-sin, cos]]) + [turned.x0 + turned.width / 2, turned.y0 + turned.height / 2]


def meet(one, other):
    """Whether two rectangles share any area: no direction of a side separates them."""
    for box in (one, other):
        for side in (box[1] - box[0], box[2] - box[1]):
            a, b = one @ side, other @ side
            if a.max() <= b.min() or b.max() <= a.min():
                return False
    return True


def overlaps(texts):
    """The pairs of texts that lie over one another."""
    boxes = [corners(text) for text in texts]
    return [
        (texts[i].get_text(), texts[j].get_text())
        for i, j in itertools.combinations(range(len(texts)), 2)
        if meet(boxes[i], boxes[j])
    ]


def outside(texts):
    """The texts that leave the figure."""
    whole, found = texts[0].figure.figure.bbox, []
    for text in texts:
        box = corners(text)
        if (box.min(0) < [whole.x0, whole.y0]).any() or (box.max(0) > [whole.x1, whole.y1]).any():
            found.append(text.get_text())
    return found


def joined(text):
    """A text without its line breaks: a name that was broken reads on in the next line."""
    return text.replace("\n", "")


def key(texts):
    """What the figure's key says: abbreviation -> name."""
    found = {}
    for text in texts:
        for entry in text.get_text().split(";"):
            said = re.search(r"(?:^|\n| )(\S+)\xa0=\xa0(.+)$", entry, flags=re.DOTALL)
            found |= {said[1]: joined(said[2])} if said else {}
    return found


def unreadable(texts, names):
    """The names that nothing in the figure gives in full, and the abbreviations of its key that stand nowhere else."""
    said = [joined(text.get_text()) for text in texts]
    lost = [name for name in names if not any(name in text for text in said)]
    unused = [label for label in key(texts) if sum(text.count(label) for text in said) < 2]
    return lost + unused
