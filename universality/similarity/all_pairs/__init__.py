"""Every measure for all pairs of many layers in one go, within a stated memory budget.

One pass over each layer, one product of stacked layers per family of measures, tiles over stimuli throughout. The
kernels follow the array API standard: layers may be NumPy arrays, memory maps, stores opened lazily, or Torch tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.base import inputs
from universality.base.errors import MeasureError
from universality.base.inputs import Source
from universality.similarity.all_pairs.measures import PAIR_MEASURES, PairMeasure, Ready, pair_measures
from universality.similarity.all_pairs.plan import Plan, blas_threads, make_plan, ordered_map, parse_bytes
from universality.similarity.all_pairs.views import HostSource, Precision, Ranges, scan

__all__ = ["PAIR_MEASURES", "AllPairs", "Source", "compare_all"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AllPairs:
    """Measures of all pairs of L layers.

    Attributes
    ----------
    names : the layers, in the order given
    n : number of stimuli
    units, dead : (L,) live units, and units that never vary and were left out
    values : measure -> (L, L), symmetric; range and direction in ``PAIR_MEASURES[measure]``
    reasons : measure -> (L, L) text, why a value is NaN, else empty
    """

    names: tuple[str, ...]
    n: int
    units: NDArray[np.int64]
    dead: NDArray[np.int64]
    values: dict[str, Array]
    reasons: Mapping[str, NDArray[np.object_]]

    def matrix(self, measure: str) -> pd.DataFrame:
        """Return one measure as a table with the layers' names on both sides."""
        return pd.DataFrame(self.values[measure], index=list(self.names), columns=list(self.names))

    def table(self) -> pd.DataFrame:
        """Return one row per measure and pair of different layers, the earlier layer first."""
        i, j = np.triu_indices(len(self.names), k=1)
        names = np.array(self.names, dtype=object)
        parts = [
            pd.DataFrame(
                {
                    "layer_a": names[i],
                    "layer_b": names[j],
                    "measure": measure,
                    "direction": PAIR_MEASURES[measure].record.direction,
                    "value": values[i, j],
                    "n": self.n,
                    "p": self.units[i],
                    "q": self.units[j],
                    "reason": self.reasons[measure][i, j],
                }
            )
            for measure, values in self.values.items()
        ]
        return pd.concat(parts, ignore_index=True)


def compare_all(
    layers: Mapping[str, Any],
    measures: Sequence[str] = ("cka_linear_debiased",),
    *,
    memory_limit: int | str = "1 GiB",
    dtype: Precision = "float32",
    workers: int | None = None,
) -> AllPairs:
    """Compare all pairs of layers, of one model or of many.

    Parameters
    ----------
    layers : mapping of names to layers (n stimuli, p units)
        As `score` takes them; a Dataset whose variables are layers; any `Source`. Memory maps, Dask arrays and stores opened
        lazily are read by tiles. Torch tensors are multiplied on the device where all of them lie; tensors on the CPU may be mixed with
        NumPy arrays. The same stimuli in the same order. Dead units are left out and counted.
    measures : names in `PAIR_MEASURES`
    memory_limit : bytes, or text such as ``"512 MiB"``
        What the comparison may hold beside the layers themselves. It decides the tiles; the values depend on it by
        rounding alone: 1e-12 in float64, 1e-6 in float32. Equal shapes, limits and workers give equal bits.
    dtype : {"float32", "float64"}
        Precision of the products within a tile; sums over tiles are float64 in both. Values in float32 are within 1e-6 of
        those in float64 where the kernels' off-diagonal part carries the comparison (see ``docs/benchmarks.md``).
    workers : int, optional
        Threads for NumPy layers; as many as the linear algebra has by default.

    Returns
    -------
    AllPairs
        A value matrix per measure, with reasons where a value is NaN.

    Raises
    ------
    MeasureError
        Unknown measure, layers that `score` refuses, layers on several devices, or a limit that does not hold a single tile.

    Examples
    --------
    >>> import numpy as np
    >>> from universality import compare_all
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 6))
    >>> rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    >>> pairs = compare_all({"a": x, "b": x @ rotation, "c": rng.standard_normal((200, 4))}, memory_limit="64 MiB")
    >>> pairs.table()[["layer_a", "layer_b", "value"]].round(2)
      layer_a layer_b  value
    0       a       b   1.00
    1       a       c  -0.01
    2       b       c  -0.01
    """
    chosen = pair_measures(measures)
    if dtype not in ("float32", "float64"):
        raise MeasureError(f"dtype is {dtype!r}, expected 'float32' or 'float64'; choose one of them")
    memory = parse_bytes(memory_limit)
    sources, on_cpu = _together(_sources(layers))
    threads = (blas_threads() if workers is None else max(1, workers)) if on_cpu else 1

    def planned(widths: list[int]) -> Plan:
        n = next(iter(sources.values())).n
        return make_plan(n, widths, np.dtype(dtype).itemsize, memory, threads, on_cpu)

    rows = planned([source.p for source in sources.values()]).rows
    ranges = list(ordered_map(lambda item: scan(item[0], item[1], rows), sources.items(), threads))
    usable = np.array([i for i, found in enumerate(ranges) if found.live.size], dtype=np.int64)
    ready = None
    if usable.size:
        kept = tuple(ranges[i] for i in usable)
        picked = tuple(source for source, found in zip(sources.values(), ranges, strict=True) if found.live.size)
        ready = Ready(picked, kept, planned([found.live.size for found in kept]), dtype)
    values = _values(ready, usable, len(sources), chosen)
    return _labelled(sources, ranges, chosen, values)


def _sources(layers: Mapping[str, Any]) -> dict[str, Source]:
    """Return every layer by its name, in the order given."""
    if not isinstance(layers, Mapping) or not layers:
        raise MeasureError("there is no layer to compare; pass a mapping of names to activations (stimuli, units)")
    names = [str(name) for name in layers]
    if len(set(names)) < len(names):
        raise MeasureError(f"two names of layers are equal as text among {names}, expected a name for each; rename one")
    given = inputs.layers({f"layer '{name}'": layer for name, layer in zip(names, layers.values(), strict=True)})
    return dict(zip(names, given.values(), strict=True))


def _together(sources: dict[str, Source]) -> tuple[dict[str, Source], bool]:
    """Return layers that can be multiplied with one another, and whether they are NumPy's.

    Layers of one library on one device are multiplied there. Tensors on the CPU are NumPy arrays to NumPy, so both may be
    mixed; anything else would be moved off its device without a word, and is refused.
    """
    first: tuple[str, Any, Any] | None = None
    alike = hosted = True
    for name, source in sources.items():
        row = source.tile(0, 1)
        here = (name, array_api_compat.array_namespace(row), array_api_compat.device(row))
        first = first or here
        alike = alike and here[1:] == first[1:]
        hosted = hosted and str(here[2]) == "cpu"
        if not (alike or hosted):
            raise MeasureError(
                f"layers '{first[0]}' and '{name}' are of different kinds or on different devices ({first[2]}, {here[2]}), "
                "expected one; move them to one device"
            )
    assert first is not None  # there is a layer
    if alike:
        return sources, bool(array_api_compat.is_numpy_namespace(first[1]))
    return {name: HostSource(source) for name, source in sources.items()}, True


def _values(
    ready: Ready | None, usable: NDArray[np.int64], size: int, chosen: Sequence[PairMeasure]
) -> dict[str, Array]:
    """Return (size, size) matrices: NaN for unusable layers; measures of one family are computed together."""
    values = {entry.name: np.full((size, size), np.nan) for entry in chosen}
    if ready is None:
        return values
    possible = [entry for entry in chosen if ready.plan.n >= entry.record.min_n]
    for family in dict.fromkeys(entry.family for entry in possible):
        wanted = frozenset(entry.name for entry in possible if entry.family is family)
        for name, matrix in family(ready, wanted).items():
            values[name][np.ix_(usable, usable)] = matrix
    return values


def _labelled(
    sources: Mapping[str, Source], ranges: Sequence[Ranges], chosen: Sequence[PairMeasure], values: dict[str, Array]
) -> AllPairs:
    names = tuple(sources)
    n = next(iter(sources.values())).n
    units = np.array([found.live.size for found in ranges], dtype=np.int64)
    dead = np.array([found.dead for found in ranges], dtype=np.int64)
    return AllPairs(names, n, units, dead, values, Reasons(values, names, units, n))


@dataclass(frozen=True)
class Reasons(Mapping[str, NDArray[np.object_]]):
    """Why values are NaN, measure by measure; made when asked for: of thousands of layers the texts would fill the memory."""

    values_of: Mapping[str, Array]
    names: Sequence[str]
    units: NDArray[np.int64]
    n: int

    def __getitem__(self, measure: str) -> NDArray[np.object_]:
        """Return the texts (L, L) of one measure, empty where there is a value."""
        return _reasons(PAIR_MEASURES[measure], self.values_of[measure], self.names, self.units, self.n)

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_of)

    def __len__(self) -> int:
        return len(self.values_of)


def _reasons(
    entry: PairMeasure, values: Array, names: Sequence[str], units: NDArray[np.int64], n: int
) -> NDArray[np.object_]:
    """Return why each value is NaN, the most basic cause first."""
    reasons = np.full(values.shape, "", dtype=object)
    reasons[~np.isfinite(values)] = entry.undefined
    if n < entry.record.min_n:
        reasons[:] = f"{n} stimuli, {entry.record.min_n} needed"
    for i in np.flatnonzero(units == 0):
        reasons[i, :] = reasons[:, i] = f"no unit of '{names[int(i)]}' varies over the stimuli"
    return reasons
