"""Measure what a card states about a tap: kind, channels, map size, receptive field, stride, offset, relative depth.

The receptive field is the smallest square that holds what each unit sees (`universality.models.footprints`). It is measured on
the network itself, in strips as long as the fields need and as narrow as the network takes: one image for each pixel of the
largest stride shows both ends of every field to the pixel, because a network moved by its largest stride sees the same.
Where that is not so (windows of attention), where a unit sees everything at every size, and where a field reaches the border
of the only input that a network takes, none is stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from universality.base.errors import TapError
from universality.models import footprints, hooks, unclipped
from universality.models.card import Size, Tap, tap_name
from universality.models.footprints import Seen, Side, TooLateError
from universality.models.survey import Survey, surveyed

Say = Callable[[str], None]
_STEP_PX = 64
"""Lengths differ from the input's by multiples of it: padding rules that depend on whether a map's size is odd ("same" padding)
then pad as they do at the card's size, at all strides up to 64."""
_LONGER_PX = (0, 256, 1024, 2048, 4096)
"""Added to the input, the next where a field does not fit."""
_WIDTHS_PX = (8, 16, 32, 64, 96, 128)
"""Of strips: the first that the network takes."""
_MOST_IMAGES = 128
_RANDOM_SUMS = 6


@dataclass(frozen=True)
class Place:
    """Where in a network a tap lies, and on which side of a nonlinearity; the name is by default the path."""

    path: str
    item: str = ""
    call: int = 0
    side: Literal["input", "output"] = "output"
    activation: Literal["pre", "post"] = "post"
    name: str = ""

    @property
    def label(self) -> str:
        """Name of the tap."""
        return self.name or tap_name(self.path, self.item)


def describe_tap(
    network: nn.Module,
    path: str,
    size: Size,
    *,
    call: int = 0,
    side: Literal["input", "output"] = "output",
    activation: Literal["pre", "post"] = "post",
    name: str = "",
    item: str = "",
) -> Tap:
    """Measure a tap of `network` at an input size (px, or channels, height and width) and return it as a card states it.

    Raises
    ------
    TapError
        If there is no such module, it is not called often enough, or it gives neither maps nor tokens nor a vector.
    """
    (found,) = describe_taps(network, [Place(path, item, call, side, activation, name)], size)
    if isinstance(found, TapError):
        raise found
    return found


def describe_taps(
    network: nn.Module,
    places: Sequence[Place],
    size: Size,
    *,
    survey: Survey | None = None,
    say: Say = lambda text: None,
    until: float = math.inf,
) -> list[Tap | TapError]:
    """Measure taps in a few passes for all of them; return each as a card states it, or why it cannot be.

    A network that never looks at some rows of its image (single pixels, with a stride) may show no field; then none is stated.

    Parameters
    ----------
    survey : what the network gives at this size, where that is known already
    say : is told what is measured, and about how long it takes
    until : on `time.monotonic`; what is not measured by then is given up
    """
    survey = survey or surveyed(network, size)
    drafts = [_draft(network, place, survey, str(number)) for number, place in enumerate(places)]
    placed = [tap for tap in drafts if isinstance(tap, Tap) and tap.kind != "vector"]
    fields = _Measurement(network, survey, say, until).fields(placed) if placed else {}
    ceilings = unclipped.ceilings(network, [tap for tap in drafts if isinstance(tap, Tap)], survey)
    return [
        tap
        if isinstance(tap, TapError)
        else _completed(tap, place, fields.get(tap.name), survey.shape, ceilings.get(tap.name))
        for tap, place in zip(drafts, places, strict=True)
    ]


def grid_taps(network: nn.Module, places: Sequence[Place], survey: Survey) -> list[Tap | TapError]:
    """Return taps whose receptive fields are not measured: their positions are where their grids lie in the image."""
    drafts = [_draft(network, place, survey, str(number)) for number, place in enumerate(places)]
    return [
        tap if isinstance(tap, TapError) else _completed(tap, place, None, survey.shape)
        for tap, place in zip(drafts, places, strict=True)
    ]


def _draft(network: nn.Module, place: Place, survey: Survey, name: str) -> Tap | TapError:
    """Return a tap without its receptive field; or why there is none."""
    try:
        hooks.module_at(network, place.path)
    except TapError as error:
        return error
    calls = survey.calls.get(place.path, 0)
    if place.call >= calls:
        return TapError(f"tap '{place.label}' was called {calls} times, so call {place.call} never comes")
    found = survey.at(place.path, place.call, place.side, place.item)
    if found is None or (found.item and not place.item and not found.item[0].isdigit()):
        here = (o for o in survey.outputs if (o.path, o.call, o.side) == (place.path, place.call, place.side))
        held = [f"'{tap_name(place.path, o.item)}'" for o in here if o.item]
        expected = f"one of {', '.join(held)}" if held else "maps, tokens or a vector"
        return TapError(f"tap '{place.label}' gives no tensor of that name, expected {expected}; choose another")
    arranged = survey.arranged(found.shape)
    if isinstance(arranged, str):
        return TapError(f"tap '{place.label}' {arranged}; choose another module")
    if not found.depth:
        return TapError(
            f"tap '{place.label}' lies before the first convolution or linear layer, expected one behind it; choose a later module"
        )
    return Tap.model_construct(
        name=name, path=place.path, item=place.item, call=place.call, calls=calls, side=place.side,
        activation=place.activation, kind=arranged.kind, layout=arranged.layout, prefix=arranged.prefix,
        channels=arranged.channels, size=arranged.size, width=arranged.width if arranged.width != arranged.size else None,
        rf_px=None, stride_px=None, rf_start_px=None, relative_depth=round(found.depth / survey.depth, 4),
    )  # fmt: skip


def _completed(
    tap: Tap,
    place: Place,
    field: Field | TapError | None,
    shape: tuple[int, int, int],
    ceiling: float | None = None,
) -> Tap | TapError:
    """Return the tap as a card states it: with its field, or else with where its grid lies in the image."""
    if isinstance(field, TapError):
        return TapError(f"tap '{place.label}' {field}")
    values: dict[str, Any] = {**tap.model_dump(), "name": place.label, "clips_at": ceiling}
    if field is not None:
        values |= {"rf_px": field.rf_px, "stride_px": field.stride_px, "rf_start_px": field.start_px}
    elif tap.kind != "vector":
        stride = _plain(shape[1] / tap.size)
        values |= {"stride_px": stride, "rf_start_px": (stride - 1) / 2}
    return Tap.model_validate(values)


def _plain(number: float) -> int | float:
    return int(number) if float(number).is_integer() else number


@dataclass(frozen=True)
class Field:
    """Side of the receptive field, distance between neighbouring fields, and centre of that of position 0, px."""

    rf_px: int
    stride_px: int | float
    start_px: float


Fields = dict[str, Field | TapError | None]
"""By tap name; None where every unit sees the whole image."""
_LATE = "was not measured in the time given; name fewer taps, or this one alone with --tap"


@dataclass(frozen=True)
class _Measurement:
    """Measures the receptive fields of taps of a network.

    Attributes
    ----------
    survey : what the network gives at the input's size
    """

    network: nn.Module
    survey: Survey
    say: Say
    until: float

    def fields(self, taps: Sequence[Tap]) -> Fields:
        """Return the receptive fields; tokens are measured at the input's own size, as a row of them fits no other."""
        found: Fields = {}
        maps = [tap for tap in taps if tap.kind == "map"]
        with footprints.measuring():
            strip = self._narrowest(maps) if maps else None
            # A network may take one strip and refuse a longer one with whatever error its code raises: then its own size is left.
            with suppress(Exception):
                found |= self._in_strips(maps, strip) if strip is not None else {}
            rest = [tap for tap in taps if tap.name not in found]
            if rest:
                try:
                    found |= self._at_own_size(rest)
                except Exception as cause:
                    why = f"cannot be measured: shown values that are not numbers, the network raised {type(cause).__name__}: {cause}"
                    found |= {tap.name: TapError(why.replace("\n", " ")) for tap in rest}
        return found

    def _seen(
        self, taps: Sequence[Tap], height: int, width: int, rows: Sequence[range], side: Side = "rows"
    ) -> dict[str, Seen]:
        shape = (self.survey.shape[0], *((height, width) if side == "rows" else (width, height)))
        return footprints.seen(self.network, taps, shape, rows, side, self.until)

    def _narrowest(self, taps: Sequence[Tap]) -> int | None:
        """Return the width of the narrowest strip that the network takes, longer than its input; None if it takes none."""
        for width in _WIDTHS_PX:
            try:
                self._seen(taps, self._length(_LONGER_PX[1]), width, [range(0)])
            except TooLateError:
                return None
            except Exception:  # whatever a network raises for a size that it does not take: any of its code may
                continue
            return width
        return None

    def _length(self, more: int) -> int:
        return self.survey.shape[1] + more

    def _in_strips(self, taps: Sequence[Tap], width: int) -> Fields:
        """Return the fields of maps: how long a strip each needs is seen in one image at each length."""
        found: Fields = {}
        positions: dict[str, int] = {}
        strides: dict[str, float] = {}
        needed: dict[str, int] = {}
        left = list(taps)
        for more in _LONGER_PX:
            if not left:
                break
            length = self._length(more)
            band = _middle(length)
            try:
                came = self._seen(left, length, width, [range(0), band])
            except TooLateError:
                return found | {tap.name: TapError(_LATE) for tap in taps if tap.name not in found}
            for tap in list(left):
                control, shown = came[tap.name]
                if control.any():
                    found[tap.name] = TapError(
                        "gives values that are not numbers for an image of noise; choose another module"
                    )
                elif tap.name not in positions:
                    positions[tap.name] = shown.size
                    continue
                elif shown.size == positions[tap.name]:
                    found[tap.name] = None  # pooled to a map of one size, whatever the input's
                elif not (shown[0] or shown[-1]):
                    strides[tap.name] = stride = _stride(more / (shown.size - positions[tap.name]))
                    needed[tap.name] = (
                        math.ceil((np.ptp(np.flatnonzero(shown)) + 3) * stride) - len(band) if shown.any() else 0
                    )
                else:
                    continue
                left.remove(tap)
        found |= {tap.name: None for tap in left}  # everything at every size
        odd = [tap for tap in taps if tap.name in strides and _LONGER_PX[-1] % strides[tap.name]]
        if odd:
            # Of a stride that is no power of two the longest strip tells more.
            came = self._seen(odd, self._length(_LONGER_PX[-1]), width, [range(0)])
            strides |= {t.name: _stride(_LONGER_PX[-1] / (came[t.name].shape[1] - positions[t.name])) for t in odd}
        for group in self._groups([tap for tap in taps if tap.name in strides], strides, needed):
            found |= self._exactly(*group, strides, width)
        return found

    def _groups(
        self, taps: Sequence[Tap], strides: dict[str, float], needed: dict[str, int]
    ) -> list[tuple[list[Tap], int]]:
        """Return taps whose fields fit into strips of about one length, with that length; the short ones are cheap."""
        room = 3 * _period(strides[tap.name] for tap in taps) + 2 * _STEP_PX if taps else 0
        groups: dict[int, list[Tap]] = {}
        for tap in taps:
            fits = next((more for more in _LONGER_PX if self._length(more) >= needed[tap.name] + room), _LONGER_PX[-1])
            groups.setdefault(fits, []).append(tap)
        found = []
        for of in groups.values():
            missing = max(needed[tap.name] for tap in of) + room - self._length(0)
            found.append((of, self._length(max(-(-missing // _STEP_PX), 0) * _STEP_PX)))
        return found

    def _at_own_size(self, taps: Sequence[Tap]) -> Fields:
        """Return the fields of taps of a network that takes no other size, as far as these lie in its input."""
        _, height, width = self.survey.shape
        found: Fields = {}
        try:
            came = self._seen(taps, height, width, [range(0), _middle(height)])
        except TooLateError:
            return {tap.name: TapError(_LATE) for tap in taps}
        for tap in taps:
            control, shown = came[tap.name]
            if control.any():
                found[tap.name] = TapError(
                    "gives values that are not numbers for an image of noise; choose another module"
                )
            elif shown.all():
                found[tap.name] = None
        left = [tap for tap in taps if tap.name not in found]
        return found | (
            self._exactly(left, height, {tap.name: _stride(height / tap.size) for tap in left}, width) if left else {}
        )

    def _exactly(self, taps: Sequence[Tap], length: int, strides: dict[str, float], width: int) -> Fields:
        """Return the fields of taps in images of one size, to the pixel; None where they differ from position to position."""
        total = _period(_stride(self.survey.shape[1] / rows) for rows, _ in self.survey.grids)
        found: Fields = {}
        left = list(taps)
        for period in dict.fromkeys([_period(strides[tap.name] for tap in taps), total]):
            if not left or period > _MOST_IMAGES:
                break
            self.say(
                f"receptive fields of {len(left)} taps: {period} images of {length} x {width} px, and some that check them"
            )
            pixels = range(length // 2 - period, length // 2)
            try:
                came = self._seen(left, length, width, _lines(pixels))
                fields = {tap.name: _fitted(came[tap.name], period, strides[tap.name], pixels.start) for tap in left}
                regular = {name: field for name, field in fields.items() if field is not None}
                found |= self._checked(
                    [tap for tap in left if tap.name in regular], regular, came, length, width, pixels
                )
            except TooLateError:
                return found | {tap.name: TapError(_LATE) for tap in left}
            left = [tap for tap in left if tap.name not in found]
        return found | {tap.name: None for tap in left}

    def _checked(
        self,
        taps: Sequence[Tap],
        fields: dict[str, Field],
        rows: dict[str, Seen],
        length: int,
        width: int,
        pixels: range,
    ) -> Fields:
        """Return the fields that a period further rows see likewise, and columns where rows do, at both ends of each field.

        Of fields that do not move with the position there is no answer.
        """
        if not taps:
            return {}
        period = len(pixels)
        ends = {tap.name: _ends(fields[tap.name], pixels) for tap in taps}
        wanted = sorted(set().union(*ends.values()))
        further = self._seen(taps, length, width, _lines(p + period for p in wanted))
        _, height, across = self.survey.shape
        turned = (length, width) if (length, width) != (height, across) else (across, height)
        columns = self._seen(taps, *turned, _lines(wanted), "columns")
        found: Fields = {}
        for tap in taps:
            moved = round(period / fields[tap.name].stride_px)
            at = [wanted.index(p) for p in sorted(ends[tap.name])]
            expected = [np.flatnonzero(rows[tap.name][wanted[i] - pixels.start]) for i in at]
            if not _same(expected, [np.flatnonzero(further[tap.name][i]) - moved for i in at]):
                continue
            if _same(expected, [np.flatnonzero(columns[tap.name][i]) for i in at]):
                found[tap.name] = fields[tap.name]
            else:
                found[tap.name] = TapError(
                    "has a receptive field that differs between rows and columns, which cards cannot state"
                )
        return found


def _lines(pixels: Iterable[int]) -> list[range]:
    return [range(p, p + 1) for p in pixels]


def _same(a: Sequence[NDArray[np.int64]], b: Sequence[NDArray[np.int64]]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _middle(length: int) -> range:
    """Return rows in the middle of an image: an eighth of it, so that one at least is seen, at most 64."""
    rows = min(max(length // 8, 1), _STEP_PX)
    return range((length - rows) // 2, (length + rows) // 2)


def _stride(measured: float) -> float:
    """Return the nearest whole stride, or one divided by a whole number for an enlarged map."""
    return float(round(measured)) if measured >= 1 else 1 / round(1 / measured)


def _period(strides: Iterable[float]) -> int:
    """Return after how many px all of these strides are whole."""
    return math.lcm(*(max(round(stride), 1) for stride in strides))


def _fitted(seen: Seen, period: int, stride: float, start: int) -> Field | None:
    """Return the smallest field, the same at all positions, that holds what each sees; None if there is no such.

    `seen` holds a period of pixels, the first of which is `start`: after it, every position sees what another one sees that is
    as many positions before it as a period has.
    """
    moved = round(period / stride)
    if seen[:, 0].any() or seen[:, -1].any():
        return None
    pixel, position = np.nonzero(seen)
    turn, place = np.divmod(position, moved)
    offset = start + pixel - period * turn
    if np.unique(place).size < moved:
        return None
    step = period / moved
    high, low = (offset - step * place).max(), (offset - step * place).min()
    return Field(math.ceil(high - low + 1 - 1e-9), _plain(step), float(high + low) / 2)


def _ends(field: Field, pixels: range) -> set[int]:
    """Return pixels at both ends of a field, and just outside it, as they lie among `pixels`, which are a period."""
    low, high = (field.start_px + sign * (field.rf_px - 1) / 2 for sign in (-1, 1))
    ends = (math.ceil(low) - 1, math.ceil(low), math.floor(high), math.floor(high) + 1)
    return {pixels.start + (end - pixels.start) % len(pixels) for end in ends}


def effective_side_px(network: nn.Module, tap: Tap, images: NDArray[np.float32], share: float = 0.9) -> int:
    """Return the side of the effective receptive field: the part of the theoretical one that moves the centre unit.

    The smallest square about the field's centre with `share` of the squared gradient of the centre units with respect to the
    input, summed over images and over six random sums of all units (Luo et al. 2016, Understanding the effective receptive field;
    there the border is 4.5 % of the peak). It depends on the weights and on the images, so no card states it.

    Parameters
    ----------
    images : (stimulus, channel, y, x) float32
        Normalised for the network, at its input size.
    share : float
        0 to 1, of the squared gradient within the image.

    Returns
    -------
    int
        px; odd or even as the theoretical field is, so that both have one centre.

    Raises
    ------
    TapError
        If no unit at the centre answers to the images.
    """
    caught: list[Tensor] = []

    def catch(_: Tap, maps: Tensor) -> None:
        caught.append(maps)
        raise hooks.StopForward

    if tap.rf_px is None:
        raise TapError(
            f"tap '{tap.name}' sees the whole image and has no receptive field, expected a tap with one; choose another"
        )
    shown = torch.from_numpy(images).to(hooks.device_of(network)).requires_grad_()
    with hooks.watching(network, [tap], catch):
        hooks.forward(network, shown)
    size_px = images.shape[-1]
    index = tap.center_index(size_px)
    units = caught[0][:, :, index, index]
    energy = np.zeros((size_px, size_px))
    generator = torch.Generator().manual_seed(0)
    for _ in range(_RANDOM_SUMS):
        weights = torch.randn(units.shape, generator=generator).to(units.device)
        (gradient,) = torch.autograd.grad((units * weights).sum(), shown, retain_graph=True)
        energy += (gradient.double() ** 2).sum((0, 1)).cpu().numpy()
    if energy.sum() == 0:
        raise TapError(f"tap '{tap.name}': no unit at the centre answers to these images; show others")
    away = np.abs(np.arange(size_px) - tap.centre_px((size_px - 1) / 2))
    ring = np.maximum(away[:, None], away[None, :])
    sides = np.arange(2 - tap.rf_px % 2, tap.rf_px + 2, 2)
    within = [energy[ring <= (side - 1) / 2].sum() for side in sides]
    return int(sides[np.searchsorted(within, share * energy.sum())])
