"""Edit real weights between two taps: a copy of the network that is a network like any other.

Which weights those are is found by asking the network, not by names: one weight layer (convolution or linear) has to lie between the taps, whose inputs are the units of tap A and whose outputs are those of tap B, each up to
steps that keep units apart (nonlinearities, pooling, normalisation, concatenation).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from universality.base.errors import TapError, did_you_mean
from universality.models import catalogue, hooks, points, zoo
from universality.models.card import ModelCard, Size, Tap, input_shape
from universality.models.points import Point
from universality.models.survey import noise

WeightAction = Literal["remove", "remove_positive", "remove_negative", "swap", "scale", "set"]
WEIGHT_ACTIONS: tuple[str, ...] = get_args(WeightAction)
At = str | Tap | Point
Block = Callable[[Tensor], Tensor]
_STEP = 10.0
"""By which one unit is raised to see where it goes, in standard deviations of its layer."""


def edited_weights(
    network: str | nn.Module, tap_a: At, tap_b: At, units: tuple[Sequence[int] | None, Sequence[int] | None] = (None, None),
    action: WeightAction | Block = "remove", value: float | np.ndarray | Tensor | None = None, *, size: Size | None = None,
) -> nn.Module:  # fmt: skip
    """Return a copy of a network with the weights from units of tap A to units of tap B edited.

    The copy has other parameters, and so another hash of its weights: whatever is computed of it (`universality.activations`, `compare`, `visualise`, a job with ``models=``) is
    kept under keys of its own. It bears what was done as `weight_edits`, a tuple of sentences.

    Parameters
    ----------
    network : str or nn.Module
        Id of a model card, or a module, which stays as it is.
    tap_a, tap_b : names of taps or points (``universality zoo points ID``)
        With one convolution or linear layer between them.
    units : (units of A, units of B), each None for all
    action : what becomes of the weights (unit of B, unit of A, ky, kx) that are chosen
        ``remove``: 0; ``remove_positive``, ``remove_negative``: 0 where they are above, below 0; ``swap``: two units of B exchange them; ``scale``: times `value`; ``set``: `value`; or a
        function of them that gives others of their shape
    value : number, or array that fits the weights chosen
    size : of the input, where the network is a module: side in px, or (channels, height, width)

    Raises
    ------
    TapError
        There is no such layer between the taps, no such unit, or the edit makes NaN.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    >>> edited = edited_weights(network, "1", "2", ([0], None), size=8)
    >>> bool((edited[2].weight[:, 0] == 0).all()), bool((network[2].weight[:, 0] == 0).any())
    (True, False)
    """
    module, card = (network, None) if isinstance(network, nn.Module) else _of_card(network)
    if size is None and card is None:
        raise TapError("nothing says how large the module's input is; give size=, such as size=224")
    shape = input_shape(size) if size is not None else card.preprocessing.shape if card is not None else (3, 0, 0)
    made = copy.deepcopy(module)
    first, second = (points.found_in(made, tap, card) for tap in (tap_a, tap_b))
    with zoo.evaluating(made), torch.no_grad():
        path, inputs, outputs = _between(made, first, second, shape)
        layer = made.get_submodule(path)
        columns, rows = (
            _places(of, units[k], tap.name) for k, (of, tap) in enumerate(((inputs, first), (outputs, second)))
        )
        _edit(layer, rows, columns, action, value, f"{first.name} to {second.name}")
    how = action if isinstance(action, str) else getattr(action, "__name__", "function")
    said = f"{how} weights from {first.name} to {second.name} ({path}; units {_shown(units[0])} to {_shown(units[1])})"
    made.weight_edits = (*getattr(module, "weight_edits", ()), said)  # type: ignore[assignment]
    return made


def _of_card(name: str) -> tuple[nn.Module, ModelCard]:
    card = catalogue.card(name)
    return zoo.pretrained(card), card


def _shown(units: Sequence[int] | None) -> str:
    return "all" if units is None else ", ".join(str(int(unit)) for unit in units)


def _places(channels: np.ndarray, units: Sequence[int] | None, name: str) -> np.ndarray:
    if units is None:
        return channels
    chosen = np.asarray(units)
    if (
        chosen.ndim != 1
        or not chosen.size
        or chosen.dtype.kind not in "iu"
        or chosen.min() < 0
        or chosen.max() >= len(channels)
    ):
        raise TapError(
            f"units {_shown(list(units))} of '{name}', expected whole numbers from 0 to {len(channels) - 1}; correct them"
        )
    return np.asarray(channels[chosen])


def _between(
    network: nn.Module, first: Tap | Point, second: Tap | Point, shape: tuple[int, int, int]
) -> tuple[str, np.ndarray, np.ndarray]:  # fmt: skip
    """Return the path of the weight layer between two taps, its input channel of every unit of A and its output channel of every unit of B."""
    layers = {path: m for path, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    order: list[str] = []
    seen: dict[str, Tensor] = {}

    def note(tap: Tap | Point, value: object) -> None:
        order.append(tap.name)
        tensor = hooks.chosen(tap, value)
        seen.setdefault(tap.name, hooks.maps_of(points.arranged(tap, tensor), tensor).clone())

    def run(
        images: Tensor,
        watched: Sequence[Tap | Point],
        edit: Callable[[Tensor], Tensor] | None = None,
        at: Tap | Point | None = None,
    ) -> dict[str, Tensor]:
        order.clear()
        seen.clear()

        def change(tap: Tap | Point, value: object) -> object:
            tensor = hooks.chosen(tap, value).clone()
            maps = hooks.maps_of(points.arranged(tap, tensor), tensor)
            maps.copy_(edit(maps)) if edit is not None else None
            return hooks.put(tap, value, tensor)

        edited: list[Tap | Point] = [] if at is None else [at]
        with hooks.hooked(network, edited, change), hooks.hooked(network, watched, note):
            network(images)
        return dict(seen)

    image = noise(shape, hooks.device_of(network), 1)
    watched: list[Tap | Point] = [
        first,
        second,
        *(Point(path, side=side) for path in layers for side in ("input", "output")),
    ]
    found = run(image, watched)
    for tap in (first, second):
        if tap.name not in found:
            raise TapError(f"tap '{tap.name}' never fires in a forward pass; choose a module that the network calls")
    start, stop = order.index(first.name), order.index(second.name)
    inside = [path for path in layers if Point(path).name in order and start < order.index(Point(path, side="input").name) and order.index(Point(path).name) <= stop]  # fmt: skip
    own = [path for path in layers if path == second.path]  # a tap may be the layer itself
    count = found[first.name].shape[1]

    def raised(maps: Tensor) -> Tensor:
        changed = maps.clone()
        spread = float(maps.std()) or 1.0
        changed[torch.arange(count), torch.arange(count)] += _STEP * spread
        return changed

    tried = []
    for path in dict.fromkeys([*inside, *own]):
        given = Point(path, side="input")
        before = found[given.name]
        after = run(image.expand(count, -1, -1, -1), [given], raised, first)[given.name]
        inputs = _one_each((after - before).abs().amax((2, 3)) > 1e-6 * float(before.abs().max() + 1))
        width = found[Point(path).name].shape[1]

        def marked(maps: Tensor, width: int = width) -> Tensor:
            changed = maps.clone()
            spread = float(maps.std()) or 1.0
            changed[torch.arange(width), torch.arange(width)] += _STEP * spread
            return changed

        into = (
            run(image.expand(width, -1, -1, -1), [second], marked, Point(path))[second.name]
            if path != second.path
            else None
        )
        moved = (
            torch.eye(width, dtype=torch.bool)
            if into is None
            else (into - found[second.name]).abs().amax((2, 3)) > 1e-6 * float(found[second.name].abs().max() + 1)
        )
        outputs = _one_each(moved.T)
        tried.append(path)
        if inputs is not None and outputs is not None:
            return path, inputs, outputs
    held = f"{len(tried)} ({', '.join(tried[:3])}{' and more' if len(tried) > 3 else ''})" if tried else "none"
    raise TapError(
        f"weight layers between '{first.name}' and '{second.name}': {held}, expected one that takes the units of the first and gives those of the second; name points at the "
        "layer itself, such as the module before it and the layer (universality zoo points ID lists them)"
    )


def _one_each(moved: Tensor) -> np.ndarray | None:
    """Return for each row the one column that is true, all different; None where a row has none or several."""
    marks = moved.cpu().numpy()
    if not (marks.sum(axis=1) == 1).all():
        return None
    places = marks.argmax(axis=1)
    return places if len(set(places.tolist())) == len(places) else None


def _edit(
    layer: nn.Module, rows: np.ndarray, columns: np.ndarray, action: WeightAction | Block, value: float | np.ndarray | Tensor | None, said: str
) -> None:  # fmt: skip
    """Edit the weights of a layer from input channels to output channels, in place."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    groups = getattr(layer, "groups", 1)
    if groups != 1:
        raise TapError(
            f"the weights from {said} are of a convolution in {groups} groups, expected one group; choose another layer"
        )
    r, c = (torch.from_numpy(np.asarray(v, dtype=np.int64)) for v in (rows, columns))
    block = weight.data[r[:, None], c[None]].clone()
    made = _acted(block, action, value, said)
    if made.shape != block.shape:
        raise TapError(
            f"edit of the weights from {said} gives the shape {tuple(made.shape)}, expected {tuple(block.shape)} (unit of B, unit of A, ky, kx)"
        )
    if not bool(torch.isfinite(made).all()):
        raise TapError(f"edit of the weights from {said} made NaN or infinite weights; give finite ones")
    weight.data[r[:, None], c[None]] = made.to(weight.dtype)


def _acted(block: Tensor, action: WeightAction | Block, value: float | np.ndarray | Tensor | None, said: str) -> Tensor:
    if callable(action):
        return torch.as_tensor(action(block.clone()))
    if action not in WEIGHT_ACTIONS:
        raise TapError(
            f"edit of the weights from {said} has the action '{action}'{did_you_mean(str(action), WEIGHT_ACTIONS)}"
        )
    if (action in ("scale", "set")) != (value is not None):
        raise TapError(
            f"edit of the weights from {said}: the action '{action}' {'needs a' if value is None else 'takes no'} value"
        )
    if action == "remove":
        return torch.zeros_like(block)
    if action == "remove_positive":
        return block.clamp(max=0)
    if action == "remove_negative":
        return block.clamp(min=0)
    if action == "swap":
        if len(block) != 2:
            raise TapError(
                f"edit of the weights from {said}: swap exchanges the inputs of two units of tap B, came {len(block)}; name two"
            )
        return block.flip(0)
    given = torch.as_tensor(np.asarray(value)).to(block)
    return (block * given) if action == "scale" else given.expand_as(block)
