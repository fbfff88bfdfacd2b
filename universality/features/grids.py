"""Where the stimuli of a full grid of parameters lie in a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from universality.base.errors import StimulusError


def frame_of(parameters: xr.Dataset, columns: Sequence[str]) -> pd.DataFrame:
    """Return some parameters of every stimulus, and its row, as a frame.

    By name: activations read from a store have coordinates of other dimensions beside those of the stimuli.
    """
    frame = pd.DataFrame({name: parameters[name].values for name in columns})
    frame["row"] = np.arange(len(frame))
    return frame


def full_grid(
    frame: pd.DataFrame, columns: Sequence[str], what: str, shape: tuple[int, ...] | None = None
) -> NDArray[np.int64]:
    """Return the rows of a full grid of `columns`, in increasing order of each; `shape` is what it must have, if known.

    Raises
    ------
    StimulusError
        A combination is missing: `what` names the stimuli.
    """
    codes = [np.unique(frame[name].to_numpy(), return_inverse=True) for name in columns]
    rows = np.full([values.size for values, _ in codes], -1, dtype=np.int64)
    rows[tuple(code for _, code in codes)] = frame["row"].to_numpy()
    if rows.size == 0 or rows.min() < 0 or shape not in (None, rows.shape):
        raise StimulusError(
            f"{what} stimuli are no full grid of {', '.join(columns)}: {len(frame)} images for "
            f"{np.prod(shape or rows.shape)} places; draw the whole set"
        )
    return rows


def need_two(family: str, parameter: str, values: Sequence[object]) -> None:
    """Raise `ValueError` if a parameter of a job's stimuli has one value where a family compares responses to several."""
    if len(values) < 2:
        raise ValueError(
            f"stimuli.{parameter} holds one value, but the family '{family}' is defined by agreement between two or more"
        )
