"""What the helper process knows of networks and units: their pages, pictures, and where else they are found. It has Torch; the web process has not."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from universality.base.arrays import standardised
from universality.base.errors import MissingError, RunError, UniversalityError, WeightsError
from universality.models import weight_files
from universality.models.catalogue import cards
from universality.report.pages import PARTNER_EXAMPLES, Book, in_a_row, own_arrow
from universality.runs.run import Run, open_run
from universality.similarity import correlations

Plain = dict[str, Any]
Unit = tuple[str, str, int]
_BOOKS = 4
_QUALITY = 80


class _Book(Book):
    """Pages of units of a run whose activations may lie elsewhere by now: curves of single variants are left out then, and it says so."""

    @cached_property
    def missing(self) -> list[str]:
        """What could not be read, a sentence each."""
        return []

    def _variants(
        self, model: str, tap: str, family: str, unit: int
    ) -> tuple[Sequence[str], Sequence[NDArray[np.float64]]]:
        if self.missing:
            return (), ()
        try:
            return super()._variants(model, tap, family, unit)
        except (UniversalityError, OSError) as error:
            self.missing.append(f"no curves of single variants: {error}")
            return (), ()


@lru_cache(maxsize=_BOOKS)
def _book(run: str, _: str) -> _Book:
    """Return the book of the run in a folder; the second value changes when the run does."""
    return _Book(open_run(Path(run)))


def _kept(run: Run, model: str, tap: str) -> bool:
    return run.gallery.is_kept(model, tap)


def _count(book: _Book, unit: Unit) -> int:
    """Return how many examples of a unit can be shown; 0 where its network's were not computed."""
    try:
        return len(book.examples(unit)) if _kept(book.run, unit[0], unit[1]) else 0
    except (UniversalityError, OSError):  # the unit's own page says why
        return 0


def unit(run: str, version: str, model: str, tap: str, unit: int) -> Plain:
    """Return what the page of a unit says."""
    book, key, lacks = _book(run, version), (model, tap, unit), []
    page = book.said(key)
    try:
        kept = _kept(book.run, model, tap)
        page["looked"], page["examples"] = kept, book.examples(key) if kept else []
        if not kept:
            lacks.append("natural examples were not computed for this network; the stage examples of a job makes them")
        page["case_sheet"] = book.case_sheet(key)
        made = book.visualisation(key)
        page["visualisation"] = made and made[0]
    except (UniversalityError, OSError) as error:
        lacks.append(f"no pictures: {error}")
    matches = [
        match | {"examples": _count(book, tuple(match["partner"])), "null": None, "has_page": True}
        for match in page["matches"]
    ]
    for source in page["circuit"]["sources"] if page["circuit"] else ():
        source |= {"examples": _count(book, tuple(source["partner"])), "has_page": True}
    found: Plain = _plain(page | {"matches": matches, "arrow": own_arrow(page), "lacks": [*lacks, *book.missing]})
    return found


def counts(run: str, version: str, units: list[list[Any]]) -> list[int]:
    """Return how many examples each of some units has that can be shown."""
    book = _book(run, version)
    return [_count(book, (str(model), str(tap), int(unit))) for model, tap, unit in units]


def examples(run: str, version: str, model: str, tap: str, unit: int) -> str:
    """Return the pictures of a unit's examples side by side, WebP in base 64."""
    book = _book(run, version)
    _refuse_uncomputed(book.run, model, tap)
    return _encoded(in_a_row(book.run.examples(model, tap, unit)["image"].values))


def cases(run: str, version: str, model: str, tap: str, unit: int) -> str:
    """Return the pictures of a detector's cases side by side, case after case, WebP in base 64."""
    try:
        return _encoded(in_a_row(_book(run, version).case_pictures((model, tap, unit))))
    except RunError as error:  # to the service, a picture that is not there
        raise MissingError(str(error)) from None


def visualisation(run: str, version: str, model: str, tap: str, unit: int) -> str:
    """Return the image that was made to drive a unit, WebP in base 64."""
    made = _book(run, version).visualisation((model, tap, unit))
    if made is None:
        raise MissingError(
            f"no image was made to drive unit {unit} of '{model}' at '{tap}'; make one with universality visualise"
        )
    return _encoded(made[1])


def null(run: str, version: str, model: str, tap: str, unit: int, other: str, at: str) -> Plain:
    """Return the examples of the random direction of another layer that is most like a unit, and its held-out r."""
    book = _book(run, version)
    _refuse_uncomputed(book.run, other, at)
    found = book.run.gallery.of_null((model, tap, unit), other, at)
    return {
        "picture": _encoded(in_a_row(found["image"].values[:PARTNER_EXAMPLES])),
        "r": float(found.attrs["r_natural"]),
    }


def _refuse_uncomputed(run: Run, model: str, tap: str) -> None:
    # To compute them is the work of a job: a page must not begin it.
    if not _kept(run, model, tap):
        raise MissingError(
            f"the examples of '{model}' were not computed in run '{run.path.name}'; the stage examples of a job makes them"
        )


def _encoded(image: NDArray[np.uint8]) -> str:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "WEBP", quality=_QUALITY)
    return base64.b64encode(sink.getvalue()).decode()


def elsewhere(run: str, version: str, model: str, tap: str, unit: int) -> list[Plain]:
    """Return the unit most like one unit at every tap of the other networks of its run, the largest held-out r first.

    The partner is the unit of the largest Pearson r with the unit over fold 0 of the job's natural images; ``r`` is theirs over fold 1.
    ``r_haar`` is that of the direction chosen in the same way in one random basis (Haar) of the layer's standardised units: what
    a unit that means nothing by itself would reach.

    Raises
    ------
    RunError
        The unit does not vary over both folds.
    """
    gallery, job = _book(run, version).run.gallery, _book(run, version).run.job
    one = gallery.layer(model, tap)
    if not one.live[unit]:
        raise RunError(
            f"unit {unit} of '{model}' at '{tap}' does not vary over both halves of the natural images, so none resembles it; choose another"
        )
    own, decides = one.natural[:, [unit]], one.fold == 0
    rows = []
    recorded = dict.fromkeys(
        (m, t) for m, t, name in _book(run, version).run.trained_keys if name == "natural" and m != model
    )
    for other, at in recorded:
        layer = gallery.layer(other, at)
        live = np.flatnonzero(layer.live)
        if not live.size:
            continue
        turned = layer.standardised().in_random(0, job.seed).natural
        best, r = _best(own, layer.natural[:, live], decides)
        _, r_haar = _best(own, turned, decides)
        rows.append(
            {"model": other, "tap": at, "unit": int(live[best]), "r": r, "r_haar": r_haar, "n": int((~decides).sum())}
        )
    return sorted(rows, key=lambda row: -row["r"])


def _best(own: NDArray[np.float64], others: NDArray[np.float64], decides: NDArray[np.bool_]) -> tuple[int, float]:
    """Return which column of `others` (image, unit) is most like `own` (image, 1) on one fold, and their r on the other."""
    best = int(np.nanargmax(correlations(standardised(own[decides]), standardised(others[decides]))[0]))
    held = correlations(standardised(own[~decides]), standardised(others[~decides][:, [best]]))
    return best, float(held[0, 0])


def at_hand() -> list[str]:
    """Return the networks whose weights lie on this machine: to ask some of their sources takes Torch."""
    found = []
    for model, card in cards().items():
        try:
            if weight_files.weights_at_hand(card):
                found.append(model)
        except WeightsError:  # a file in the place of the folder: none is at hand
            continue
    return found


def _plain(value: Any) -> Any:
    """Return values as JSON has them, whole numbers as such."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


CALLS: dict[str, Callable[..., Any]] = {
    "unit": unit, "counts": counts, "examples": examples, "cases": cases, "visualisation": visualisation, "null": null, "elsewhere": elsewhere, "at_hand": at_hand,
}  # fmt: skip
"""What the helper process does of this (`calls.CALLS`)."""
