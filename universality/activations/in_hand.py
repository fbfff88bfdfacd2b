"""What a network in hand answers to images in hand: no job, no card, no store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from universality.activations import extraction
from universality.activations.spec import ExtractionSpec, Reduction
from universality.base.errors import CardError, StimulusError, TapError, did_you_mean
from universality.base.progress import Progress, reporter_for
from universality.base.schema import POSITION, STIMULUS
from universality.models import catalogue, zoo
from universality.models.card import ModelCard, Preprocessing, Size, Tap
from universality.models.in_hand import preprocessing_of
from universality.models.receptive_field import Place, grid_taps
from universality.models.survey import Output, Survey, surveyed
from universality.stimuli import manifest, sets
from universality.stimuli.folder import FolderStimuli
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

Batch = NDArray[np.float32]
STANDARD_IMAGES = 240
"""Crops of the standard photographs that are shown where no images are given."""
_IMAGE_DIMENSIONS = 4
_IN_DICT = ("image", "images", "pixel_values", "x", "input")
"""Where a batch that is a dictionary has its images."""


@dataclass(frozen=True)
class Subject:
    """A network and what is known of it.

    Attributes
    ----------
    card : of a model that was named; None for a module
    preprocessing : what makes an image its input; None where nobody said
    """

    name: str
    network: nn.Module
    card: ModelCard | None
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class Images:
    """Images as a network takes them, batch by batch, as often as they are asked for.

    Attributes
    ----------
    count : how many; -1 where that is known at the end only
    coords : by name, what is known of each image
    """

    batches: Callable[[], Iterator[Batch]]
    count: int
    coords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        """Channels, height and width."""
        first = next(self.batches(), None)
        if first is None or not len(first):
            raise StimulusError("there are no images, expected at least one; give others")
        channels, height, width = first.shape[1:]
        return (channels, height, width)


def subject(model: str | nn.Module, preprocessing: Preprocessing | Mapping[str, Any] | None = None) -> Subject:
    """Return a network by its card's id, or a module as it is.

    Raises
    ------
    CardError
        There is no such card, the preprocessing is malformed, or `model` is neither.
    """
    if isinstance(model, str):
        card = catalogue.card(model)
        network = zoo.pretrained(card)
        prepared = preprocessing_of(network, preprocessing) if preprocessing else card.preprocessing
        return Subject(model, network, card, prepared)
    if not isinstance(model, nn.Module):
        raise CardError(f"model is {type(model).__name__}, expected the id of a card or a torch.nn.Module")
    return Subject(type(model).__name__, model, None, preprocessing_of(model, preprocessing))


@contextmanager
def images_for(of: Subject, given: Any, batch_size: int) -> Iterator[Images]:
    """Yield images for a network: those of folders and standard ones are prepared, all others are taken as they are.

    Raises
    ------
    StimulusError
        They are of a kind, shape or type that no network is shown, or a folder has to be prepared for a module of which nobody
        said how.
    """
    if given is None or _is_path(given):
        if of.preprocessing is None:
            what = "the standard photographs" if given is None else f"images of '{given}'"
            raise StimulusError(
                f"{what} have to be resized and normalised for '{of.name}', and nothing says how; give preprocessing="
                "dict(size_px=..., mean=(...), std=(...)), or images as an array or DataLoader that the network takes as they are"
            )
        with tempfile.TemporaryDirectory() as folder:
            yield _prepared(of.preprocessing, _set_of(given, Path(folder)), batch_size)
        return
    array = _array(given)
    if array is not None:
        batches = [array[start : start + batch_size] for start in range(0, len(array), batch_size)]
        yield Images(lambda: iter(batches), len(array), _labels(given))
        return
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise StimulusError(
            f"images are {type(given).__name__}, expected a folder, an array (image, channel, y, x) or a DataLoader"
        )
    if iter(given) is given:
        raise StimulusError(
            "images are an iterator that ends after one pass, expected a DataLoader or a list of batches"
        )
    yield Images(lambda: (_batch(batch) for batch in given), -1)


def _is_path(given: Any) -> bool:
    if isinstance(given, (str, Path)):
        return True
    return isinstance(given, (list, tuple)) and bool(given) and all(isinstance(one, (str, Path)) for one in given)


def _set_of(given: Any, scratch: Path) -> list[tuple[str, StimuliSpec]]:
    """Return the sets that show standard images, or one folder after another; a folder without a manifest is listed."""
    if given is None:
        return [("natural", StimuliSpec(natural=NaturalStimuli(crops=STANDARD_IMAGES)))]
    found = []
    for number, place in enumerate([given] if isinstance(given, (str, Path)) else given):
        path = manifest.path_of(str(place))
        if Path(place).is_dir() and not path.exists():
            path = manifest.write(Path(place), scratch / f"{number}.toml").path
        found.append(("folder", StimuliSpec(folder=FolderStimuli(manifest=str(path)))))
    return found


def _prepared(preprocessing: Preprocessing, shown: Sequence[tuple[str, StimuliSpec]], batch_size: int) -> Images:
    tables = [sets.parameters(name, spec) for name, spec in shown]

    def batches() -> Iterator[Batch]:
        for (name, spec), table in zip(shown, tables, strict=True):
            count = table.sizes[STIMULUS]
            for start in range(0, count, batch_size):
                rows = slice(start, min(start + batch_size, count))
                drawn = sets.render(name, spec, preprocessing.canvas_px, rows, preprocessing.interpolation)
                yield sets.normalise(drawn.values, preprocessing)

    names = [str(name) for name in tables[0].coords if all(name in table.coords for table in tables)]
    coords = {name: np.concatenate([table[name].values for table in tables]) for name in names}
    return Images(batches, sum(table.sizes[STIMULUS] for table in tables), coords)


def _array(given: Any) -> Batch | None:
    """Return an array of images as float32; None where it is none."""
    if isinstance(given, xr.DataArray):
        wanted = (given.dims[0], "channel", "y", "x") if {"channel", "y", "x"} <= set(given.dims) else given.dims
        others = [dim for dim in given.dims if dim not in ("channel", "y", "x")]
        if {"channel", "y", "x"} <= set(given.dims) and len(others) == 1:
            wanted = (others[0], "channel", "y", "x")
        given = given.transpose(*wanted).values
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy() if given.dtype != torch.bfloat16 else given.detach().float().cpu().numpy()
    if not isinstance(given, np.ndarray):
        return None
    return _checked(given)


def _checked(array: NDArray[Any]) -> Batch:
    if array.ndim != _IMAGE_DIMENSIONS:
        raise StimulusError(
            f"images have the shape {array.shape}, expected (image, channel, y, x); add the missing dimensions"
        )
    if array.dtype.kind != "f":
        raise StimulusError(
            f"images are of type {array.dtype}, expected floats as the network takes them; scale and normalise them first"
        )
    if array.shape[1] not in (1, 2, 3, 4) and array.shape[3] in (1, 2, 3, 4):
        raise StimulusError(
            f"images have the shape {array.shape}, expected (image, channel, y, x); move the last dimension to the second place"
        )
    if not np.isfinite(array).all():
        raise StimulusError("images hold NaN or infinite values, expected finite ones; mend them")
    return np.asarray(array, dtype=np.float32)


def _batch(batch: Any) -> Batch:
    """Return the images of a batch of a DataLoader: itself, the first of several things, or a dictionary's."""
    if isinstance(batch, (list, tuple)):
        batch = batch[0] if batch else None
    if isinstance(batch, Mapping):
        batch = next((batch[name] for name in _IN_DICT if name in batch), None)
    found = _array(batch)
    if found is None:
        raise StimulusError(
            f"a batch holds {type(batch).__name__}, expected a tensor (image, channel, y, x), or one first of several"
        )
    return found


def _labels(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, xr.DataArray):
        return {}
    (dim,) = [dim for dim in given.dims if dim not in ("channel", "y", "x")][:1]
    return {str(name): c.values for name, c in given.coords.items() if c.dims == (dim,)}


def taps_of(of: Subject, size: Size, layers: str | Sequence[str]) -> tuple[Tap, ...]:
    """Return the taps that patterns choose, in forward order.

    ``all``: what blocks and stages give, what nonlinearities give, and the network's output; not single convolutions,
    normalisations and gates in between. Other patterns, with the shell's wildcards, are of the names of a card's taps, then of
    any module.

    Raises
    ------
    TapError
        A pattern fits nothing that gives maps, tokens or a vector.
    """
    patterns = [layers] if isinstance(layers, str) else list(layers)
    survey = surveyed(of.network, size)
    usable = [o for o in survey.outputs if o.side == "output" and o.path and o.depth and _fits(survey, o)]
    names = {_name(o): o for o in usable}
    chosen: dict[str, Output] = {}
    for pattern in patterns:
        fitting = (
            _every(of.network, survey, usable)
            if pattern == "all"
            else {n: o for n, o in names.items() if fnmatchcase(n, pattern)}
        )
        if not fitting:
            raise TapError(
                f"'{of.name}' has no layer that fits '{pattern}'{did_you_mean(pattern, names)}, expected patterns of module names such as "
                f"{', '.join(list(names)[:3])}"
            )
        chosen |= fitting
    places = [Place(o.path, o.item, o.call) for o in usable if _name(o) in chosen]
    taps = grid_taps(of.network, places, survey)
    for tap in taps:
        if isinstance(tap, TapError):
            raise tap
    return tuple(tap for tap in taps if isinstance(tap, Tap))


def _name(output: Output) -> str:
    return Place(output.path, output.item).label


def _fits(survey: Survey, output: Output) -> bool:
    return survey.calls.get(output.path, 0) == 1 and not isinstance(survey.arranged(output.shape), str)


def _every(network: nn.Module, survey: Survey, usable: Sequence[Output]) -> dict[str, Output]:
    """Return the layers that ``all`` means; of modules that give one tensor the outermost."""
    last = usable[-1].mark if usable else None
    owners: dict[object, Output] = {}
    for o in usable:
        inner = any(True for _ in network.get_submodule(o.path).children())
        bent = (o.bent or o.gated) and not survey.is_gate(o)
        encloses = o.mark in owners and owners[o.mark].path.startswith(f"{o.path}.")
        if encloses or (o.mark not in owners and not o.handed_on and (inner or bent or o.mark == last)):
            owners[o.mark] = o
    return {_name(o): o for o in owners.values()}


def answers(
    of: Subject, shown: Images, taps: Sequence[Tap], spec: ExtractionSpec, size: Size, advance: Callable[[int], None]
) -> dict[str, NDArray[Any]]:
    """Return what every tap answers, by name: (stimulus, unit), or (stimulus, position, unit); `advance` hears of every batch."""

    def counted() -> Iterator[Batch]:
        for batch in chain(shown.batches()):
            yield batch
            advance(len(batch))

    with zoo.evaluating(of.network):
        return dict(extraction.collect(extraction.extract(of.network, taps, counted(), spec, size)))


def activations(
    model: str | nn.Module,
    images: Any = None,
    layers: str | Sequence[str] = "all",
    *,
    reduction: Reduction = "mean",
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    batch_size: int = 32,
    progress: Progress = False,
) -> xr.Dataset:
    """Show images to a network and return what its layers answer.

    Parameters
    ----------
    model : str or nn.Module
        Id of a model card, or a module, which is shown images in eval mode and left in the mode in which it was.
    images : optional
        A folder (or several, or a manifest): its images are resized and normalised. An array or tensor (image, channel, y, x),
        an `xarray.DataArray` with dimensions ``channel``, ``y``, ``x`` and one more in any order, or a DataLoader: taken as they are.
        Without any, standard photographs.
    layers : str or sequence of str
        Patterns of module names (``layer*.conv2``), or ``all``: see `taps_of`.
    reduction : str
        How a map becomes units: its ``mean`` or ``max`` over positions, its ``center``, or an odd grid of ``positions``.
    preprocessing : mapping, optional
        ``size_px``, ``mean``, ``std`` (and ``width_px``, ``interpolation``) for images that have to be prepared; by default that of the card,
        or of a network of timm.
    batch_size : int
        Images in one forward pass.
    progress : bool or callable
        True shows it: a bar in a notebook, lines on standard error elsewhere. A function is called with the number of images shown,
        and of all (-1 where unknown).

    Returns
    -------
    xarray.Dataset
        One variable for each layer, in forward order: (stimulus, unit_NAME), with ``positions`` (stimulus, position, unit_NAME),
        a.u. Its attributes hold kind of the layer, relative depth (0 to 1) and unit count.

    Raises
    ------
    UniversalityError
        In one sentence: no such model or layer, or images that the network cannot be shown.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> found = activations(network, np.zeros((5, 3, 8, 8), dtype=np.float32))
    >>> {str(name): value.shape for name, value in found.items()}
    {'1': (5, 4), '3': (5, 2)}
    """
    spec = ExtractionSpec(reduction=reduction, batch_size=batch_size)
    of = subject(model, preprocessing)
    with images_for(of, images, batch_size) as shown:
        size = shown.size
        with zoo.evaluating(of.network):
            taps = taps_of(of, size, layers)
        advance = reporter_for(progress).track(f"images shown to {of.name}", shown.count)
        found = answers(of, shown, taps, spec, size, advance)
        coords = {name: (STIMULUS, values) for name, values in shown.coords.items()}
    dims = (STIMULUS, POSITION) if reduction == "positions" else (STIMULUS,)
    variables = {
        tap.name: (
            (*dims, f"unit_{tap.name}"),
            found[tap.name],
            {"kind": tap.kind, "relative_depth": tap.relative_depth},
        )
        for tap in taps
    }
    weights = zoo.state_dict_sha256(of.network.state_dict())
    return xr.Dataset(variables, coords, {"model": of.name, "weights": weights, "reduction": reduction})
