"""Show stimuli to a network and reduce every tap's feature maps inside the hook, in one pass for all taps.

A full set of feature maps does not fit: each batch's maps are reduced to the asked places while the forward pass
runs, and the pass stops behind the deepest tap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from universality.activations.sampling import places
from universality.activations.spec import ExtractionSpec
from universality.base import memory
from universality.base.errors import TapError
from universality.models import hooks, unclipped
from universality.models.card import Size, Tap, input_shape
from universality.stimuli.framing import Frame

Batch = np.ndarray
Reduced = dict[str, np.ndarray]

_DIMENSIONS = 4
"""Of the weights of a convolution of images."""
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def reducer(tap: Tap, spec: ExtractionSpec, size: Size, frame: Frame | None = None) -> Callable[[Tensor], Tensor]:
    """Return the function that reduces maps (batch, channel, y, x) of `tap` as `spec` says.

    Tokens come as the map of their grid (without class and register tokens) and a vector as a map of one position, so each is
    reduced as a map is; only places cannot be told apart in a vector, which `sampling.refuse_places` refuses.

    - ``center``: maximum over the positions within `center_radius` of the one whose receptive-field centre is
      nearest the scene's middle -> (batch, channel)
    - ``mean``, ``max``: over all positions -> (batch, channel)
    - ``positions``: the positions whose receptive-field centres are nearest a grid of places of the scene, rows
      first -> (batch, position, channel)

    The scene is the image, or the part of it that `frame` says.
    """
    if spec.reduction == "mean":
        return lambda maps: maps.mean((2, 3), dtype=torch.float64)
    if spec.reduction == "max":
        return lambda maps: maps.amax((2, 3))
    rows, columns = places(tap, spec, size, frame)
    if spec.reduction == "center":
        down, across = (
            slice(max(at[0] - spec.center_radius, 0), at[0] + spec.center_radius + 1) for at in (rows, columns)
        )
        return lambda maps: maps[:, :, down, across].amax((2, 3))
    grid = torch.tensor(rows)[:, None], torch.tensor(columns)[None, :]
    return lambda maps: maps[:, :, grid[0], grid[1]].flatten(2).transpose(1, 2)


def probe(network: nn.Module, taps: Sequence[Tap], size: Size) -> str:
    """Check every tap against one full forward pass; return the path of the tap that comes last.

    Raises
    ------
    TapError
        If a module does not exist, is called another number of times than declared, or its channels or map size
        differ from the declared ones.
    """
    order: list[Tap] = []
    shapes: dict[str, tuple[int, ...]] = {}

    def note(tap: Tap, maps: Tensor) -> None:
        order.append(tap)
        shapes[tap.name] = tuple(maps.shape)

    image = torch.zeros(1, *input_shape(size), device=hooks.device_of(network))
    with torch.inference_mode(), hooks.watching(network, taps, note) as calls:
        network(image)
    for tap in taps:
        _check_calls(tap, calls.get(tap.path, 0))
        rows, *came = shapes[tap.name]
        expected = [tap.channels, tap.size, tap.columns]
        if came != expected:
            raise TapError(
                f"tap '{tap.name}' gives maps (channels, height, width) of {tuple(came)}, its card states {tuple(expected)}; "
                "correct the card or the input size"
            )
        if rows != 1:
            raise TapError(f"tap '{tap.name}' gives {rows} maps for one image, expected one; choose another module")
    return order[-1].name


def _check_calls(tap: Tap, came: int) -> None:
    if came == 0:
        raise TapError(
            f"tap '{tap.name}': module '{tap.path}' is never called in a forward pass; choose another module"
        )
    if came != tap.calls:
        raise TapError(
            f"tap '{tap.name}': module '{tap.path}' is called {came} times in a forward pass, its card declares "
            f"{tap.calls}; set calls = {came} and choose one with call"
        )


def laid_out(network: nn.Module) -> nn.Module:
    """Return the network with the channels of its weights last, as the images are laid out; one that has it is not touched.

    To lay out weights that another thread reads is a race that ends in wrong sizes or a crash: do it before they are shared.
    """
    tensors = [t for t in (*network.parameters(), *network.buffers()) if t.dim() == _DIMENSIONS]
    if all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return network
    return network.to(memory_format=torch.channels_last)


def read_at(network: nn.Module, taps: Sequence[Tap], spec: ExtractionSpec, size: Size) -> tuple[Tap, ...]:
    """Return where each tap is read: one that clips before it does so, where the reduction allows (`ExtractionSpec.unclipped`)."""
    asked = [tap if spec.unclipped(tap) else tap.model_copy(update={"clips_at": None}) for tap in taps]
    return unclipped.places(network, asked, size)


def extract(
    network: nn.Module,
    taps: Sequence[Tap],
    batches: Iterable[Batch],
    spec: ExtractionSpec,
    size: Size,
    frame: Frame | None = None,
) -> Iterator[Reduced]:
    """Yield, for each batch of normalised images, the reduced activations of all taps by tap name.

    Of a tap that clips (`Tap.clips_at`) they are the values before that, cut at 0, but of means: see `read_at`.

    Parameters
    ----------
    network : nn.Module
        In eval mode; its hooks are removed when the generator ends or is closed.
    batches : iterable of (stimulus, channel, y, x) float32 arrays
        A last, shorter batch is padded for the forward pass, so that every pass has the same shape.
    size : int or tuple
        Side of the images, px; or channels, height and width of others than square ones in colour.
    frame : Frame, optional
        Part of the images that the scene fills; all of them without it.

    Yields
    ------
    dict of tap name to array
        (stimulus, unit), or (stimulus, position, unit) for ``positions``, of ``spec.dtype``.

    Raises
    ------
    TapError
        As `probe`, and where a tap gives NaN or infinite values.
    """
    memory.keep_freed_memory()
    last = probe(network, taps, size)
    places = read_at(network, taps, spec, size)
    if places != tuple(taps):
        last = probe(network, places, size)
    reducers = {tap.name: reducer(tap, spec, size, frame) for tap in taps}
    caught: dict[str, Tensor] = {}

    def catch(tap: Tap, maps: Tensor) -> None:
        # Reduction may return a view of a tensor that an in-place ReLU overwrites next: copy it here.
        reduced = reducers[tap.name](maps).to(_DTYPES[spec.dtype], copy=True)
        caught[tap.name] = unclipped.cut(tap, reduced)
        if tap.name == last:
            raise hooks.StopForward

    network = laid_out(network)
    with hooks.watching(network, places, catch) as calls:
        for batch in batches:
            calls.clear()
            caught.clear()
            with torch.inference_mode():
                hooks.forward(network, to_torch(batch, spec.batch_size, hooks.device_of(network)))
            yield {tap.name: _checked(tap, caught[tap.name][: len(batch)]) for tap in taps}


def to_torch(batch: Batch, size: int, device: torch.device) -> Tensor:
    """Return normalised images (stimulus, channel, y, x) as a tensor of `size` images, the missing ones black, laid out as weights are."""
    if len(batch) < size:
        batch = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])
    return torch.from_numpy(batch).to(device).contiguous(memory_format=torch.channels_last)


def _checked(tap: Tap, values: Tensor) -> np.ndarray:
    array = values.cpu().numpy()
    if not np.isfinite(array).all():
        raise TapError(f"tap '{tap.name}' gave NaN or infinite activations; check the weights and the input")
    return array


def collect(reduced: Iterable[Reduced]) -> Mapping[str, np.ndarray]:
    """Return all batches of `extract` joined along the stimuli, by tap name (for sets that fit in memory)."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in reduced:
        for name, values in batch.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}
