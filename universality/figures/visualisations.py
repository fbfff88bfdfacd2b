"""Feature visualisations as files: an image each, a table of what they reach, and a sheet of all."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from universality.base.names import number
from universality.figures.sheet import contact_sheet
from universality.figures.style import figure_of, save
from universality.runs.visualisations import PICTURE, facts

SHEET = "sheet"
_COLUMNS = 6
_WIDEST = 26
"""Characters of a line above an image."""
_LONGEST = 80
"""Characters of a file's name, beyond which it is cut: what an image drives is in the table."""


def write(found: xr.Dataset, folder: Path) -> list[Path]:
    """Write every image as a PNG, the sheet of all, and a table of what they reach; return the files, the table last.

    Parameters
    ----------
    found : Dataset
        As `universality.visualise` returns it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, files = facts(found), []
    for place, image in enumerate(found["image"].values):
        files.append(folder / f"{place:03d}__{_stem(found, place)}.png")
        Image.fromarray(image).save(files[-1])
    sheet = contact_sheet(
        np.moveaxis(found["image"].values, 3, 1) / 255, _labels(rows), min(_COLUMNS, len(files)), _title(found)
    )
    files += save(figure_of(sheet), folder / SHEET, suffixes=(".png",), kind="visualisations", caption=_title(found))
    files.append(folder / "visualisations.csv")
    named = [{"file": files[row["image"]].name} | row for row in rows]
    pd.DataFrame(named).drop(columns="image").to_csv(files[-1], index=False, lineterminator="\n")
    return files


def _stem(found: xr.Dataset, place: int) -> str:
    one = found.isel({PICTURE: place})
    text = "+".join(str(unit) for unit in one["unit"].values if unit)
    safe = "".join(c if c.isalnum() or c in "._-+" else "_" for c in text)
    return safe[:_LONGEST] + (f"__{int(one['face'])}" if int(found["face"].max()) else "")


def _labels(rows: list[dict[str, object]]) -> list[str]:
    """Return what stands above each image: no line is wider than the image."""
    lines: dict[int, list[str]] = {}
    for row in rows:
        text = str(row["unit"])
        name = ("not " if text.startswith("-") else "") + (text.partition("/")[2] or text.removeprefix("-"))
        reached, natural, random, most = (
            number(float(str(row[column])))
            for column in ("reached_sigma", "natural_sigma", "random_reached_sigma", "random_natural_sigma")
        )
        lines.setdefault(int(str(row["image"])), []).extend(
            [
                *textwrap.wrap(name.replace(":", ": ", 1), _WIDEST),
                f"{reached} sigma, natural {natural}",
                f"random {random}, natural {most}",
            ]
        )
    return ["\n".join(each) for each in lines.values()]


def _title(found: xr.Dataset) -> str:
    return (
        f"What each image reaches, the most that a natural image does, and both of a random direction; method {found.attrs['method']}, "
        f"{found.attrs['steps']} steps, seed {found.attrs['seed']}"
    )
