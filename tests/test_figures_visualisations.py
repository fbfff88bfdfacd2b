"""Sheets of images made by feature visualisation: what stands above the images can be read."""

import itertools

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from universality.figures import visualisations
from universality.runs.visualisations import DRIVE, PICTURE

UNITS = [
    "package/efficientnet_lite0:blocks.4.1.bn2:611",
    "pocket/inceptionv1-focus-s0:inception3b:107",
    "timm/resnet18:layer1.0.act2:3",
] * 3
FIGURES = ("reached_sigma", "percentile", "natural_sigma", "random_reached_sigma", "random_natural_sigma")


def made():
    values = {name: ((PICTURE, DRIVE), np.full((len(UNITS), 1), 133.25)) for name in FIGURES}
    images = {"image": ((PICTURE, "y", "x", "channel"), np.zeros((len(UNITS), 8, 8, 3), np.uint8))}
    coords = {"unit": ((PICTURE, DRIVE), np.array(UNITS, dtype=object)[:, None]), "face": (PICTURE, np.zeros(len(UNITS), int)), "note": (PICTURE, np.full(len(UNITS), "", dtype=object))}  # fmt: skip
    return xr.Dataset(images | values, coords=coords, attrs={"method": "fourier", "steps": 8, "seed": 0})


def test_no_text_of_the_sheet_covers_another(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(visualisations, "save", lambda figure, *_, **__: drawn.append(figure) or [])
    visualisations.write(made(), tmp_path)
    (figure,) = drawn
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [ax.title for ax in figure.axes if ax.get_title()] + [figure._suptitle]
    assert len(texts) == len(UNITS) + 1
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
