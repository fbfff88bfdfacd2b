"""Motifs of one trained network: what families and single detectors take from where, table by table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from universality.activations.layer import Layer
from universality.base.arrays import Array, Ints, reciprocal
from universality.base.discovery import false_discovery
from universality.circuits import branches, cases, equivariance, layouts, superposition
from universality.circuits.motif_tables import LATER, MOTIF_TABLES
from universality.circuits.pairs import BLOCK, LEAST_DETECTORS, STRIDES, Ends
from universality.circuits.plan import CircuitPlan
from universality.circuits.profiles import BINS, Units, differences, placed, rms
from universality.circuits.reading import onto_written
from universality.circuits.wirings import PLACES as CASE_PLACES
from universality.models.card import Tap

STRONGEST = 6
"""Sources that excite a detector most, and that inhibit it most, which `edges` has of each."""
CASE_UNITS = 8
"""Detectors of a family and tap whose gradients are looked at, evenly over their preferred angles."""
CASE_IMAGES = 72
"""Images that a unit answers most to, at which its gradients are taken."""
Gradients = Callable[[Tap, Tap, Array, Ints], Iterator[xr.DataArray]]
"""Of a network: the gradients of directions of a later tap by an earlier one at natural images, one after another."""


def weight_tables(own: Ends, twins: Sequence[Ends], plan: CircuitPlan) -> dict[str, pd.DataFrame]:
    """Return the rows of ``layouts``, ``equivariance``, ``superposition`` and ``edges`` of one trained layer with the one before it, and the ``ratios`` of its sources.

    ``ratios`` has the participation ratio of every unit of the earlier layer that has one in `superposition`'s sense: model, tap, unit, ratio, mean of the others.
    Families with fewer than `LEAST_DETECTORS` sources have none; of targets so few have no rows as a family.
    """
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("layouts", "equivariance", "superposition", "edges")
    }
    where = {
        "model": own.targets.ref.model,
        "source_tap": own.sources.ref.tap.name,
        "target_tap": own.targets.ref.tap.name,
    }
    sources = {family: of for family, of in own.labels.items() if len(of.unit) >= LEAST_DETECTORS}
    for target, of in own.detectors.items():
        if not len(of.unit) or not sources:
            continue
        weights, untrained = rms(_into(own, of)), [rms(_into(twin, of)) for twin in twins]
        for source, found in sources.items():
            both = where | {"target_family": target, "source_family": source}
            rows["layouts"] += [both | row for row in _layouts(weights, of, found, plan.seed)]
            if len(of.unit) >= LEAST_DETECTORS and of.period_deg == found.period_deg:
                rows["equivariance"].append(both | _equivariance(weights, untrained, of, found, plan.seed))
    ratios = pd.DataFrame(columns=RATIOS)
    if sources:
        strengths, of_twins = _strengths(own), [_strengths(twin) for twin in twins]
        ratios = _ratio_rows(own.sources, strengths)
        for source, found in sources.items():
            untrained_ratio = [np.nanmean(superposition.participation_ratio(of)[found.unit]) for of in of_twins]
            rows["superposition"].append(where | {
                "source_family": source, "n_detectors": len(found.unit), "n_units": len(strengths),
                **superposition.summary(strengths, found.unit, np.random.default_rng([plan.seed, 4])),
                "ratio_untrained": float(np.mean(untrained_ratio)) if untrained_ratio else np.nan,
            })  # fmt: skip
    rows["edges"] = [where | row for row in _edges(own, twins)]
    return {**{name: _table(name, found) for name, found in rows.items()}, "ratios": ratios}


RATIOS = ["model", "tap", "unit", "participation_ratio", "participation_ratio_random"]


def _ratio_rows(sources: Layer, strengths: Array) -> pd.DataFrame:
    of = superposition.participation_ratio(strengths)
    found = {"unit": np.arange(len(of)), "participation_ratio": of, "participation_ratio_random": superposition.beside_others(of)}  # fmt: skip
    return pd.DataFrame(found).assign(model=sources.ref.model, tap=sources.ref.tap.name)[RATIOS]


def _table(name: str, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows as the table of this name, without the columns that follow from all of a network's."""
    return pd.DataFrame(
        list(rows), columns=[column for column in MOTIF_TABLES[name].names if column not in LATER[name]]
    )


def _into(of: Ends, targets: Units) -> xr.DataArray:
    return of.of_units(targets.unit).assign_coords(unit_b=targets.unit)


def _layouts(weights: xr.DataArray, targets: Units, sources: Units, seed: int) -> Iterator[dict[str, object]]:
    """Yield the layouts of one family of sources in the field of each target, and in those of all targets turned onto one another."""
    side_px, known, axis = layouts.side_of(weights), weights["unit_a"].values, targets.period_deg < 360
    values = layouts.placed_in(weights, np.zeros(len(targets.unit)), False)
    for place, unit in enumerate(targets.unit):
        found = layouts.of_squares(values[[place]], known, sources.unit, side_px, seed=seed)
        yield _layout_row(found, int(unit), "image", np.nan, len(sources.unit), 1)
    if len(targets.unit) < LEAST_DETECTORS:
        return
    values = layouts.placed_in(weights, targets.angle_deg, axis)
    found = layouts.of_squares(values, known, sources.unit, side_px, axis=axis, seed=seed)
    yield _layout_row(found, -1, "own", np.nan, len(sources.unit), len(targets.unit))
    if targets.period_deg != sources.period_deg:
        return
    bins = differences(targets, sources)
    for k in range(BINS):
        here = bins == k
        some = here.any(axis=1)
        if not some.any():
            continue
        # Each target counts once, however many sources it has at this difference.
        counts = here * reciprocal(here.sum(axis=1))[:, None]
        found = layouts.of_squares(values, known, sources.unit, side_px, axis=axis, counts=counts, seed=seed)
        yield _layout_row(found, -1, "own", targets.period_deg * k / BINS, int(here.any(axis=0).sum()), int(some.sum()))


def _layout_row(
    of: layouts.Layout, unit: int, frame: str, difference: float, n_sources: int, n_targets: int
) -> dict[str, object]:
    low, high = (np.quantile(of.drawn, q, axis=0).ravel() for q in (0.025, 0.975))
    return {
        "unit": unit, "frame": frame, "difference_deg": difference, "n_sources": n_sources, "n_targets": n_targets, "square_px": of.side_px, **of.summary(),
        "map": of.map.ravel(), "map_null_low": low, "map_null_high": high,
    }  # fmt: skip


def _equivariance(
    weights: xr.DataArray, untrained: Sequence[xr.DataArray], targets: Units, sources: Units, seed: int
) -> dict[str, object]:
    bins = equivariance.bins_of(targets), equivariance.bins_of(sources)
    axis = targets.period_deg < 360

    def seen(of: xr.DataArray) -> tuple[Array, Array]:
        chosen = of.sel(unit_a=sources.unit)
        return chosen.sum(("dy", "dx")).values.astype(np.float64), layouts.placed_in(chosen, targets.angle_deg, axis)

    summed, squares = seen(weights)
    matrix = equivariance.angle_tensor(summed, *bins)
    twins = [
        [equivariance.circulant_share(equivariance.angle_tensor(of, *bins)) for of in seen(one)] for one in untrained
    ]
    rng = np.random.default_rng([seed, 5])
    found: dict[str, object] = {
        "n_targets": len(targets.unit),
        "n_sources": len(sources.unit),
        "n_cells": int(np.isfinite(matrix).sum()),
    }
    for k, (name, of) in enumerate((("share", summed), ("share_placed", squares))):
        found |= equivariance.summary(of, *bins, rng, name)
        found[f"{name}_untrained"] = (
            float(np.nanmean([twin[k] for twin in twins])) if np.isfinite([twin[k] for twin in twins]).any() else np.nan
        )
    return found | {"matrix": matrix.ravel()}


def _strengths(of: Ends) -> Array:
    """Return how strongly every unit of the later layer reads every source, (target, source), in rms of its weights; some targets at a time."""
    blocks = np.split(np.arange(of.n_targets), range(BLOCK, of.n_targets, BLOCK))
    return np.concatenate([superposition.outgoing(rms(of.of_units(some))) for some in blocks])


def _edges(own: Ends, twins: Sequence[Ends]) -> Iterator[dict[str, object]]:
    """Yield the sources of each detector: the strongest, and those that are detectors."""
    units = np.unique(np.concatenate([np.zeros(0, np.int64), *(of.unit for of in own.detectors.values())]))
    if not units.size:
        return
    family: dict[int, tuple[str, float]] = {}
    for name, of in own.labels.items():
        for unit, degrees in zip(of.unit, of.angle_deg, strict=True):
            family.setdefault(int(unit), (name, float(degrees)))
    weights = rms(own.of_units(units))
    summed = weights.sum(("dy", "dx")).values.astype(np.float64)
    squares, side_px = layouts.placed_in(weights, np.zeros(len(units)), False), layouts.side_of(weights)
    chance_of = [np.abs(rms(twin.of_units(units)).sum(("dy", "dx")).values) for twin in twins]
    for place, unit in enumerate(units):
        order = np.argsort(summed[place], kind="stable")
        shown = {int(k) for k in (*order[:STRONGEST], *order[::-1][:STRONGEST])} | set(family)
        rank = np.argsort(np.argsort(-np.abs(summed[place]), kind="stable"), kind="stable") + 1
        high = float(np.quantile(np.concatenate([of[place] for of in chance_of]), 0.95)) if chance_of else np.nan
        for source in sorted(shown, key=lambda k: rank[k]):
            name, degrees = family.get(source, ("", np.nan))
            yield {
                "unit": int(unit), "source_unit": source, "source_family": name, "source_deg": degrees, "rank": int(rank[source]),
                "weight": float(summed[place, source]), "untrained_95": high, "square_px": side_px, "map": squares[place, source],
            }  # fmt: skip


# cases ----------------------------------------------------------------------------------------------------------------


def case_table(
    sources: Layer, between: Ends | None, own: Ends, gradients: Gradients, plan: CircuitPlan
) -> pd.DataFrame:
    """Return the rows of ``cases`` of one trained layer's detectors.

    Parameters
    ----------
    sources : the layer that gradients are taken by
    between : the part with the layer between as its sources; None where `sources` is the tap before
    own : the part with `sources` as its sources
    gradients : asks the network
    """
    chosen = [(family, int(unit)) for family, of in own.detectors.items() for unit in _spread(of)]
    units = np.array(sorted({unit for _, unit in chosen}), dtype=np.int64)
    answers = per_image(own.targets)
    wanted = {int(unit): np.sort(np.argsort(-answers[:, unit], kind="stable")[:CASE_IMAGES]) for unit in units}
    held = _case_gradients(sources, own.targets, wanted, gradients)
    carried = None if between is None else _carried(between, units, wanted)
    rows, deviation = [], own.targets.natural.std(axis=0)
    for family, unit in chosen:
        found = cases.case_rows(held[unit], None if carried is None else carried[unit], plan.seed + unit)
        rows += [{
            "model": own.targets.ref.model, "source_tap": sources.ref.tap.name, "between_tap": "" if between is None else between.sources.ref.tap.name,
            "target_tap": own.targets.ref.tap.name, "family": family, "unit": unit,
            **row, **_shown(wanted[unit][np.asarray(row["images"], dtype=np.int64)], answers[:, unit], float(deviation[unit])),
        } for row in found]  # fmt: skip
    return _table("cases", rows)


def _shown(images: Ints, answers: Array, deviation: float) -> dict[str, object]:
    """Return which natural images a case is of, the largest answer first, and these answers, standard deviations."""
    order = images[np.argsort(-answers[images], kind="stable")]
    return {"images": order.astype(np.float64), "answers_sigma": answers[order] / deviation}


def per_image(layer: Layer) -> Array:
    """Return what units answer to each natural image at its middle place, (image, unit), a.u."""
    return np.asarray(layer.natural[layer.places // 2 :: layer.places])


def _spread(of: Units) -> Ints:
    """Return some of the units, evenly over their preferred angles."""
    order = of.unit[np.argsort(of.angle_deg, kind="stable")]
    return np.asarray(order[np.unique(np.linspace(0, len(order) - 1, min(CASE_UNITS, len(order))).round().astype(int))])


def _case_gradients(
    sources: Layer, targets: Layer, wanted: Mapping[int, Ints], gradients: Gradients
) -> dict[int, Array]:
    """Return by unit its gradients (image, source, place) at its images, by the sources' standard deviations."""
    units = np.array(sorted(wanted), dtype=np.int64)
    images = np.unique(np.concatenate([np.zeros(0, np.int64), *wanted.values()]))
    deviation = sources.natural.std(axis=0)
    side_px = STRIDES * float(sources.ref.tap.stride_px or 1)
    held: dict[int, list[Array]] = {int(unit): [] for unit in units}
    read = targets.basis.read  # None where the layer is seen in its units
    directions = np.eye(targets.natural.shape[1])[units] if read is None else read[units]
    for image, weights in zip(images, gradients(sources.ref.tap, targets.ref.tap, directions, images), strict=True):
        squares = (
            placed(onto_written(weights, sources.basis.written), 0.0, side_px, CASE_PLACES) * deviation[None, :, None]
        )
        for place, unit in enumerate(units):
            if image in wanted[int(unit)]:
                held[int(unit)].append(squares[place])
    return {unit: np.stack(of) for unit, of in held.items()}


def _carried(between: Ends, units: Ints, wanted: Mapping[int, Ints]) -> dict[int, cases.Between]:
    answers = per_image(between.sources)
    scaled = answers * reciprocal(answers.std(axis=0))
    excitation = between.of_units(units).sum(("dy", "dx")).values.astype(np.float64)
    return {int(unit): cases.Between(excitation[place], scaled[wanted[int(unit)]]) for place, unit in enumerate(units)}


def branch_table(layer: Layer, detectors: Mapping[str, Units], found: Sequence[branches.Branch]) -> pd.DataFrame:
    """Return the rows of ``branches`` of one trained layer."""
    live = np.flatnonzero(layer.live)
    parts = [
        branches.branch_rows(found, of.unit, live).assign(model=layer.ref.model, tap=layer.ref.tap.name, family=family)
        for family, of in detectors.items()
        if found and len(of.unit)
    ]
    return _table(
        "branches",
        [{str(key): value for key, value in row.items()} for row in pd.concat(parts).to_dict("records")]
        if parts
        else [],
    )


def unit_table(units: pd.DataFrame, ratios: pd.DataFrame, of_cases: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``units_motifs`` of one trained network: every unit and family, with NaN for what was not asked.

    Parameters
    ----------
    units : of the network, trained, as in the table of this name
    ratios : as `weight_tables` gives them, of all layers; the nearest later tap first where two read one layer
    of_cases : as `case_table` gives them, of all layers
    """
    names = {
        "target_tap": "tap", "cluster_index": "case_index", "cluster_index_null": "case_index_null", "cluster_index_null_5": "case_index_null_5",
        "p": "p_cases", "n_shown": "n_case_images",
    }  # fmt: skip
    first = of_cases[of_cases["case"] == 0].rename(columns=names)
    columns = [name for name in MOTIF_TABLES["units_motifs"].names if name not in LATER["units_motifs"]]
    once = ratios.drop_duplicates(["model", "tap", "unit"])
    found = units[["model", "seed", "tap", "family", "unit"]].merge(
        first[[name for name in columns if name in first and name != "seed"]],
        how="left", on=["model", "tap", "family", "unit"], validate="one_to_one",
    )  # fmt: skip
    return found.merge(once, how="left", on=["model", "tap", "unit"], validate="many_to_one")[columns]


# of a whole network ---------------------------------------------------------------------------------------------------


def finished(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table with false discovery rates within each network, and verdicts."""
    if name == "layouts":
        of_units = rows["unit"] >= 0
        for of in ("weight", "asymmetry"):
            by_kind = rows.assign(_of=of_units)
            rows = rows.assign(**{f"q_{of}": false_discovery(by_kind, ["model", "frame", "_of"], f"p_{of}")})
    elif name == "cases":
        # A unit counts once, however many cases it has.
        first = rows[rows["case"] == 0]
        known = rows.assign(q=pd.Series(false_discovery(first, ["model"]), index=first.index))
        rows = known.assign(
            q=known.groupby(["model", "target_tap", "family", "unit"], sort=False)["q"].transform("first")
        )
        rows = rows.assign(verdict=cases.judged(rows))
    elif name == "units_motifs":
        rows = rows.assign(q_cases=false_discovery(rows, ["model"], "p_cases"))
    elif name != "edges":
        rows = rows.assign(q=false_discovery(rows, ["model"], "p_share" if name == "equivariance" else "p"))
    return rows[MOTIF_TABLES[name].names].reset_index(drop=True)
