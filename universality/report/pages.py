"""A folder of pages: one for every detector and every matched unit, and an index. Static, without a network, readable from a stick.

A page has a stable address, ``MODEL/TAP/UNIT.html``, and the same data beside it as ``UNIT.json``. Pictures of examples lie beside it in one file
(``UNIT.webp``), which the pages of its partners show too.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from universality.activations.layer import load_layer
from universality.activations.places import place_of
from universality.base.errors import RunError
from universality.base.names import HAAR_NAME, number
from universality.base.progress import Quiet, Reporter
from universality.correspondence.tables import looked_at
from universality.features import answers
from universality.features.families import FAMILIES, definition_of
from universality.features.visualisation import Options
from universality.figures.example_sheets import arrow_ends, points_to
from universality.report.page import csp_hash, environment, static_text
from universality.runs.layers import references
from universality.runs.run import Run
from universality.runs.visualisations import Drive, OfRun, facts

PARTNER_EXAMPLES = 4
"""Examples of each partner, and of each null, on a page."""
_OF_EXAMPLES = ("kind", "rank", "quantile", "value", "sigma", "picture", "source", "licence", "x_px", "y_px", "side_px")
_QUALITY = 80
Unit = tuple[str, str, int]
Plain = dict[str, Any]


def address(unit: Unit, suffix: str = ".html", basis: str = "") -> str:
    """Return where the page of a unit, or of a direction of a basis, lies in the folder, as a path of files.

    What a file system may not take in a name is escaped as in an address.

    Examples
    --------
    >>> address(("pocket/vgg-focus-s0", "features.13:pre", 7))
    'pocket/vgg-focus-s0/features.13%3Apre/7.html'
    >>> address(("pocket/vgg-focus-s0", "features.13", 7), basis="sae")
    'pocket/vgg-focus-s0/features.13/bases/sae/directions/7.html'
    """
    model, tap, index = unit
    below = ["bases", basis, "directions"] if basis else []
    return "/".join([*map(_safe, model.split("/")), _safe(tap), *below, f"{index}{suffix}"])


def _basis(run: Run) -> str:
    """Return the basis whose directions a run's units are; empty where they are all units of their layers."""
    return "" if run.job.in_units else run.job.basis


def _safe(part: str) -> str:
    return quote(part, safe="") if part.strip(".") else part.replace(".", "%2E")


def units_of(run: Run) -> list[Unit]:
    """Return the units that have a page, network by network, tap by tap: detectors, and units of the table ``correspondence``."""
    if not run.has("units", "correspondence"):
        raise RunError(
            f"run '{run.path}' has no detectors and no matched units, expected the stages families and correspondence; run its job again with --only correspondence"
        )
    units, found = run.units, looked_at(run.units, run.correspondence)
    layers = {layer: place for place, layer in enumerate(dict.fromkeys(zip(units["model"], units["tap"], strict=True)))}
    every = ((str(m), str(t), int(u)) for m, t, u in found.itertuples(index=False))
    return sorted(every, key=lambda unit: (layers[unit[0], unit[1]], unit[2]))


def write(run: Run, folder: Path, reporter: Reporter | None = None, units: Sequence[Unit] | None = None) -> Path:
    """Write the pages of a run's units, their index and a copy of the report to a folder; return the index.

    Parameters
    ----------
    units : those that get a page; `units_of` when left out

    Raises
    ------
    RunError
        The run has neither detectors nor matched units, or the folder is a file.
    StoreError
        The activations are not where the run says.
    """
    if folder.is_file():
        raise RunError(f"'{folder}' is a file, expected a folder for the pages; give another with --pages")
    every, book = list(units_of(run) if units is None else units), _Book(run)
    made, where = set(every), partial(address, basis=_basis(run))
    advance = (reporter or Quiet()).track("pages of units", len(every))
    script, style = static_text("pages.js"), static_text("report.css") + static_text("pages.css")
    shared = {
        "style": style, "script": script, "style_hash": csp_hash(style), "script_hash": csp_hash(script), "quote": quote, "number": number,
        "haar": HAAR_NAME, "tuning_line": tuning_line, "arrow": arrow_ends, "noun": "unit" if run.job.in_units else f"direction of {run.job.basis}",
    }  # fmt: skip
    template, rows = environment().get_template("unit.html"), []
    for place, unit in enumerate(every):
        around = every[place - 1] if place else None, every[place + 1] if place + 1 < len(every) else None
        page, pictures = book.page(unit)
        for match in page["matches"]:  # a partner without a page is named, not linked
            match["has_page"] = tuple(match["partner"]) in made
        page["previous"], page["next"] = (None if other is None else where(other) for other in around)
        _write_page(folder, where(unit), page, template.render(page=page, up="../" * where(unit).count("/"), **shared))
        for ending, picture in pictures.items():
            _written(picture, folder / where(unit, ending))
        rows.append({"address": where(unit), "unit": unit, "said": page["said"], "words": page["words"]})
        advance(1)
    index = folder / "index.html"
    report, layers = (
        run.path / "report.html",
        [list(some) for _, some in groupby(rows, key=lambda row: row["unit"][:2])],
    )
    text = (
        environment()
        .get_template("units.html")
        .render(run=run, layers=layers, count=len(rows), has_report=report.is_file(), **shared)
    )
    index.write_text(text, encoding="utf-8")
    if report.is_file():
        shutil.copyfile(report, folder / "report.html")
    return index


def _write_page(folder: Path, where: str, page: Plain, text: str) -> None:
    file = folder / where
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    plain = json.dumps(_finite(page), indent=1, sort_keys=True)
    file.with_suffix(".json").write_text(plain, encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class _Book:
    """What the pages of a run are written from."""

    run: Run

    @cached_property
    def _rows(self) -> dict[Unit, list[Plain]]:
        """By unit, its rows of every family with the family's own columns."""
        found: dict[Unit, list[Plain]] = {}
        for family in self.run.job.comparison.families:
            units = self.run.units_of(family)
            for row in units[units["seed"] == -1].to_dict("records"):
                found.setdefault((row["model"], row["tap"], int(row["unit"])), []).append(
                    {str(k): v for k, v in row.items()}
                )
        return found

    @cached_property
    def _matches(self) -> dict[Unit, list[Plain]]:
        """By unit, its matches in other networks by the job's first method, the best first."""
        found: dict[Unit, list[Plain]] = {}
        table = self.run.correspondence
        table = table[table["method"] == self.run.job.matched_by()].sort_values(
            "r_natural", ascending=False, kind="stable"
        )
        for row in table.to_dict("records"):
            for own, other in ("ab", "ba"):
                unit = row[f"model_{own}"], row[f"tap_{own}"], int(row[f"unit_{own}"])
                partner = row[f"model_{other}"], row[f"tap_{other}"], int(row[f"unit_{other}"])
                found.setdefault(unit, []).append({
                    "partner": list(partner), "address": address(partner, basis=_basis(self.run)), "family": row["family"], "verdict": row["verdict"],
                    "detector": bool(row[f"detector_{other}"]), "r_natural": row["r_natural"], "r_natural_low": row["r_natural_low"],
                    "r_natural_high": row["r_natural_high"], "r_natural_haar": row["r_natural_haar"],
                    "r_natural_untrained": row["r_natural_untrained"], "power": row["power"], "q": row["q"],
                    "preferred_deg": row[f"preferred_{other}_deg"],
                    "circuits": self._circuits.get((*_pair_of(row), row["family"]), []),
                })  # fmt: skip
        return found

    @cached_property
    def _circuits(self) -> dict[tuple[Any, ...], list[Plain]]:
        """By both units and the family, how alike the incoming weights of a matched pair are."""
        found: dict[tuple[Any, ...], list[Plain]] = {}
        if self.run.has("circuits"):
            for row in self.run.table("circuits").to_dict("records"):
                found.setdefault((*_pair_of(row), row["family"]), []).append(
                    {str(name): value for name, value in row.items()}
                )
        return found

    @cached_property
    def _tuning(self) -> dict[tuple[str, str, str], tuple[tuple[str, ...], NDArray[np.float64]]]:
        """By model, tap and family: names of the variants, and (unit, variant, orientation) tuning curves, sigma."""
        found = {}
        for ref in references(self.run):
            if ref.seed is None:
                layer = load_layer(ref)
                for family in self.run.job.comparison.families:
                    of = answers.responses(layer, family)
                    found[ref.model, ref.tap.name, family] = of.variant_names, of.variants
        return found

    @cached_property
    def _studio(self) -> OfRun:
        return OfRun(self.run, place_of(str(self.run.store)))

    def page(self, unit: Unit) -> tuple[Plain, dict[str, NDArray[np.uint8]]]:
        """Return all that the page of a unit says, and its pictures (y, x, channel) by the endings of their files' names."""
        families = [self._family(row) for row in self._rows.get(unit, [])]
        said = ", ".join(f["noun"][:-1] for f in families if f["detector"]) or "matched, no detector"
        plain: Plain = {
            "run": self.run.job.name, "model": unit[0], "tap": unit[1], "unit": unit[2], "said": said,
            "words": " ".join([*map(str, unit), said]), "families": families, "examples": [], "visualisation": None,
        }  # fmt: skip
        pictures: dict[str, NDArray[np.uint8]] = {}
        try:
            found = self.run.examples(*unit)
        except RunError:  # it answers the same to every picture
            pass
        else:
            table = found.drop_dims("channel").to_dataframe()[list(_OF_EXAMPLES)]
            plain["examples"] = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
            pictures[".webp"] = _in_a_row(found["image"].values)
        plain["matches"], nulls = self._matches_of(unit)
        plain["nulls"] = PARTNER_EXAMPLES * len(nulls)
        if nulls:
            pictures[".nulls.webp"] = _in_a_row(np.concatenate(nulls))
        # A direction has no visualisation of its own: that of the unit with its number shows another feature.
        if self.run.job.in_units and self._studio.has(Drive(*unit)):
            shown = self._studio.shown([(Drive(*unit),)], Options(), 1, None, Quiet())
            plain["visualisation"] = facts(shown)[0]
            pictures[".visualisation.png"] = shown["image"].values[0]
        return plain, pictures

    def _family(self, row: Plain) -> Plain:
        family = FAMILIES[row["family"]]
        names, variants = self._tuning[row["model"], row["tap"], family.name]
        criteria = [
            {
                "column": c.column, "op": c.op, "threshold": c.threshold, "value": row[c.column], "passes": c.column not in _names(row["failed"]),
                "reason": c.reason,
            }
            for c in definition_of(family.name).criteria
        ]  # fmt: skip
        return {
            "family": family.name, "noun": family.noun, "angle": family.angle, "period_deg": family.period_deg, "detector": bool(row["detector"]),
            "near": bool(row["near"]), "level": row["level"], "score": float(row["score"]), "live": bool(row["live"]), "ties": int(row["ties"]),
            "preferred_deg": float(row["preferred_deg"]), "points": points_to(family.name), "criteria": criteria,
            "tuning_sigma": [float(x) for x in row["tuning_sigma"]],
            "variants": [{"name": name, "tuning_sigma": [float(x) for x in line]} for name, line in zip(names, variants[row["unit"]], strict=True)],
        }  # fmt: skip

    def _counted(self, unit: Sequence[Any]) -> int:
        """Return how many examples a unit has, which is how many pictures its file holds."""
        key = str(unit[0]), str(unit[1]), int(unit[2])
        if key not in self._counts:
            try:
                self._counts[key] = len(self.run.gallery.rows_of(*key))
            except RunError:  # it answers the same to every picture
                self._counts[key] = 0
        return self._counts[key]

    @cached_property
    def _counts(self) -> dict[Unit, int]:
        return {}

    def _matches_of(self, unit: Unit) -> tuple[list[Plain], list[NDArray[np.uint8]]]:
        """Return a unit's matches, and of those with the verdict same_feature the examples of the random direction to be better than."""
        matches: list[Plain] = []
        nulls: list[NDArray[np.uint8]] = []
        for match in self._matches.get(unit, []):
            null = None
            if match["verdict"] == "same_feature":
                model, tap, _ = match["partner"]
                found = self.run.gallery.of_null(unit, model, tap)
                null = {"place": PARTNER_EXAMPLES * len(nulls), "r_natural": found.attrs["r_natural"]}
                nulls.append(found["image"].values[:PARTNER_EXAMPLES])
            matches.append(match | {"null": null, "examples": self._counted(match["partner"])})
        return matches, nulls


def _pair_of(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[f"{name}_{side}"] for side in "ab" for name in ("model", "tap", "unit"))


def _names(failed: str) -> list[str]:
    return [name.strip() for name in failed.split(",")]


def _in_a_row(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate(list(images), axis=1)


def _written(image: NDArray[np.uint8], file: Path) -> None:
    if file.suffix == ".webp":
        Image.fromarray(image).save(file, "WEBP", quality=_QUALITY)
    else:
        Image.fromarray(image).save(file)


def tuning_line(values: Sequence[float], top: float, width: float, height: float) -> str:
    """Return a closed tuning curve as the points of an SVG line; responses below 0 lie on the axis."""
    closed = [*values, values[0]]
    scale = height / top if top > 0 else 0.0
    step = width / (len(closed) - 1)
    return " ".join(f"{step * k:.1f},{height - scale * max(value, 0.0):.1f}" for k, value in enumerate(closed))
