"""The gate for arrays that users bring: what is taken, what is refused, and how it is read.

Every public function that takes arrays asks here, once; the kernels behind it see NumPy arrays or tiles of them. Values are
read as they are: narrow numbers are widened exactly, a gradient is left behind, dimensions with names are put in order by
their names. What would be lost on the way (a mask, an imaginary part, the pairing of labelled stimuli) is refused in one
sentence, with the remedy.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import array_api_compat
import numpy as np

from universality.base.arrays import Array
from universality.base.errors import MeasureError
from universality.base.schema import STIMULUS, UNIT

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Source(Protocol):
    """Activations of one layer that can be read by rows: `n` stimuli, `p` units."""

    @property
    def n(self) -> int:
        """Number of stimuli."""

    @property
    def p(self) -> int:
        """Number of units."""

    def tile(self, start: int, stop: int) -> Any:
        """Return the rows from `start` up to `stop` as an array (stimulus, unit) of the array API standard."""


@dataclass(frozen=True)
class Form:
    """What the axes of an array are.

    Attributes
    ----------
    dims : the axes in order, by the names that xarray and pandas know them by
    words : the shape, for messages
    values, rows : what the numbers are, and what a row is, in the plural
    advice : what to do with an array of another number of axes, by that number
    least : smallest number of rows
    """

    dims: tuple[str, ...]
    words: str
    values: str
    rows: str
    advice: Mapping[int, str]
    least: int = 1


ACTIVATIONS = Form(
    (STIMULUS, UNIT), "(stimuli, units)", "activations", "stimuli",
    {
        0: "a single number is no layer",
        1: "one unit is x[:, None], one stimulus x[None, :]",
        3: "take one token or place, x[:, i], or the mean, x.mean(axis=1), or make each a unit, x.reshape(len(x), -1)",
        4: "take one place of the maps, x[:, :, i, j], or the mean, x.mean(axis=(2, 3)), or make every place a unit, "
        "x.reshape(len(x), -1)",
    },
)  # fmt: skip
BATCH = replace(ACTIVATIONS, least=0)


@dataclass(frozen=True)
class Given:
    """An array that has passed the gate: a `Source` if it has two axes. Lazy arrays are read when rows are asked for.

    Attributes
    ----------
    label : what messages call it
    shape : lengths of the axes in the order of `form`
    rows : from a slice of rows to these, axes in order
    labels : the coordinates that lie on the rows alone, by name
    columns : the coordinate of the same name as the columns, if there is one
    """

    label: str
    form: Form
    shape: tuple[int, ...]
    rows: Callable[[slice], Any]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    columns: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def p(self) -> int:
        """Number of columns."""
        return self.shape[1]

    def tile(self, start: int, stop: int) -> Any:
        """Return rows as NumPy's or, of tensors, as Torch's where they lie."""
        return _read(self.label, self.form, self.rows(slice(start, stop)), start)

    def whole(self) -> Array:
        """Return all values in float64, the given array itself if it has that form; raise `MeasureError` if any is not finite."""
        rows = _read(self.label, self.form, self.rows(slice(0, self.n)), host=True)
        values = np.asarray(to_host(rows), dtype=np.float64)
        # Both carry a NaN on, and neither makes an array as large as the values.
        with np.errstate(invalid="ignore"):
            finite = not values.size or bool(np.isfinite(values.min()) and np.isfinite(values.max()))
        if not finite:
            spoiled = np.asarray(~np.isfinite(values).reshape(self.n, -1).all(axis=1))
            raise MeasureError(
                f"{self.label} has NaN or infinite values, expected finite {self.form.values}; drop those {self.form.rows}"
                f"{_numbered(spoiled)}{' from all layers' if self.form.rows == 'stimuli' else ''}"
            )
        return values


def given(label: str, array: Any, form: Form = ACTIVATIONS) -> Given:
    """Return an array that a user brought, or raise `MeasureError` that calls it `label`; no values are read.

    Taken are NumPy arrays, memory maps, sequences of numbers or rows, Torch tensors, xarray arrays, pandas tables, Dask
    arrays and, as layers, any `Source`.
    """
    made = _labelled(label, array, form) or _framed(label, array, form) or _plain(label, array, form)
    if len(made.shape) != len(form.dims) or 0 in made.shape[1:] or made.shape[0] < form.least:
        least = (", both at least 1" if len(form.dims) == 2 else ", at least 1") if form.least else ""
        advice = (
            form.advice.get(len(made.shape), "reshape it")
            if len(made.shape) != len(form.dims)
            else "there is nothing in it to compare"
        )
        raise MeasureError(f"{label} has shape {made.shape}, expected {form.words}{least}; {advice}")
    return made


def layers(arrays: Mapping[str, Any], form: Form = ACTIVATIONS) -> dict[str, Given]:
    """Return arrays of the same stimuli, by the names that messages call them by.

    Raises
    ------
    MeasureError
        An array is refused by `given`, or they have unequal numbers of stimuli or different labels of them.
    """
    made = {label: given(label, array, form) for label, array in arrays.items()}
    first, *others = made.values()
    for other in others:
        if other.n != first.n:
            raise MeasureError(
                f"{first.label} has {first.n} stimuli and {other.label} has {other.n}, expected the same stimuli in the "
                "same order; select the common ones first"
            )
    _refuse_other_stimuli(made.values())
    return made


def pair(x: Any, y: Any, form: Form = ACTIVATIONS) -> tuple[Array, Array]:
    """Return two layers of the same stimuli, (n, p) and (n, q), in float64, or raise `MeasureError`."""
    a, b = layers({"x": x, "y": y}, form).values()
    return a.whole(), b.whole()


def to_host(array: Any) -> np.ndarray:
    """Return an array of any namespace and device as NumPy's."""
    if isinstance(array, np.ndarray):
        return array
    return np.asarray(array_api_compat.to_device(array, "cpu"))


def _first_line(cause: BaseException) -> str:
    return str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__


def _numbered(chosen: np.ndarray, start: int = 0) -> str:
    """Return how many rows are chosen and which, a few at most; `start` is the number of the first."""
    numbers = start + np.flatnonzero(chosen)
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f" ({len(numbers)}, counted from 0: {shown})"


def _refuse_other_stimuli(made: Any) -> None:
    """Refuse layers whose stimuli carry different labels: which rows belong together is the user's to say."""
    import pandas as pd

    known: dict[str, tuple[str, pd.Index]] = {}
    for layer in made:
        for name, values in layer.labels.items():
            # pandas has no index of half precision.
            index = pd.Index(values.astype(np.float64) if values.dtype.kind == "f" else values)
            first, wanted = known.setdefault(name, (layer.label, index))
            if index is wanted or wanted.equals(index):
                continue
            reordered = index.is_unique and len(index.intersection(wanted)) == len(index)
            differ = "have the same labels in another order" if reordered else "have different labels"
            raise MeasureError(
                f"{first} and {layer.label} {differ} on their stimuli ('{name}'), expected the same stimuli in the same "
                "order; align them first (xarray.align, DataFrame.align), or drop labels that name something else "
                "(drop_vars, reset_index)"
            )


# Containers whose axes have names


def _is(array: Any, module: str, *names: str) -> bool:
    """Return whether `array` is of one of a module's classes; what was never imported need not be, to know that it is not."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(array, tuple(getattr(loaded, name) for name in names))


def _labelled(label: str, array: Any, form: Form) -> Given | None:
    """Return an xarray array with its dimensions in order; None for anything else."""
    if _is(array, "xarray", "Dataset", "DataTree"):
        names = ", ".join(map(repr, array.data_vars))
        raise MeasureError(f"{label} is a {type(array).__name__} ({names}), expected one array; pass one of them")
    if not _is(array, "xarray", "DataArray", "Variable"):
        return None
    dims = _ordered(label, array, form)
    _refuse_dtype(label, form, array.dtype)
    coordinates = getattr(array, "coords", {})
    labels = {str(name): c.values for name, c in coordinates.items() if c.dims == dims[:1]}
    columns = coordinates[dims[-1]].values if dims[-1] in coordinates else None

    def rows(chosen: slice) -> Any:
        # A store that is opened lazily is read here, and these rows of it alone.
        return array.isel({dims[0]: chosen}).transpose(*dims).data

    return Given(label, form, tuple(int(array.sizes[dim]) for dim in dims), rows, labels, columns)


def _ordered(label: str, array: xr.DataArray | xr.Variable, form: Form) -> tuple[Hashable, ...]:
    """Return the dimensions of an xarray array in the order of `form`."""
    names = [str(dim) for dim in array.dims]
    # Layers of unlike widths share no dimension, so a Dataset of them has one of units for each: unit_conv1, unit_conv2.
    here = {
        wanted: [dim for dim in array.dims if dim == wanted or (wanted == UNIT and str(dim).startswith(f"{UNIT}_"))]
        for wanted in form.dims
    }
    if all(len(found) == 1 for found in here.values()) and len(names) == len(form.dims):
        return tuple(found[0] for found in here.values())
    missing = [wanted for wanted, found in here.items() if not found]
    others = [name for name in names if name not in form.dims]
    if missing and len(names) == len(form.dims):
        remedy = "rename them (x.rename), or pass x.values with the axes in this order"
    elif missing:
        remedy = "give every axis its name (x.rename) and reduce the others"
    else:
        over = others[0] if others else names[-1]
        remedy = f"take one of '{over}' (x.isel), or their mean (x.mean('{over}'))"
    wanted = " and ".join(f"'{name}'" for name in form.dims)
    order = " in any order" if len(form.dims) > 1 else ""
    raise MeasureError(f"{label} has the dimensions {tuple(names)}, expected {wanted}{order}; {remedy}")


def _framed(label: str, array: Any, form: Form) -> Given | None:
    """Return a pandas table of numbers, rows and columns by the names of its axes where these are known; None for anything else."""
    if not _is(array, "pandas", "DataFrame") or len(form.dims) != 2:
        return None
    named = (array.index.name, array.columns.name)
    turned = named == form.dims[::-1]
    if not turned and (named[0] == form.dims[1] or named[1] == form.dims[0]):
        raise MeasureError(
            f"{label} has rows named {named[0]!r} and columns named {named[1]!r}, expected rows '{form.dims[0]}' and columns "
            f"'{form.dims[1]}'; transpose it or rename its axes (x.rename_axis)"
        )
    values = _numbers_of(label, array)
    if turned:
        array, values = array.T, values.T
    labels = {"index": array.index.to_numpy()}
    if array.index.name is not None and not _counts(array.index):
        labels[str(array.index.name)] = labels["index"]
    known = array.columns.name == form.dims[1] and not _counts(array.columns)
    columns = array.columns.to_numpy() if known else None
    return Given(label, form, values.shape, values.__getitem__, labels, columns)


def _counts(index: pd.Index) -> bool:
    """Return whether an index of pandas is the one that stands where there are no labels: 0, 1, 2 and so on."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1)


def _numbers_of(label: str, frame: pd.DataFrame) -> np.ndarray:
    """Return a table's values; the array that it holds, if that is one of NumPy's."""
    from pandas.api import types

    others = [
        str(name)
        for name, kind in frame.dtypes.items()
        if not types.is_numeric_dtype(kind) or types.is_complex_dtype(kind)
    ]
    if others:
        shown = ", ".join(f"'{name}'" for name in others[:5]) + (", ..." if len(others) > 5 else "")
        raise MeasureError(f"{label} has columns that are not real numbers ({shown}), expected units alone; drop them")
    kinds = set(frame.dtypes)
    if len(kinds) == 1 and isinstance(next(iter(kinds)), np.dtype):
        return frame.to_numpy()
    # Columns that can lack a value say so by an NA of their own.
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)


# Arrays by position


def _plain(label: str, array: Any, form: Form) -> Given:
    """Return anything else that holds numbers; rows are its first axis."""
    if not array_api_compat.is_array_api_obj(array):
        if all(hasattr(array, name) for name in ("tile", "n", "p")) and len(form.dims) == 2:
            return Given(label, form, (int(array.n), int(array.p)), lambda rows: array.tile(rows.start, rows.stop))
        array = _made_array(label, array, form)
    _refuse(label, form, array)
    if isinstance(array, np.ndarray):
        array = np.asarray(array)  # memory maps are read when rows are; a mask that masks nothing goes
    if any(isinstance(length, float) and math.isnan(length) for length in array.shape):
        raise MeasureError(
            f"{label} is a Dask array of unknown length, expected {form.words}; call x.compute_chunk_sizes()"
        )
    return Given(label, form, tuple(map(int, array.shape)), array.__getitem__)


def _made_array(label: str, array: Any, form: Form) -> np.ndarray:
    """Return what is no array yet as NumPy's."""
    if hasattr(array, "todense"):
        raise MeasureError(f"{label} is sparse, expected every value; pass x.todense()")
    sequence = isinstance(array, Sequence)
    try:
        made = np.asarray(_without_arrays(label, form, array) if sequence else array)
    except (TypeError, ValueError, RuntimeError) as cause:
        lengths = {len(row) for row in array if hasattr(row, "__len__")} if sequence else set()
        uneven = f"its rows have from {min(lengths)} to {max(lengths)} values" if len(lengths) > 1 else ""
        raise MeasureError(
            f"{label} is not an array of numbers: {uneven or _first_line(cause)}; pass {form.values} {form.words}"
        ) from None
    if made.ndim == 0 and made.dtype.kind not in "fiubc":
        raise MeasureError(
            f"{label} is of the type {type(array).__name__}, expected {form.values} {form.words}; pass an array"
        )
    return made


def _without_arrays(label: str, form: Form, item: Any) -> Any:
    """Return a sequence with the arrays inside it as NumPy's: NumPy itself would drop a row's mask and fails for gradients."""
    if isinstance(item, int | float | np.generic):
        return item
    if isinstance(item, list | tuple):
        return [_without_arrays(label, form, inner) for inner in item]
    if _is(item, "xarray", "DataArray", "Variable"):
        item = item.data
    return to_host(_read(label, form, item)) if array_api_compat.is_array_api_obj(item) else item


def _refuse(label: str, form: Form, array: Any, start: int = 0) -> None:
    """Refuse an array that does not hold one real number per place; only its type and a mask are looked at."""
    if _is(array, "torch", "Tensor"):
        _refuse_tensor(label, array)
        return
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        mask = np.ma.getmaskarray(array)
        out = f"leave those {form.rows} out{' in all layers' if form.rows == 'stimuli' else ''}"
        if mask.ndim == 2:
            out += (
                f"{_numbered(np.asarray(mask.any(axis=1)), start)}, as x[~np.ma.getmaskarray(x).any(axis=1)].data does"
            )
        raise MeasureError(f"{label} has masked values, expected a value for every place; {out}")
    _refuse_dtype(label, form, array.dtype)


def _refuse_dtype(label: str, form: Form, dtype: Any) -> None:
    kind = getattr(dtype, "kind", "f")  # of a namespace of its own: it holds nothing but numbers
    if kind == "c":
        raise MeasureError(
            f"{label} is complex ({dtype}), expected real numbers; pass x.real or abs(x), or both parts as units of "
            "their own, np.hstack([x.real, x.imag])"
        )
    if kind == "O":
        raise MeasureError(
            f"{label} is not an array of numbers: it holds Python objects (dtype object); convert it first, x.astype(float)"
        )
    # Kinds of another package, such as bfloat16 of ml_dtypes, have the letter V, as records do.
    if kind not in "fiubV" or (kind == "V" and (dtype.names or not np.can_cast(dtype, np.float64))):
        raise MeasureError(f"{label} is not an array of numbers (dtype {dtype}); pass {form.values} {form.words}")


def _refuse_tensor(label: str, tensor: Any) -> None:
    import torch

    if _is(tensor, "torch.masked", "MaskedTensor"):
        raise MeasureError(
            f"{label} is a masked tensor, expected a value for every place; leave out what is masked first"
        )
    if tensor.is_nested:
        raise MeasureError(
            f"{label} is a nested tensor of rows of unlike lengths, expected one table; pad or cut the rows"
        )
    if tensor.layout != torch.strided:
        raise MeasureError(f"{label} is sparse, expected every value; pass x.to_dense()")
    if tensor.is_meta or hasattr(tensor, "fake_device"):
        kind = "lies on the device 'meta'" if tensor.is_meta else "is a fake tensor"
        raise MeasureError(f"{label} {kind}: it has a shape and no values; compute it on a real device")
    if tensor.dtype.is_complex:
        raise MeasureError(
            f"{label} is complex ({tensor.dtype}), expected real numbers; pass x.real or x.abs(), or both parts as units of "
            "their own, torch.hstack([x.real, x.imag])"
        )
    if tensor.is_quantized:
        raise MeasureError(f"{label} is quantised ({tensor.dtype}), expected numbers; pass x.dequantize()")
    try:
        torch.empty(1, dtype=tensor.dtype).to(torch.float64)
    except (RuntimeError, TypeError) as cause:
        raise MeasureError(
            f"{label} has the dtype {tensor.dtype}, which Torch cannot widen ({_first_line(cause)}); unpack it first"
        ) from None


def _read(label: str, form: Form, rows: Any, start: int = 0, *, host: bool = False) -> Any:
    """Return rows as real numbers in memory, on the CPU if `host` says so; nothing is rounded below 2^53."""
    if array_api_compat.is_dask_array(rows):
        rows = rows.compute()
    _refuse(label, form, rows, start)
    if not _is(rows, "torch", "Tensor"):
        plain = rows if array_api_compat.is_cupy_array(rows) else np.asarray(rows)
        return plain.astype(np.float64) if plain.dtype.kind == "V" else plain
    import torch

    rows = rows.detach().resolve_neg()
    rows = rows.cpu() if host else rows  # before it is widened: not every device has double precision
    if rows.dtype in (torch.float32, torch.float64):
        return rows
    # Single precision holds every number of the narrower kinds; whole numbers need double.
    return rows.to(torch.float32 if rows.dtype.is_floating_point else torch.float64)
