"""What can be looked at: networks, taps, units, pairs of networks and runs, as plain values that pages and the API both return."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

from universality.atlas import cells
from universality.base.errors import MissingError, UniversalityError, did_you_mean
from universality.base.recent import Recent
from universality.models import catalogue as cards
from universality.models.card import ModelCard
from universality.report import cautions, findings
from universality.report.unit_page import basis_of, blank, noun_of
from universality.runs.run import Run
from universality.service import drawn
from universality.service.helper import Helper
from universality.service.run_index import RunIndex
from universality.service.similarities import compared

Plain = dict[str, Any]
Unit = tuple[str, str, int]
_KEPT_BYTES = 128 << 20
_LOOK_AGAIN_S = 60.0
_MOST_HITS = 40
_NO_RUN = "no finished run has it; submit a job that names it"


class Catalogue:
    """The networks, units and runs of a service. What was read once is kept, for as long as the run is unchanged."""

    def __init__(self, runs: RunIndex, helper: Helper) -> None:
        self._runs, self._helper = runs, helper
        self._looked: tuple[float, set[str], set[str]] | None = None
        self._said: Recent[tuple[Any, int]] = Recent(_KEPT_BYTES, lambda kept: kept[1])

    # ---- runs
    def opened(self) -> Iterator[Run]:
        """Yield the finished runs, the newest first; one that is damaged is passed over (its own page says why)."""
        for name in self._runs.names():
            try:
                yield self._runs.get(name)
            except UniversalityError:
                continue

    def runs(self) -> list[Plain]:
        """Return one entry for every finished run, the newest first."""
        return [self._kept(run, "entry", partial(_entry, run)) for run in self.opened()]

    def run(self, name: str) -> Plain:
        """Return what a run found: sentences with their nulls, cautions, tables, figures.

        Raises
        ------
        MissingError
            There is no such run, or it is damaged.
        """
        run = self._runs.get(name)
        found: Plain = self._kept(run, "run", lambda: _run(run))
        return found

    def _kept(self, run: Run, of: str, make: Callable[[], Any]) -> Any:
        def sized() -> tuple[Any, int]:
            made = make()
            return made, len(made) if isinstance(made, str) else len(repr(made))

        return self._said.get((run.path.name, run.record.get("digest", id(run)), of), sized)[0]

    def figure(self, name: str, stem: str, form: str, width: str) -> tuple[bytes, str]:
        """Return a figure's file and its media type: see `drawn.file_of`."""
        return drawn.file_of(self._runs.get(name), self._helper, stem, form, width)

    def atlas(self, name: str, family: str) -> Plain:
        """Return the atlas of one family: bins of the preferred angle, and for every network the cell of each."""
        run = self._runs.get(name)
        found: Plain = self._kept(run, f"atlas {family}", lambda: _atlas(run, family))
        return found

    # ---- networks
    def networks(self) -> list[Plain]:
        """Return one entry for every model card, and for every network of a run without one."""
        known = cards.cards()
        runs: dict[str, list[str]] = {}
        for run in self.opened():
            for entry in run.job.models:
                runs.setdefault(entry.id, []).append(run.path.name)
        here = self._at_hand(known)
        listed = [_network(known[model], model in here, runs.get(model, [])) for model in known]
        lacking = [{"id": model, "taps": 0, "at_hand": False, "runs": of, "licence": "", "training_set": "", "library": "",
                    "architecture": "", "source": "", "input": ""} for model, of in runs.items() if model not in known]  # fmt: skip
        return listed + lacking

    def _at_hand(self, known: Collection[str]) -> set[str]:
        """Return the networks whose weights lie on this machine, as they did up to `_LOOK_AGAIN_S` ago."""
        looked = self._looked
        if looked is None or looked[1] != set(known) or time.monotonic() - looked[0] > _LOOK_AGAIN_S:
            looked = time.monotonic(), set(known), set(self._helper.call("at_hand"))
            self._looked = looked
        return looked[2]

    def network(self, model: str) -> Plain:
        """Return a network's card, its taps, and the runs that have it.

        Raises
        ------
        MissingError
            No card and no run names it.
        """
        runs = [run for run in self.opened() if any(entry.id == model for entry in run.job.models)]
        known = cards.cards()
        if model not in known and not runs:
            raise MissingError(f"there is no network '{model[:200]}'{did_you_mean(model[:200], known)}")
        recorded: dict[str, list[str]] = {}
        for run in runs:
            for of, tap in dict.fromkeys((m, t) for m, t, _ in run.trained_keys):
                if of == model:
                    recorded.setdefault(tap, []).append(run.path.name)
        names = [run.path.name for run in runs]
        if model not in known:
            plain: Plain = {"id": model, "runs": names, "card": None, "at_hand": False, "notes": []}
            return plain | {"taps": [{"name": tap, "runs": of} for tap, of in recorded.items()]}
        card = known[model]
        taps = [
            {"name": tap.name, "runs": recorded.pop(tap.name, []), "activation": tap.activation, "units": tap.channels, "map": tap.shown,
             "rf_px": tap.rf_px, "stride_px": tap.stride_px, "depth": tap.relative_depth}
            for tap in card.taps
        ]  # fmt: skip
        taps += [{"name": tap, "runs": of} for tap, of in recorded.items()]  # NAME:pre and NAME:post
        return {
            "id": model,
            "runs": names,
            "card": card.plain(),
            "at_hand": model in self._at_hand(known),
            "notes": card.weight_notes,
            "taps": taps,
        }

    def tap(self, model: str, tap: str, run: str | None = None) -> Plain:
        """Return the units of a tap, or the directions that a run sees it in: what each is a detector of, its peak, and its best match."""
        of = self._with(model, tap, run)
        found: Plain = self._kept(of, f"tap {model} {tap}", lambda: _tap(of, model, tap))
        return found | {"runs": self.runs_with(model, tap), "basis": basis_of(of.job)}

    def runs_with(self, model: str, tap: str, basis: str | None = None) -> list[str]:
        """Return the names of the runs that recorded a tap, of those in one basis where it is named (empty: in units)."""
        return [
            run.path.name
            for run in self.opened()
            if (model, tap, "natural") in run.trained_keys and basis in (None, basis_of(run.job))
        ]

    def basis(self, run: str) -> str:
        """Return the basis that a run sees layers in; empty for their units."""
        return basis_of(self._runs.get(run).job)

    def _with(self, model: str, tap: str, name: str | None, basis: str = "") -> Run:
        """Return the named run, or the newest that recorded the tap in a basis (empty: in units) and has units."""
        if name:
            run = self._runs.get(name)
            if (model, tap, "natural") not in run.trained_keys:
                raise MissingError(
                    f"run '{name}' did not record the tap '{tap[:200]}' of '{model[:200]}'; {_NO_RUN if not self.runs_with(model, tap) else 'choose another run'}"
                )
            if basis not in ("", basis_of(run.job)):
                raise MissingError(
                    f"run '{name}' sees layers in {basis_of(run.job) or 'their units'}, not in '{basis[:50]}'; choose another run"
                )
            return run
        every = [run for run in self.opened() if (model, tap, "natural") in run.trained_keys]
        found = [run for run in every if basis_of(run.job) == basis]
        if every and not found:
            seen = ", ".join(sorted({basis_of(run.job) or "units" for run in every}))
            raise MissingError(
                f"no run sees the tap '{tap[:200]}' of '{model[:200]}' in {basis[:50] or 'its units'}, only in {seen}; name the run"
            )
        if not found:
            taps = {t for run in self.opened() for m, t, _ in run.trained_keys if m == model}
            near = did_you_mean(tap[:200], taps) if taps else ""
            raise MissingError(f"there is no tap '{tap[:200]}' of '{model[:200]}' in a run: {_NO_RUN}{near}")
        return next((run for run in found if run.has("units", "correspondence")), found[0])

    # ---- units
    def unit(self, model: str, tap: str, unit: int, run: str | None = None, basis: str = "") -> Plain:
        """Return what the page of a unit, or of a direction of a basis, says: families with criteria and curves, examples, matches with their nulls.

        Raises
        ------
        MissingError
            No run recorded the tap, or it has no such unit.
        """
        of = self._with(model, tap, run, basis)
        units, seen = _units_of(of, model, tap), basis_of(of.job)
        if not 0 <= unit < units:
            raise MissingError(
                f"'{model}' has no {noun_of(seen)} {unit} at '{tap}', expected 0 to {units - 1}; choose another"
            )
        if of.has("units", "correspondence"):
            plain = self._asked(of, "unit", model=model, tap=tap, unit=unit)
        else:
            lacks = f"run '{of.path.name}' has no units: its job compared layers only"
            plain = blank(of.job.name, model, tap, unit) | {"arrow": None, "lacks": [lacks]}
        runs = self.runs_with(model, tap, seen)
        return {**plain, "in_run": of.path.name, "runs": runs, "units": units, "basis": seen, "noun": noun_of(seen)}

    def _asked(self, run: Run, call: str, **arguments: Any) -> Any:
        """Return the answer of the helper process to a call about a run, kept for as long as the run is unchanged."""
        version = str(run.record.get("digest", ""))
        name = f"{call} {sorted(arguments.items())}"
        return self._kept(
            run, name, lambda: self._helper.call(call, run=str(run.path.resolve()), version=version, **arguments)
        )

    def example_counts(self, units: Sequence[Unit], run: str) -> list[int]:
        """Return how many examples each of some units has whose pictures are at hand."""
        counted: list[int] = (
            self._asked(self._runs.get(run), "counts", units=[list(unit) for unit in units]) if units else []
        )
        return counted

    def pictures(self, model: str, tap: str, unit: int, run: str | None = None) -> bytes:
        """Return the pictures of a unit's examples, side by side, as WebP: as many as `unit` says it has examples."""
        return base64.b64decode(self._asked(self._with(model, tap, run), "examples", model=model, tap=tap, unit=unit))

    def cases(self, model: str, tap: str, unit: int, run: str | None = None) -> bytes:
        """Return the pictures of a detector's cases, side by side, as WebP: those that `unit` lists in its sheet of cases."""
        return base64.b64decode(self._asked(self._with(model, tap, run), "cases", model=model, tap=tap, unit=unit))

    def visualisation(self, model: str, tap: str, unit: int, run: str | None = None) -> bytes:
        """Return the image that was made to drive a unit, as WebP."""
        return base64.b64decode(
            self._asked(self._with(model, tap, run), "visualisation", model=model, tap=tap, unit=unit)
        )

    def null(self, unit: Unit, model: str, tap: str, run: str | None = None) -> tuple[bytes, float]:
        """Return the examples of the random direction of another layer that is most like a unit, as WebP, and its held-out r."""
        found = self._asked(
            self._with(unit[0], unit[1], run), "null", model=unit[0], tap=unit[1], unit=unit[2], other=model, at=tap
        )
        return base64.b64decode(found["picture"]), float(found["r"])

    def elsewhere(self, model: str, tap: str, unit: int, run: str | None = None) -> list[Plain]:
        """Return the unit most like one unit at every tap of every other network of its run, the best first, beside its null.

        Chosen on fold 0 of the natural images and scored on fold 1, as matched units are; the null is the best direction of a random
        basis (Haar) of the same layer, chosen in the same way.
        """
        rows: list[Plain] = self._asked(self._with(model, tap, run), "elsewhere", model=model, tap=tap, unit=unit)
        return rows

    # ---- pairs of networks
    def compare(self, a: str, b: str, run: str | None = None) -> Plain:
        """Return two networks compared: similarity of all taps, matched units, where measures disagree.

        Raises
        ------
        MissingError
            No run compared them.
        """
        every = [self._runs.get(run)] if run else list(self.opened())
        fitting = [of for of in every if any({a, b} == set(pair) for pair in of.job.compared())]
        if not fitting:
            raise MissingError(f"no finished run compared '{a[:200]}' with '{b[:200]}'; submit a job that names both")
        of = fitting[0]
        first, second = next(pair for pair in of.job.compared() if {a, b} == set(pair))
        plain: Plain = self._kept(of, f"compare {first} {second}", lambda: compared(of, first, second))
        return plain | {"runs": [run.path.name for run in fitting]}

    def compared_pairs(self) -> dict[tuple[str, str], list[str]]:
        """Return which pairs of networks were compared, with the names of the runs."""
        found: dict[tuple[str, str], list[str]] = {}
        for run in self.opened():
            for pair in run.job.compared():
                found.setdefault(pair, []).append(run.path.name)
        return found

    # ---- search
    def search(self, query: str, limit: int = _MOST_HITS) -> list[Plain]:
        """Return what fits all words of a query: runs, networks, taps, families, and with a number in it units of the taps that fit the rest."""
        words = query.lower().split()[:8]
        numbers = [int(word) for word in words if word.isdecimal() and len(word) < 7]
        names = [word for word in words if not word.isdecimal()]
        if not words:
            return []
        hits = itertools.chain(self._units(names, numbers[-1]) if numbers else (), self._named(words))
        return list(itertools.islice(hits, limit))

    def _named(self, words: list[str]) -> Iterator[Plain]:
        for kind, text, entry in self._entries():
            if all(word in text for word in words):
                yield {"kind": kind, **entry}

    def _entries(self) -> Iterator[tuple[str, str, Plain]]:
        for entry in self.runs():
            hit = {"run": entry["name"], "label": entry["name"], "detail": entry["question"]}
            yield "run", f"run {entry['name']} {entry['question']}".lower(), hit
        for model, taps in self._taps().items():
            yield "network", f"network {model}".lower(), {"model": model, "label": model, "detail": f"{len(taps)} taps"}
            for tap, recorded in taps.items():
                said = "recorded" if recorded else "not recorded yet"
                yield (
                    "tap",
                    f"tap {model} {tap}".lower(),
                    {"model": model, "tap": tap, "label": f"{model}, {tap}", "detail": said},
                )
        for entry in self.runs():
            for family in entry["families"]:
                hit = {
                    "run": entry["name"],
                    "family": family,
                    "label": f"{family} in {entry['name']}",
                    "detail": "detectors of the family",
                }
                yield "family", f"family {family} {family.replace('_', ' ')} {entry['name']}".lower(), hit

    def _taps(self) -> dict[str, dict[str, bool]]:
        found = {card.id: {tap.name: False for tap in card.taps} for card in cards.cards().values()}
        for run in self.opened():
            for model, tap, _ in run.trained_keys:
                found.setdefault(model, {})[tap] = True
        return found

    def _units(self, names: list[str], unit: int) -> Iterator[Plain]:
        for run in self.opened():
            for model, tap in dict.fromkeys((m, t) for m, t, _ in run.trained_keys):
                fits = all(word in f"{model} {tap} unit".lower() for word in names)
                if fits and unit < _units_of(run, model, tap):
                    label = f"{model}, {tap}, {noun_of(basis_of(run.job))} {unit}"
                    yield {
                        "kind": "unit",
                        "model": model,
                        "tap": tap,
                        "unit": unit,
                        "run": run.path.name,
                        "label": label,
                        "detail": f"in run {run.path.name}",
                    }


def _entry(run: Run) -> Plain:
    return {
        "name": run.path.name, "question": run.job.question, "networks": [entry.id for entry in run.job.models],
        "pairs": len(run.job.compared()), "families": list(run.job.comparison.families), "started_unix": run.record.get("started_unix"),
        "job_digest": run.record["job_digest"],
    }  # fmt: skip


def _run(run: Run) -> Plain:
    return _entry(run) | {
        "findings": [{"topic": f.topic, "text": f.text, "standing": f.standing, "detail": f.detail} for f in findings(run)],
        "cautions": cautions.cautions(run),
        "tables": drawn.table_list(run),
        "figures": [{"stem": f.stem, "caption": f.caption, "kind": f.kind} for f in drawn.figures(run)],
        "job": run.job.plain(),
        "versions": {"package": str(run.record.get("code", {}).get("version", "")), "inputs": run.record["inputs_digest"]},
    }  # fmt: skip


def _atlas(run: Run, family: str) -> Plain:
    every = run.table("atlas") if run.has("atlas") else cells.atlas(run)
    rows = every[(every["family"] == family) & every["angle_deg"].notna()]
    units = run.units
    units = units[(units["seed"] == -1) & (units["family"] == family) & units["detector"]].set_index(
        ["model", "tap", "unit"]
    )
    networks: dict[str, Plain] = {}
    for row in rows.sort_values("angle_deg", kind="stable").to_dict("records"):
        place = row["model"], row["tap"], int(row["unit"])
        tuning = [float(x) for x in units.loc[place, "tuning_sigma"]] if place in units.index else []
        cell = {"angle_deg": float(row["angle_deg"]), "unit": int(row["unit"]), "links": int(row["links"]), "linked": row["linked"],
                "n_units": int(row["n_units"]), "n_untrained": float(row["n_untrained"]), "tuning_sigma": tuning}  # fmt: skip
        networks.setdefault(row["model"], {"model": row["model"], "tap": row["tap"], "cells": []})["cells"].append(cell)
    return {
        "family": family,
        "stage": run.has("atlas"),
        "angles_deg": [float(a) for a in sorted(rows["angle_deg"].unique())],
        "networks": list(networks.values()),
    }


def _network(card: ModelCard, at_hand: bool, runs: list[str]) -> Plain:
    return {
        "id": card.id, "taps": len(card.taps), "at_hand": at_hand, "runs": runs, "licence": card.licence, "training_set": card.training_set,
        "library": card.library, "architecture": card.architecture, "source": card.source,
        "input": " x ".join(map(str, dict.fromkeys(card.preprocessing.shape[1:]))),
    }  # fmt: skip


def _units_of(run: Run, model: str, tap: str) -> int:
    """Return how many units a tap has, by its run's tables; by its card where there is no table of them."""
    if run.has("families"):
        rows = run.families
        here = rows[(rows["model"] == model) & (rows["tap"] == tap)]
        if len(here):
            return int(here["n_units"].iloc[0])
    return cards.card(model).tap(tap.removesuffix(":pre").removesuffix(":post")).channels


def _tap(run: Run, model: str, tap: str) -> Plain:
    """Return the units of a tap in a run, detectors first, then near misses, then by number."""
    units: dict[int, Plain] = {
        unit: {"unit": unit, "families": [], "near": [], "live": True, "best": None}
        for unit in range(_units_of(run, model, tap))
    }
    if run.has("units"):
        rows = run.units
        for row in rows[(rows["seed"] == -1) & (rows["model"] == model) & (rows["tap"] == tap)].to_dict("records"):
            unit = units[int(row["unit"])]
            unit["live"] = bool(row["live"])
            if row["detector"]:
                unit["families"].append(
                    {"family": row["family"], "level": row["level"], "preferred_deg": float(row["preferred_deg"])}
                )
            elif row["near"]:
                unit["near"].append(row["family"])
    if run.has("correspondence"):
        for own, other in ("ab", "ba"):
            table = run.correspondence
            here = (
                (table[f"model_{own}"] == model)
                & (table[f"tap_{own}"] == tap)
                & (table["method"] == run.job.matched_by())
            )
            for row in table[here].sort_values("r_natural").to_dict("records"):
                unit = units[int(row[f"unit_{own}"])]
                best = {"model": row[f"model_{other}"], "tap": row[f"tap_{other}"], "unit": int(row[f"unit_{other}"]),
                        "r_natural": float(row["r_natural"]), "verdict": row["verdict"]}  # fmt: skip
                if unit["best"] is None or best["r_natural"] > unit["best"]["r_natural"]:
                    unit["best"] = best
    order = sorted(
        units.values(),
        key=lambda unit: (-len(unit["families"]), -len(unit["near"]), unit["best"] is None, unit["unit"]),
    )
    return {"model": model, "tap": tap, "in_run": run.path.name, "units": order}
