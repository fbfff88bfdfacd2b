"""Feature visualisations of a run's units, or of any network's: made once, kept by content, each beside what it reaches."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from universality.activations import extraction, pieces
from universality.activations.network import Network, tap_of
from universality.activations.places import Place, place_of
from universality.activations.spec import ExtractionSpec
from universality.activations.store import ActivationStore
from universality.base.errors import RunError
from universality.base.paths import DEFAULT_STORE
from universality.base.progress import Progress, Reporter, reporter_for
from universality.base.spec import digest
from universality.features import visualisation
from universality.features.visualisation import BATCH, Lens, Objective, Options
from universality.models import catalogue, in_hand
from universality.models.card import Tap
from universality.models.folding import folded
from universality.models.nonlinearity import other_side
from universality.runs.names import parse_unit
from universality.runs.run import Run
from universality.stimuli import image_files
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

FOLDER = "visualisations"
PICTURE, DRIVE = "picture", "drive"
_NATURAL_CROPS = 240
_HAND = "in-hand"
_UNLIKE = 0.3
"""Weight of what makes several faces of one unit unlike one another, beside an answer in standard deviations."""


@dataclass(frozen=True)
class Drive:
    """One unit that an image drives, or keeps silent.

    Attributes
    ----------
    model, tap, unit : as in the tables; `unit` -1 for a direction of the layer
    sign : 1 drives it, -1 keeps it silent
    direction : share of each unit, in its standard deviations; a random direction when left out. Of a unit it has no part
    """

    model: str
    tap: str
    unit: int
    sign: int = 1
    direction: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Drive:
        """Return what ``MODEL:TAP:INDEX`` names; with ``-`` in front the unit is kept silent."""
        silent = text.startswith("-")
        return cls(*parse_unit(text[1:] if silent else text), -1 if silent else 1)

    @property
    def label(self) -> str:
        """Its text."""
        of_layer = f"direction-{digest(self.direction)[:8]}" if self.direction else "random"
        return f"{'-' if self.sign < 0 else ''}{self.model}:{self.tap}:{of_layer if self.unit < 0 else self.unit}"


Asked = str | Drive | Sequence[str | Drive]
"""One unit, or several units that one image drives."""


def visualise(
    of: Run | str | nn.Module,
    units: Iterable[Asked],
    *,
    method: visualisation.Method = "fourier",
    steps: int = visualisation.STEPS,
    seed: int = 0,
    faces: int = 1,
    start: str | Path | None = None,
    store: str | Path | None = None,
    preprocessing: Any = None,
    progress: Progress = False,
    reporter: Reporter | None = None,
) -> xr.Dataset:
    """Make images that units answer to, each beside what it reaches among natural images and what a random direction reaches.

    Parameters
    ----------
    of : Run, str or nn.Module
        A run; the id of a card, or a module, of which units are then named.
    units : iterable
        For each image a unit ``MODEL:TAP:INDEX`` (of a card or a module ``TAP:INDEX`` will do), or a list of units that one image
        drives together, of one network or several; with ``-`` in front a unit is kept silent. A `Drive` names a direction of a layer.
    method : str
        ``fourier``: amplitudes and phases; ``phase``: phases alone, under the mean amplitudes of our photographs.
    steps : int
        Of the optimiser.
    seed : int
        Same arguments and seed, same bytes, on one kind of processor.
    faces : int
        Images of each unit, which become unlike one another where there are several.
    start : path, optional
        A photograph to begin with.
    store : path or URL, optional
        Where images are kept; the run's store, else ``data/store``. What is kept is not made again.
    progress : bool or callable
        As of `universality.activations`; `reporter` takes its place for commands.

    Returns
    -------
    Dataset
        ``image`` (picture, y, x, channel) uint8; for each unit that an image drives, (picture, drive): ``reached_sigma`` (its answer in standard deviations
        over natural images), ``percentile`` (share of held-out natural images to which it answers less, 0 to 100), ``natural_sigma`` (its
        largest answer to one of these), and the same of a random direction of the layer with the same budget, ``random_reached_sigma``,
        ``random_natural_sigma``; coordinates ``unit`` (picture, drive) and ``face``, and ``note`` (picture,): a sentence where an image stayed grey or a unit silent.

    Raises
    ------
    RunError
        There is no such model, tap or unit, or an option has no sense.
    """
    if steps < 1 or faces < 1:
        raise RunError(
            f"{steps} steps and {faces} faces of each unit are asked for, expected at least one of both; ask for more"
        )
    if method not in visualisation.LEARNING_RATE:
        raise RunError(f"unknown method '{method}', expected one of {', '.join(visualisation.LEARNING_RATE)}")
    begun = None if start is None else _photograph(Path(start))
    studio = _studio(of, store, preprocessing)
    try:
        wanted = [studio.drives(asked) for asked in units]
        if not wanted:
            raise RunError("no unit is asked for, expected at least one; name some")
        options = Options(method, steps, seed, _UNLIKE if faces > 1 else 0.0)
        return studio.shown(wanted, options, faces, begun, reporter or reporter_for(progress))
    finally:
        catalogue.IN_HAND.pop(_HAND, None)


def _studio(of: Run | str | nn.Module, store: str | Path | None, preprocessing: Any) -> Studio:
    if isinstance(of, Run):
        return OfRun(of, place_of(str(store or of.store)))
    place = ActivationStore(str(store or DEFAULT_STORE)).place
    if isinstance(of, nn.Module):
        return OfModels(place, {_HAND: (of, preprocessing)})
    catalogue.card(of)
    return OfModels(place, {of: None})


def _photograph(path: Path) -> Image.Image:
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise RunError(f"photograph '{path}' cannot be read: {cause.strerror or cause}; check the path") from None
    return image_files.decoded(content, path)[0]


class Studio(ABC):
    """Networks whose units are visualised: where each is driven and read, and what it answers to natural images."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lenses: dict[tuple[str, str], Lens] = {}
        self._modules: dict[str, nn.Module] = {}

    @abstractmethod
    def network(self, model: str, tap: str) -> tuple[Network, Tap]:
        """Return a network and one of its taps."""

    @abstractmethod
    def natural(self, model: str, tap: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a layer's standard deviations (unit,) and its answers to held-out natural images (image, unit), a.u."""

    def named(self, text: str) -> str:
        """Return the whole name of a unit."""
        return text

    def width(self, model: str, tap: str) -> int:
        """Return how many units a layer has, or directions of the basis that it is seen in."""
        return self.network(model, tap)[1].channels

    def direction(self, model: str, tap: str, unit: int) -> NDArray[np.float64] | None:
        """Return the weights (unit,) by which units make up a direction of the basis that a layer is seen in; None for the units themselves."""
        return None

    def drives(self, asked: Asked) -> tuple[Drive, ...]:
        """Return the units of one image; raise `RunError` for one that there is not, or that does not vary."""
        given = [asked] if isinstance(asked, (str, Drive)) else list(asked)
        found = tuple(one if isinstance(one, Drive) else Drive.parse(self.named(one)) for one in given)
        for drive in found:
            _, tap = self.network(drive.model, drive.tap)
            width = self.width(drive.model, drive.tap)
            if not -1 <= drive.unit < width:
                raise RunError(
                    f"'{drive.model}' has no unit {drive.unit} at '{drive.tap}', expected 0 to {width - 1}; choose another"
                )
            if drive.direction and len(drive.direction) != tap.channels:
                raise RunError(
                    f"a direction of '{drive.model}' at '{drive.tap}' has {len(drive.direction)} numbers, expected {tap.channels}, one for each unit"
                )
            if drive.unit >= 0 and not self._varies(drive):
                raise RunError(
                    f"unit {drive.unit} of '{drive.model}' at '{drive.tap}' answers the same to every natural image, so there is no scale for "
                    "what an image reaches; choose another"
                )
        return found

    def _varies(self, drive: Drive) -> bool:
        deviation = self.natural(drive.model, drive.tap)[0]
        read = self.direction(drive.model, drive.tap, drive.unit)
        return bool(deviation[drive.unit] > 0 if read is None else deviation[read != 0].any())

    def has(self, drive: Drive, options: Options | None = None) -> bool:
        """Return whether the image of one unit, and that of the random direction beside it, are kept."""
        both = (drive,), (Drive(drive.model, drive.tap, -1),)
        keys = (self._key((some, 0), options or Options(), None) for some in both)
        return all(self._place.has(pieces.name_of(FOLDER, key)) for key in keys)

    def lens(self, model: str, tap: str) -> Lens:
        """Return a network as it is seen at one tap."""
        if (model, tap) not in self._lenses:
            network, known = self.network(model, tap)
            other = other_side(network.card, known) if known.activation == "post" and network.module is None else None
            driven = known if other is None else other.tap
            if model not in self._modules:
                self._modules[model] = network.load().requires_grad_(False)
            shape = network.card.preprocessing.shape
            module = folded(self._modules[model], [driven, known], shape)
            (read,) = extraction.read_at(module, [known], network.extraction, shape)
            self._lenses[model, tap] = Lens(extraction.laid_out(module), driven, read, network.card.preprocessing)
        return self._lenses[model, tap]

    def shown(
        self,
        wanted: Sequence[tuple[Drive, ...]],
        options: Options,
        faces: int,
        start: Image.Image | None,
        reporter: Reporter,
    ) -> xr.Dataset:
        """Return the images of all that is wanted, with what they reach."""
        chance = [
            (Drive(model, tap, -1),) for model, tap in dict.fromkeys((d.model, d.tap) for some in wanted for d in some)
        ]
        every = [*((some, face) for some in wanted for face in range(faces)), *((some, 0) for some in chance)]
        images = self._images(every, options, start, reporter)
        random = {some[0].label: self._reached(some[0], images[some, 0]) for some in chance}
        rows = [(some, face) for some, face in every[: len(wanted) * faces]]
        most = max(len(some) for some, _ in rows)
        values = {name: np.full((len(rows), most), np.nan) for name in _VALUES}
        labels, notes = np.full((len(rows), most), "", dtype=object), []
        for line, (some, face) in enumerate(rows):
            said = []
            for place, drive in enumerate(some):
                reached = self._reached(drive, images[some, face])
                of_chance = random[Drive(drive.model, drive.tap, -1).label]
                labels[line, place] = drive.label
                for name, value in zip(_VALUES, (*reached, of_chance[0], of_chance[2]), strict=True):
                    values[name][line, place] = value
                if drive.sign > 0 and reached[0] <= 0:
                    said.append(f"{drive.label} stays silent: the optimisation found nothing that drives it")
            if visualisation.is_grey(images[some, face]):
                said.append("the image stayed grey")
            notes.append("; ".join(said))
        size = max(images[row].shape[0] for row in rows)
        pictures = np.stack([_sized(images[row], size) for row in rows])
        return xr.Dataset(
            {"image": ((PICTURE, "y", "x", "channel"), pictures)}
            | {name: ((PICTURE, DRIVE), value) for name, value in values.items()},
            coords={
                "unit": ((PICTURE, DRIVE), labels),
                "face": (PICTURE, [face for _, face in rows]),
                "note": (PICTURE, np.array(notes, dtype=object)),
            },
            attrs=asdict(options),
        )

    def _reached(self, drive: Drive, image: NDArray[np.uint8]) -> tuple[float, float, float]:
        """Return what a unit answers to an image, sigma; the percentile among held-out natural images; their largest, sigma."""
        held_out = self.natural(drive.model, drive.tap)[1]
        lens = self.lens(drive.model, drive.tap)
        answers = visualisation.answers(lens, image[None], self._reduced(drive.model, drive.tap))
        weights = self._weights(drive)
        # A direction has its own standard deviation.
        natural = held_out @ weights
        scale = 1.0 if drive.unit >= 0 else float(natural.std())
        reached = float((answers @ weights)[0])
        return reached / scale, float((natural < reached).mean() * 100), float(natural.max()) / scale

    def _reduced(self, model: str, tap: str) -> Callable[[Tensor], Tensor]:
        """Return what reads a map as the natural images' were read; of several places the middle one is."""
        network, known = self.network(model, tap)
        spec = network.extraction
        if spec.reduction == "positions":
            spec = spec.model_copy(update={"reduction": "center", "center_radius": 0})
        return extraction.reducer(known, spec, network.card.preprocessing.shape, network.frame(known))

    def _weights(self, drive: Drive) -> NDArray[np.float64]:
        """Return the weights (unit,) with which a layer's units make up what is driven, so that it answers in its standard deviations over natural images."""
        deviation, held_out = self.natural(drive.model, drive.tap)
        read = self.direction(drive.model, drive.tap, drive.unit) if drive.unit >= 0 else None
        if read is not None:
            return np.asarray(read / (held_out @ read).std())
        if drive.unit < 0 and drive.direction:
            return visualisation.direction_weights(np.asarray(drive.direction), deviation)
        if drive.unit < 0:
            return visualisation.random_weights(deviation, *_seed(drive.label))
        return visualisation.unit_weights(drive.unit, deviation.size, float(deviation[drive.unit]))

    def _mixed(self, drive: Drive) -> bool:
        """Return whether some units of a layer count against what is driven."""
        return bool((self._weights(drive) < 0).any())

    def _images(
        self,
        every: Sequence[tuple[tuple[Drive, ...], int]],
        options: Options,
        start: Image.Image | None,
        reporter: Reporter,
    ) -> dict[tuple[tuple[Drive, ...], int], NDArray[np.uint8]]:
        """Return the image of each; those of the same layers are optimised together, and each is kept as soon as it is made."""
        by_layers: dict[tuple[tuple[tuple[str, str], ...], bool], list[tuple[tuple[Drive, ...], int]]] = {}
        for some, face in every:
            layers = tuple(dict.fromkeys((drive.model, drive.tap) for drive in some))
            by_layers.setdefault((layers, any(map(self._mixed, some))), []).append((some, face))
        # Batches are made before it is known what is kept: so an image is always made in the same company.
        batches = [
            (layers, mixed, rows[begin : begin + BATCH])
            for (layers, mixed), rows in by_layers.items()
            for begin in range(0, len(rows), BATCH)
        ]
        found: dict[tuple[tuple[Drive, ...], int], NDArray[np.uint8]] = {}
        missing = []
        for layers, mixed, rows in batches:
            kept = {row: self._read(self._key(row, options, start)) for row in rows}
            found |= {row: image for row, image in kept.items() if image is not None}
            if any(image is None for image in kept.values()):
                missing.append((layers, mixed, rows))
        advance = reporter.track(
            "visualisation (steps of an image)", sum(len(rows) for *_, rows in missing) * options.steps
        )
        for layers, mixed, rows in missing:
            lenses = [self.lens(*layer) for layer in layers]
            if mixed:
                # Before the nonlinearity a direction is driven by silencing the units that it has a negative share of, which says nothing.
                lenses = [replace(lens, driven=lens.read) for lens in lenses]
            objectives = [self._objective(some, face, layers) for some, face in rows]
            made = visualisation.made(lenses, objectives, options, start, advance)
            for row, image in zip(rows, made, strict=True):
                self._write(self._key(row, options, start), image)
                found[row] = image
        return found

    def _objective(self, some: tuple[Drive, ...], face: int, layers: tuple[tuple[str, str], ...]) -> Objective:
        weights = []
        for layer in layers:
            parts = [drive.sign * self._weights(drive) for drive in some if (drive.model, drive.tap) == layer]
            weights.append(np.sum(parts, axis=0))
        label = "+".join(drive.label for drive in some)
        return Objective(tuple(weights), group=_seed(label)[0], seed=(*_seed(label), face))

    def _key(self, row: tuple[tuple[Drive, ...], int], options: Options, start: Image.Image | None) -> str:
        causes = []
        for drive in row[0]:
            network, tap = self.network(drive.model, drive.tap)
            of = network.key("natural", tap)
            causes.append([of.weights, of.preprocessing, of.tap, drive.label, digest(self._weights(drive).tolist())])
        begun = "" if start is None else digest(np.asarray(start).tobytes().hex())
        return digest([visualisation.VERSION, asdict(options), causes, row[1], begun])[:32]

    def _read(self, key: str) -> NDArray[np.uint8] | None:
        content = pieces.read(self._place, pieces.name_of(FOLDER, key))
        if content is None:
            return None
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))

    def _write(self, key: str, image: NDArray[np.uint8]) -> None:
        sink = io.BytesIO()
        Image.fromarray(image).save(sink, "PNG")
        pieces.write(self._place, pieces.name_of(FOLDER, key), sink.getvalue())


_VALUES = ("reached_sigma", "percentile", "natural_sigma", "random_reached_sigma", "random_natural_sigma")


def _seed(label: str) -> tuple[int, int]:
    text = digest(label)
    return int(text[:8], 16), int(text[8:16], 16)


def _sized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if image.shape[0] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


class OfRun(Studio):
    """The networks of a run; natural images are those of its job, held out those of fold 1."""

    def __init__(self, run: Run, place: Place) -> None:
        super().__init__(place)
        self._run = run

    def network(self, model: str, tap: str) -> tuple[Network, Tap]:
        """Return a network and one of its taps."""
        network, ref = self._run.gallery.layer_of(model, tap, 0)
        return network, ref.tap

    def width(self, model: str, tap: str) -> int:
        """Return how many units a layer has, or directions of the basis that it is seen in."""
        return self._run.gallery.layer_of(model, tap, 0)[1].width

    def direction(self, model: str, tap: str, unit: int) -> NDArray[np.float64] | None:
        """Return the linear part of a direction: what of it is driven. What a code keeps of that depends on the other directions."""
        read = self._run.gallery.layer(model, tap).basis.read
        return None if read is None else read[unit]

    def natural(self, model: str, tap: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a layer's standard deviations and its answers to held-out natural images."""
        layer = self._run.gallery.layer(model, tap)
        units = layer.in_units or layer
        return units.natural.std(axis=0), units.natural[units.fold == 1]


class OfModels(Studio):
    """Networks without a run; natural images are crops of our photographs, none of which decided anything: all are held out."""

    def __init__(self, place: Place, models: dict[str, Any]) -> None:
        super().__init__(place)
        self._given = models
        self._natural: dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self._taken: set[str] = set()

    def named(self, text: str) -> str:
        """Return the whole name of a unit: that of the only model may be left out."""
        (model,) = self._given
        bare = text.removeprefix("-")
        return text if bare.startswith(f"{model}:") else f"{'-' if bare != text else ''}{model}:{bare}"

    def network(self, model: str, tap: str) -> tuple[Network, Tap]:
        """Return a network and one of its taps."""
        given = self._given.get(model)
        if given is not None and tap not in self._taken:
            self._taken.add(tap)
            in_hand.take({model: given}, {model: sorted(self._taken)})
        card = catalogue.card(model)
        known = tap_of(card, tap)
        shown = StimuliSpec(natural=NaturalStimuli(crops=_NATURAL_CROPS))
        spec = ExtractionSpec(reduction="center")
        return Network(card, None, (known,), shown, spec, shown, module=None if given is None else given[0]), known

    def natural(self, model: str, tap: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a layer's standard deviations and its answers to natural images."""
        if (model, tap) not in self._natural:
            network, known = self.network(model, tap)
            lens = self.lens(model, tap)
            shape = network.card.preprocessing.shape
            found = extraction.collect(
                extraction.extract(lens.module, [known], network.batches("natural"), network.extraction, shape)
            )
            answers = found[known.name].astype(np.float64)
            self._natural[model, tap] = answers.std(axis=0), answers
        return self._natural[model, tap]


def facts(found: xr.Dataset) -> list[dict[str, Any]]:
    """Return what images reach, one row for each image and unit that it drives."""
    rows = []
    for place in range(found.sizes[PICTURE]):
        one = found.isel({PICTURE: place})
        for k, unit in enumerate(one["unit"].values):
            if unit:
                rows.append(
                    {"image": place, "unit": unit, "face": int(one["face"])}
                    | {name: float(one[name].values[k]) for name in _VALUES}
                    | {"note": str(one["note"].values)}
                )
    return rows
