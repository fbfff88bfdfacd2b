"""A folder of pages: one for every detector and every matched unit, and an index. Static, without a network, readable from a stick.

A page has a stable address, ``MODEL/TAP/UNIT.html``, and the same data beside it as ``UNIT.json``. Pictures of examples lie beside it in one file
(``UNIT.webp``), which the pages of its partners show too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from universality.activations.layer import LayerRef, load_layer
from universality.activations.places import place_of
from universality.base.errors import RunError
from universality.base.names import HAAR_NAME, number
from universality.base.plain import plain as as_plain
from universality.base.progress import Quiet, Reporter
from universality.circuits.motif_tables import UNITS_MOTIFS
from universality.correspondence.tables import looked_at
from universality.features import answers
from universality.features.families import FAMILIES, definition_of
from universality.features.visualisation import Options
from universality.figures.example_sheets import arrow_ends, points_to
from universality.figures.unit_wiring import paired_maps, strongest
from universality.report.curves import tuning_line, weight_colours
from universality.report.page import csp_hash, environment, static_text
from universality.report.unit_page import basis_of, blank, noun_of
from universality.runs import case_pictures
from universality.runs.layers import references
from universality.runs.run import Run
from universality.runs.visualisations import Drive, OfRun, facts
from universality.stimuli import sets

PARTNER_EXAMPLES = 4
"""Examples of each partner, and of each null, on a page."""
PICTURE_PX = 112
"""Side of a picture of an example on a page."""
_OF_EXAMPLES = ("kind", "rank", "quantile", "value", "sigma", "picture", "source", "licence", "x_px", "y_px", "side_px")
_OF_MOTIFS = [column.name for column in UNITS_MOTIFS.columns if column.kind == "float"]
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
    every, book = list(units_of(run) if units is None else units), Book(run)
    made, where = set(every), partial(address, basis=basis_of(run.job))
    advance = (reporter or Quiet()).track("pages of units", len(every))
    script, style = static_text("pages.js"), static_text("report.css") + static_text("pages.css")
    shared = {
        "style": style, "script": script, "style_hash": csp_hash(style), "script_hash": csp_hash(script), "quote": quote, "number": number,
        "haar": HAAR_NAME, "tuning_line": tuning_line, "weight_colours": weight_colours, "noun": noun_of(basis_of(run.job)),
    }  # fmt: skip
    template, rows = environment().get_template("unit.html"), []
    for place, unit in enumerate(every):
        around = every[place - 1] if place else None, every[place + 1] if place + 1 < len(every) else None
        page, pictures = book.page(unit)
        for match in page["matches"]:  # a partner without a page is named, not linked
            match["has_page"] = tuple(match["partner"]) in made
        for source in page["circuit"]["sources"] if page["circuit"] else ():
            source["has_page"] = (unit[0], page["circuit"]["source_tap"], source["unit"]) in made
        page["previous"], page["next"] = (None if other is None else where(other) for other in around)
        _write_page(folder, where(unit), page, template.render(page=page, **_beside(where(unit), page), **shared))
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


def _beside(where: str, page: Plain) -> Plain:
    """Return where the pictures of a unit's page and the pages of its partners lie, seen from it."""
    up, own = "../" * where.count("/"), page["unit"]
    return {
        "up": up, "own_pictures": f"{own}.webp", "own_cases": f"{own}.cases.webp", "own_visualisation": f"{own}.visualisation.png",
        "page_of": lambda match: up + quote(match["address"]), "pictures_of": lambda match: up + quote(match["address"])[: -len(".html")] + ".webp",
        "nulls_of": lambda match: f"{own}.nulls.webp", "nulls": page["nulls"], "own_arrow": own_arrow(page),
    }  # fmt: skip


def own_arrow(page: Plain) -> dict[str, float] | None:
    """Return the line that shows a detector's preferred orientation in its pictures; None where it has none."""
    pointing = next((family for family in page["families"] if family["detector"] and family["points"]), None)
    return (
        None if pointing is None else arrow_ends(pointing["preferred_deg"], PICTURE_PX, pointing["period_deg"] != 360)
    )


def _write_page(folder: Path, where: str, page: Plain, text: str) -> None:
    file = folder / where
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    plain = json.dumps(as_plain(page), indent=1, sort_keys=True)
    file.with_suffix(".json").write_text(plain, encoding="utf-8")


@dataclass(frozen=True)
class Book:
    """What the pages of a run's units are written from; what is read once serves all of them."""

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
                    "partner": list(partner), "address": address(partner, basis=basis_of(self.run.job)), "family": row["family"], "noun": FAMILIES[row["family"]].noun, "verdict": row["verdict"],
                    "detector": bool(row[f"detector_{other}"]), "r_natural": row["r_natural"], "r_natural_low": row["r_natural_low"],
                    "r_natural_high": row["r_natural_high"], "r_natural_haar": row["r_natural_haar"],
                    "r_natural_untrained": row["r_natural_untrained"], "power": row["power"], "q": row["q"],
                    "preferred_deg": row[f"preferred_{other}_deg"],
                    "circuits": self._circuits.get((*_pair_of(row), row["family"]), []),
                    "transplants": [of for of in self._transplants.get((*_pair_of(row), row["family"]), []) if of["into"] == own],
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

    def _variants(
        self, model: str, tap: str, family: str, unit: int
    ) -> tuple[Sequence[str], Sequence[NDArray[np.float64]]]:
        names, variants = self._tuning_of(model, tap)[family]
        return names, variants[unit]

    @cached_property
    def _transplants(self) -> dict[tuple[Any, ...], list[Plain]]:
        """By both units and the family, how far one stands in for the other, by the divergence of the answers."""
        found: dict[tuple[Any, ...], list[Plain]] = {}
        if self.run.has("transplants"):
            rows = self.run.table("transplants")
            rows = rows[(rows["what"] == "unit") & (rows["measure"] == "kl") & (rows["base"] == "mean")]
            for row in rows.to_dict("records"):
                found.setdefault((*_pair_of(row), row["family"]), []).append({str(k): v for k, v in row.items()})
        return found

    @cached_property
    def _ablations(self) -> dict[Unit, list[Plain]]:
        """By unit, what removing it costs, in each way of removing."""
        found: dict[Unit, list[Plain]] = {}
        if self.run.has("ablations"):
            rows = self.run.table("ablations")
            for row in rows[rows["what"] == "unit"].to_dict("records"):
                unit = row["model"], row["tap"], int(row["unit"])
                found.setdefault(unit, []).append({str(k): v for k, v in row.items()})
        return found

    @cached_property
    def _layers(self) -> dict[tuple[str, str], LayerRef]:
        return {(ref.model, ref.tap.name): ref for ref in references(self.run) if ref.seed is None}

    @cached_property
    def _tuning(self) -> dict[tuple[str, str], dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]]:
        return {}

    def _tuning_of(self, model: str, tap: str) -> dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]:
        """Return by family: names of the variants, and (unit, variant, orientation) tuning curves, sigma."""
        if (model, tap) not in self._tuning:
            layer, found = load_layer(self._layers[model, tap]), {}
            for family in self.run.job.comparison.families:
                of = answers.responses(layer, family)
                found[family] = of.variant_names, of.variants
            self._tuning[model, tap] = found
        return self._tuning[model, tap]

    @cached_property
    def _studio(self) -> OfRun:
        return OfRun(self.run, place_of(str(self.run.store)))

    def said(self, unit: Unit) -> Plain:
        """Return what the page of a unit says, its families and its matches, and nothing that needs a picture."""
        families = [self._family(row) for row in self._rows.get(unit, [])]
        said = ", ".join(f["noun"][:-1] for f in families if f["detector"]) or (
            "matched, no detector" if unit in self._matches else "no detector"
        )
        return blank(self.run.job.name, *unit) | {
            "noun": noun_of(basis_of(self.run.job)), "said": said, "words": " ".join([*map(str, unit), said]), "families": families,
            "matches": [match | {"weights": self._weights_of(unit, match)} for match in self._matches.get(unit, [])],
            "circuit": self._circuit_of(unit), "layouts": [row | {"noun": FAMILIES[row["source_family"]].noun} for row in self._of_unit("layouts", unit)],
            "cases": self._of_unit("cases", unit), "readers": self._readers_of(unit), "ablations": self._ablations.get(unit, []),
        }  # fmt: skip

    def page(self, unit: Unit) -> tuple[Plain, dict[str, NDArray[np.uint8]]]:
        """Return all that the page of a unit says, and its pictures (y, x, channel) by the endings of their files' names."""
        plain = self.said(unit)
        pictures: dict[str, NDArray[np.uint8]] = {}
        try:
            found = self.run.examples(*unit)
        except RunError:  # it answers the same to every picture
            pass
        else:
            plain["examples"] = _examples(found.drop_dims("channel").to_dataframe())
            pictures[".webp"] = in_a_row(found["image"].values)
        for source in plain["circuit"]["sources"] if plain["circuit"] else ():
            source["examples"] = self._counted(source["partner"])
        plain["matches"], nulls = self._matches_of(unit, plain["matches"])
        plain["nulls"] = PARTNER_EXAMPLES * len(nulls)
        if nulls:
            pictures[".nulls.webp"] = in_a_row(np.concatenate(nulls))
        plain["case_sheet"] = self.case_sheet(unit)
        if plain["case_sheet"]:
            pictures[".cases.webp"] = in_a_row(self.case_pictures(unit))
        made = self.visualisation(unit)
        if made is not None:
            plain["visualisation"], pictures[".visualisation.png"] = made
        return plain, pictures

    def examples(self, unit: Unit) -> list[Plain]:
        """Return the rows of a unit's examples, without their pictures; none where it answers the same to every picture."""
        try:
            return _examples(self.run.gallery.rows_of(*unit))
        except RunError:
            return []

    def visualisation(self, unit: Unit) -> tuple[Plain, NDArray[np.uint8]] | None:
        """Return the facts and the image (y, x, channel) of a unit's feature visualisation; None where none was made."""
        # A direction has no visualisation of its own: that of the unit with its number shows another feature.
        if not self.run.job.in_units or not self._studio.has(Drive(*unit)):
            return None
        shown = self._studio.shown([(Drive(*unit),)], Options(), 1, None, Quiet())
        return facts(shown)[0], shown["image"].values[0]

    def case_sheet(self, unit: Unit) -> list[Plain]:
        """Return a detector's cases, the largest first: how many of its images each holds, and those that it answers most to; empty where none were looked for."""
        rows = self._cases_of(unit)
        if not rows:
            return []
        network, _ = self.run.gallery.layer_of(*unit)
        parameters, place, found = sets.parameters("natural", network.stimuli), 0, []
        for row in rows:
            images = [int(image) for image in row["images"][: case_pictures.EACH]]
            shown = case_pictures.facts(network.stimuli.natural, parameters, images)
            for of, sigma in zip(shown, row["answers_sigma"], strict=False):
                of |= {"sigma": sigma, "place": place}
                place += 1
            found.append({"case": row["case"], "n_images": row["n_images"], "share": row["n_images"] / row["n_shown"], "examples": shown})  # fmt: skip
        return found

    def case_pictures(self, unit: Unit) -> NDArray[np.uint8]:
        """Return the pictures of that sheet, case after case, (picture, y, x, channel).

        Raises
        ------
        RunError
            The run has no cases of the unit.
        """
        images = [int(image) for row in self._cases_of(unit) for image in row["images"][: case_pictures.EACH]]
        if not images:
            raise RunError(
                f"run '{self.run.path}' has no cases of unit {unit[2]} of '{unit[0]}' at '{unit[1]}', expected a detector at whose images the stage motifs took gradients; choose another"
            )
        network, ref = self.run.gallery.layer_of(*unit)
        return case_pictures.of_images(network, ref.tap, images)

    def _cases_of(self, unit: Unit) -> list[Plain]:
        """Return the rows of a unit's cases; of a detector of several families, those of the first: its gradients are the same."""
        rows = [row for row in self._of_unit("cases", unit) if row["n_cases"]]
        return [row for row in rows if row["family"] == rows[0]["family"]]

    def _readers_of(self, unit: Unit) -> Plain | None:
        """Return on how many units of the next tap a unit's outgoing weights fall, beside the others of its layer; None where it was not asked."""
        row = next(iter(self._rows.get(unit, [])), {})
        ratio = float(row.get("participation_ratio", np.nan))
        return (
            None
            if np.isnan(ratio)
            else {"participation_ratio": ratio, "random": float(row["participation_ratio_random"])}
        )

    def _family(self, row: Plain) -> Plain:
        family = FAMILIES[row["family"]]
        names, variants = self._variants(row["model"], row["tap"], family.name, row["unit"])
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
            "tuning_sigma": [float(x) for x in row["tuning_sigma"]], "motifs": {name: float(row[name]) for name in _OF_MOTIFS if name in row},
            "variants": [{"name": name, "tuning_sigma": [float(x) for x in line]} for name, line in zip(names, variants, strict=True)],
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

    @cached_property
    def _motifs(self) -> dict[str, dict[Unit, pd.DataFrame]]:
        """By table of motifs and unit, its rows."""
        at = {"edges": "target_tap", "layouts": "target_tap", "cases": "target_tap"}
        return {
            name: {
                (str(model), str(tap), int(str(unit))): rows
                for (model, tap, unit), rows in self.run.table(name).groupby(["model", column, "unit"], sort=False)
            }
            for name, column in at.items()
            if self.run.has(name)
        }

    def _of_unit(self, name: str, unit: Unit) -> list[Plain]:
        """Return a unit's rows of a table of motifs, lists of numbers as lists; none where the run has no such table."""
        rows = self._motifs.get(name, {}).get(unit)
        if rows is None:
            return []
        return [
            {str(key): [float(x) for x in value] if isinstance(value, np.ndarray) else value for key, value in row.items()} for row in rows.to_dict("records")
        ]  # fmt: skip

    def _circuit_of(self, unit: Unit) -> Plain | None:
        """Return the sources that excite and inhibit a unit most; None where the run has no weights into it."""
        rows = self._motifs.get("edges", {}).get(unit)
        if rows is None:
            return None
        shown, tap = strongest(rows), str(rows["source_tap"].iloc[0])
        sources = [
            {
                "unit": int(row["source_unit"]), "partner": [unit[0], tap, int(row["source_unit"])], "address": address((unit[0], tap, int(row["source_unit"])), basis=basis_of(self.run.job)), "noun": _noun_of(row["source_family"]),
                "preferred_deg": float(row["source_deg"]), "weight": float(row["weight"]), "above": bool(abs(row["weight"]) > row["untrained_95"]),
                "untrained_95": float(row["untrained_95"]), "map": [float(x) for x in row["map"]],
            }
            for row in shown.to_dict("records")
        ]  # fmt: skip
        return {"source_tap": tap, "square_px": float(rows["square_px"].iloc[0]), "sources": sources}

    def _weights_of(self, unit: Unit, match: Plain) -> list[Plain]:
        """Return a matched pair's mean maps of weights by difference of preferred angles, those that both have; none where they are not two detectors with weights."""
        edges, other = (
            self._motifs.get("edges", {}),
            (str(match["partner"][0]), str(match["partner"][1]), int(match["partner"][2])),
        )
        own = [
            row["preferred_deg"]
            for row in self._rows.get(unit, [])
            if row["family"] == match["family"] and row["detector"]
        ]
        if not own or not match["detector"] or unit not in edges or other not in edges:
            return []
        a, b = (
            paired_maps(edges[one], one, degrees, match["family"])
            for one, degrees in ((unit, own[0]), (other, match["preferred_deg"]))
        )
        both = a.merge(b, on="difference_deg", suffixes=("_a", "_b"))
        return [
            {str(key): [float(x) for x in value] if isinstance(value, np.ndarray) else value for key, value in row.items()} for row in both.to_dict("records")
        ]  # fmt: skip

    def _matches_of(self, unit: Unit, those: Iterable[Plain]) -> tuple[list[Plain], list[NDArray[np.uint8]]]:
        """Return a unit's matches, and of those with the verdict same_feature the examples of the random direction to be better than."""
        matches: list[Plain] = []
        nulls: list[NDArray[np.uint8]] = []
        for match in those:
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


def _noun_of(family: str) -> str:
    return FAMILIES[family].noun[:-1] if family in FAMILIES else ""


def _names(failed: str) -> list[str]:
    return [name.strip() for name in failed.split(",")]


def _examples(rows: pd.DataFrame) -> list[Plain]:
    return [{str(k): v for k, v in row.items()} for row in rows[list(_OF_EXAMPLES)].to_dict("records")]


def in_a_row(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pictures (picture, y, x, channel) side by side."""
    return np.concatenate(list(images), axis=1)


def _written(image: NDArray[np.uint8], file: Path) -> None:
    if file.suffix == ".webp":
        Image.fromarray(image).save(file, "WEBP", quality=_QUALITY)
    else:
        Image.fromarray(image).save(file)
