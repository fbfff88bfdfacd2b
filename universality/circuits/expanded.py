"""Weights between any two taps of a network: how a unit answers to units some layers before it, place by place.

``E[i, j, dy, dx]`` is the derivative of unit i of tap B, at the middle of its map, with respect to unit j of tap A at the offset (dy, dx) from the middle
of the field. Three kinds:

- ``linear``: in the network made linear (`universality.circuits.linear`): products of weights summed over all paths. Exact where the path is linear; elsewhere the
  expected gradient up to a factor if units fire equally and independently. It fails where opposite cases cancel: published boundary detectors show none.
- ``mean_gradient``: the gradient of the network as it is, mean over natural images.
- ``case_gradients``: the same, image by image.

References
----------
C. Voss et al., Visualizing weights, Distill 2021 (expanded weights). Departures: the derivative is taken at one position of the network as it runs, so that paths through
depthwise and grouped convolutions, concatenations, residual sums, pooling and strides need no case of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from universality.activations.in_hand import Subject, subject, taps_of
from universality.activations.network import tap_of
from universality.activations.store import store_at
from universality.base.errors import TapError
from universality.base.paths import DEFAULT_STORE
from universality.circuits import kept
from universality.circuits.linear import Linearised, ProductError
from universality.models import catalogue, hooks, zoo
from universality.models.card import Preprocessing, Tap
from universality.models.receptive_field import describe_tap
from universality.stimuli import sets
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

Kind = Literal["linear", "mean_gradient", "case_gradients"]
KINDS: tuple[Kind, ...] = ("linear", "mean_gradient", "case_gradients")
IMAGES = 32
"""Natural images whose gradients are taken."""
MOST_RESULT_BYTES = 4 << 30


def expanded_weights(
    model: str | nn.Module,
    tap_a: str,
    tap_b: str,
    units: Sequence[int] | None = None,
    kind: Kind = "linear",
    image_size: int | None = None,
    *,
    images: NDArray[np.float32] | None = None,
    max_bytes: int = MOST_RESULT_BYTES,
    store: str | Path | None = None,
) -> xr.DataArray:
    """Return how units of a later tap answer to those of an earlier one, place by place.

    Parameters
    ----------
    model : str or nn.Module
        The id of a card, whose taps then are named (modules too), or a module, whose taps are module names.
    tap_a, tap_b : str
        The earlier and the later tap.
    units : sequence of int, optional
        Of the later tap; all when left out.
    kind : str
        ``linear``, ``mean_gradient`` or ``case_gradients``: see the module's docstring.
    image_size : int, optional
        Side of the input, px; that of the card. A module needs one.
    images : array, optional
        (image, channel, y, x) as the network takes them, for the gradients; crops of standard photographs when left out, of a card.
    max_bytes : int
        What the weights may take, bytes; more is refused before anything is computed.
    store : str or Path, optional
        Folder or URL where weights of 64 MiB or more are kept, named by what decides them (architecture, weights, taps, units, kind, size and images), and read from
        piece by piece (Dask) when they are asked for again; what is damaged there is made again. When left out, that of runs (``data/store``) for a card's network; a module in hand
        is kept only in a store that is named, for its identity is no more than its weights and its structure.

    Returns
    -------
    DataArray
        (unit_b, unit_a, dy, dx) float32, for ``case_gradients`` (image, unit_b, unit_a, dy, dx); a.u. of B for a.u. of A. Coordinates ``dy``, ``dx``: the offset of the
        source's centre from the middle of the target's field, px of the image. Offsets at which no weight is are cut away. Attributes ``model``, ``tap_a``,
        ``tap_b``, ``kind``. Of a vector (class weights) the offset is that from the middle of the image.

    Raises
    ------
    TapError
        A tap does not exist, tap B does not depend on tap A (wrong order, or another branch), a unit is out of range, or the weights take more than `max_bytes`.
    """
    if kind not in KINDS:
        raise TapError(f"unknown kind of weights '{kind}', expected one of {', '.join(KINDS)}")
    of = subject(model)
    if of.preprocessing is None and image_size is None:
        raise TapError(f"nothing says how large the images of '{of.name}' are; give image_size")
    channels, height, width = (
        of.preprocessing.shape if image_size is None and of.preprocessing else (3, image_size or 1, image_size or 1)
    )
    size = channels, height, width
    with zoo.evaluating(of.network):
        first, second = (_tap(of.name, model, of.network, name, size) for name in (tap_a, tap_b))
        chosen = list(range(second.channels)) if units is None else [int(unit) for unit in units]
        for unit in chosen:
            if not 0 <= unit < second.channels:
                raise TapError(
                    f"tap '{tap_b}' of '{of.name}' has no unit {unit}, expected 0 to {second.channels - 1}; choose another"
                )
        rows = len(chosen) * (1 if kind != "case_gradients" else IMAGES if images is None else len(images))
        _refuse_size(rows, first, second, max_bytes, of.name)
        if kind != "linear":
            images = _images(kind, of.preprocessing) if images is None else images

        def made() -> xr.DataArray:
            picks = torch.zeros(len(chosen), second.channels)
            picks[torch.arange(len(chosen)), torch.tensor(chosen, dtype=torch.long)] = 1.0
            found = _over(of.network, first, second, picks, _shown(kind, size, images), kind, of.name)
            return _labelled(found, first, second, chosen, size, kind, of.name)

        if _needed(rows, first) < kept.LEAST_BYTES or (store is None and of.card is None):
            return made()
        return kept.kept(store_at(store, DEFAULT_STORE), _identity(of, first, second, chosen, kind, size, images), made)


def weights_into(
    network: nn.Module, first: Tap, second: Tap, directions: NDArray[np.float64], size: tuple[int, int, int], name: str,
    images: NDArray[np.float32] | None = None,
) -> xr.DataArray:  # fmt: skip
    """Return the weights into directions of a later tap: as `expanded_weights`, whose ``unit_b`` here is the number of the direction.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    directions : (direction, unit) of tap B, a.u. of the direction for a.u. of the unit
    size : (channel, y, x) of the input
    name : of the network, for sentences
    images : (image, channel, y, x), optional
        As the network takes them: the mean of the gradients at these instead of the linear weights.

    Raises
    ------
    TapError
        Tap B does not depend on tap A.
    """
    picks = torch.from_numpy(np.ascontiguousarray(directions, dtype=np.float32))
    kind: Kind = "linear" if images is None else "mean_gradient"
    with zoo.evaluating(network):
        found = _over(network, first, second, picks, _shown(kind, size, images), kind, name)
    return _labelled(found, first, second, range(len(picks)), size, kind, name)


def _identity(
    of: Subject, first: Tap, second: Tap, units: Sequence[int], kind: Kind, size: tuple[int, int, int], images: NDArray[np.float32] | None
) -> str:  # fmt: skip
    """Return the name under which weights are kept: of all that decides them."""
    structure = (
        [type(of.network).__module__, type(of.network).__qualname__, repr(of.network)]
        if of.card is None
        else of.card.architecture_digest()
    )
    shown = None if images is None else sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    return kept.name_of([
        structure, zoo.state_dict_sha256(of.network.state_dict()), first.plain(), second.plain(), list(units), kind, list(size), shown, str(torch.__version__),
    ])  # fmt: skip


def _needed(rows: int, first: Tap) -> int:
    return 4 * rows * first.channels * first.size * first.columns


def _refuse_size(rows: int, first: Tap, second: Tap, max_bytes: int, name: str) -> None:
    needed = _needed(rows, first)
    if needed > max_bytes:
        raise TapError(
            f"weights of '{name}' from '{first.name}' into {rows} units (or units times images) of '{second.name}' take up to {needed / 1e9:.1f} GB, more than max_bytes "
            f"({max_bytes / 1e9:.1f} GB); ask for fewer units at a time, or allow more"
        )


def _over(
    network: nn.Module, first: Tap, second: Tap, picks: Tensor, shown: Iterable[Tensor], kind: Kind, name: str
) -> NDArray[np.float32]:
    """Return the derivatives (image, unit_b, unit_a, y, x), of one image (the mean over all) unless each is asked for."""
    each = (_gradients(network, first, second, picks, image, kind, name) for image in shown)
    if kind == "case_gradients":
        found = list(each)
        total = np.stack(found) if found else None
    else:
        total, count = None, 0
        for one in each:
            total, count = one if total is None else total + one, count + 1
        total = None if total is None else total[None] / np.float32(count)
    if total is None:
        raise TapError(f"no image is given at which the gradients of '{name}' are taken; give one or more")
    return total


def _tap(name: str, model: str | nn.Module, network: nn.Module, tap: str, size: tuple[int, int, int]) -> Tap:
    if isinstance(model, str):
        card = catalogue.card(model)
        if tap in {known.name for known in card.taps} or tap.rpartition(":")[0] in {known.name for known in card.taps}:
            return tap_of(card, tap)
    (found,) = taps_of(Subject(name, network, None, None), size, [tap])[:1]  # or a sentence
    return describe_tap(network, found.path, size, item=found.item)


def _shown(kind: Kind, size: tuple[int, int, int], images: NDArray[np.float32] | None) -> Iterator[Tensor]:
    """Yield the images, one by one, at which the network is asked; a linear network answers alike at all: an empty one."""
    if images is None or kind == "linear":
        yield torch.zeros(1, *size)
        return
    for image in images:
        yield torch.from_numpy(np.ascontiguousarray(image[None], dtype=np.float32))


def _images(kind: Kind, preprocessing: Preprocessing | None) -> NDArray[np.float32]:
    """Return crops of standard photographs as a network takes them."""
    if preprocessing is None:
        raise TapError(
            f"kind '{kind}' takes gradients at natural images, and nothing says how they are made for this module; give images"
        )
    spec = StimuliSpec(natural=NaturalStimuli(crops=IMAGES))
    images = sets.render("natural", spec, preprocessing.canvas_px, interpolation=preprocessing.interpolation)
    return sets.normalise(images.values, preprocessing)


def _gradients(
    network: nn.Module, first: Tap, second: Tap, picks: Tensor, image: Tensor, kind: Kind, name: str
) -> NDArray[np.float32]:
    """Return the derivatives (unit_b, unit_a, y, x) at one image of what `picks` (unit_b, unit) takes from tap B."""
    held: dict[str, Tensor] = {}

    def sink(tap: Tap, maps: Tensor) -> None:
        if tap.name == second.name and "a" in held:
            row, column = _middle(second, image.shape[2], maps.shape[2]), _middle(second, image.shape[3], maps.shape[3])
            held["b"] = maps[0, :, row, column]
            raise hooks.StopForward

    # A network in hand may lie on a GPU.
    image, picks = (of.to(hooks.device_of(network)) for of in (image, picks))
    with torch.enable_grad(), zoo.frozen(network):
        handle = _leaf(network, first, held)
        try:
            with hooks.watching(network, [second], sink), Linearised() if kind == "linear" else nullcontext():
                hooks.forward(network, image)
        except ProductError:
            raise TapError(
                f"tap '{second.name}' of '{name}' depends on tap '{first.name}' through attention, or another product of two things that both depend on it, expected a path that can "
                "be made linear; choose taps without such a step between them, or kind 'mean_gradient'"
            ) from None
        finally:
            handle.remove()
        if "b" not in held or not held["b"].requires_grad:
            raise _apart(first, second, name)
        leaf, answers = held["a"], held["b"]
        parts = []
        # One pass each: batched ones (vmap) are no faster for small layers, and slower by half for large ones.
        for pick in picks:
            try:
                (grad,) = torch.autograd.grad(answers, leaf, pick, retain_graph=True)
            except RuntimeError as cause:
                if "appears to not have been used in the graph" not in str(cause):
                    raise
                raise _apart(first, second, name) from None
            parts.append(hooks.maps_of(first, grad)[0].cpu().numpy())
    return np.stack(parts) if parts else np.zeros((0, *hooks.maps_of(first, leaf)[0].shape), np.float32)


def _apart(first: Tap, second: Tap, name: str) -> TapError:
    return TapError(
        f"tap '{second.name}' of '{name}' does not depend on tap '{first.name}': it comes before it, or lies on another branch; exchange them, or "
        "choose others"
    )


def _leaf(network: nn.Module, tap: Tap, held: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    """Make what a tap gives (or is given) a leaf of the graph, so that nothing before it is part of it."""
    module, calls = hooks.module_at(network, tap.path), [0]

    def own(value: Tensor) -> Tensor:
        if not isinstance(value, Tensor):
            raise TapError(
                f"tap '{tap.name}' gives {type(value).__name__}, expected one tensor to take derivatives by; choose another tap"
            )
        held["a"] = value.detach().clone().requires_grad_(True)
        return held["a"].clone()  # what follows may write in its place

    def after(_: nn.Module, __: object, output: Tensor) -> Tensor | None:
        calls[0] += 1
        return own(output) if calls[0] - 1 == tap.call else None

    def before(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        calls[0] += 1
        return (own(args[0]), *args[1:]) if calls[0] - 1 == tap.call else None

    return module.register_forward_pre_hook(before) if tap.side == "input" else module.register_forward_hook(after)


def _middle(tap: Tap, length: int, positions: int) -> int:
    return tap.index_at((length - 1) / 2, positions)


def _labelled(
    found: NDArray[np.float32],
    first: Tap,
    second: Tap,
    units: Sequence[int],
    size: tuple[int, int, int],
    kind: Kind,
    name: str,
) -> xr.DataArray:
    offsets = []
    for length, positions, of_b in ((size[1], first.size, second.size), (size[2], first.columns, second.columns)):
        middle = second.centre_px((length - 1) / 2, of_b)
        start, stride = (first.rf_start_px or 0.0), (first.stride_px or 1)
        if (
            positions == 1 and first.stride_px is None
        ):  # a vector sees the whole image: it lies in the middle of any field
            start = middle
        offsets.append(start + stride * np.arange(positions) - middle)
    support = np.abs(found).max(axis=(0, 1, 2)) > 0
    rows, columns = (np.flatnonzero(support.any(axis=axis)) for axis in (1, 0))
    window = tuple(slice(at[0], at[-1] + 1) if at.size else slice(0, 0) for at in (rows, columns))
    values = found[(..., *window)]
    array = xr.DataArray(
        values, dims=("image", "unit_b", "unit_a", "dy", "dx"),
        coords={
            "unit_b": list(units), "unit_a": np.arange(found.shape[2]), "dy": ("dy", offsets[0][window[0]], {"units": "px"}),
            "dx": ("dx", offsets[1][window[1]], {"units": "px"}),
        },
        attrs={"model": name, "tap_a": first.name, "tap_b": second.name, "kind": kind, "units": "a.u. of B for a.u. of A"}, name="weight",
    )  # fmt: skip
    return array if kind == "case_gradients" else array.isel(image=0)
