"""The tables of dictionaries: one row for each, and one for each of its directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.activations.dictionaries import quality
from universality.activations.dictionaries.dictionary import Dictionary
from universality.activations.dictionaries.kept import BasisRef, sample
from universality.activations.layer import LayerRef
from universality.base.arrays import Array, participation, reciprocal
from universality.base.schema import Column, Table, as_table

_LAYER = (
    Column("model", "string", "1", "card id", "network"),
    Column("seed", "int", "1", ">= -1", "-1 for the trained network, else the seed of its untrained twin"),
    Column("tap", "string", "1", "tap name", "layer"),
    Column("basis", "string", "1", "nmf | sae | universal_sae", "kind of dictionary"),
)
DICTIONARIES = Table(
    "dictionaries",
    "the dictionary of one layer, learnt on the fold of natural images that decides matches and judged on the other, with random directions beside it",
    (
        *_LAYER,
        Column("depth", "float", "1", "0 to 1", "relative depth of the tap"),
        Column("n_units", "int", "units", ">= 1", "units of the layer"),
        Column("n_directions", "int", "1", ">= 2", "directions of the dictionary"),
        Column("n_networks", "int", "1", ">= 1", "networks that it is learnt from together"),
        Column("n_learnt", "int", "positions", ">= 1", "positions of images that it was learnt from"),
        Column("n_judged", "int", "positions", ">= 1", "positions of other images that it is judged on"),
        Column("r2", "float", "1", "at most 1", "1 less squared error over variance, all units together"),
        Column("r2_seeds", "float", "1", "at most 1", "mean of it over all seeds"),
        Column("r2_frozen", "float", "1", "at most 1", "with random directions, of which only the description is learnt"),
        Column("r2_haar", "float", "1", "at most 1", "with random orthonormal directions, of which as many take part in each row (`l0`), of either sign"),
        Column("l0", "float", "directions", ">= 0", "directions that take part in a row, mean"),
        Column("l0_frozen", "float", "directions", ">= 0", "of the random ones"),
        Column("n_dead", "int", "directions", ">= 0", "directions that take part in no row that was learnt from"),
        Column("n_dead_frozen", "int", "directions", ">= 0", "of the random ones"),
        Column("stability", "float", "1", "-1 to 1", "mean cosine of directions paired one to one between two seeds; NaN of one seed"),
        Column("stability_frozen", "float", "1", "-1 to 1", "between two draws of random ones: chance"),
        Column("share_stable", "float", "1", "0 to 1", "directions whose partner in the second seed has a cosine above 0.5"),
        Column("interference", "float", "1", "0 to 1", "mean squared cosine of two different directions: 0 where they are orthogonal"),
        Column("interference_frozen", "float", "1", "0 to 1", "of the random ones"),
        Column("n_units_each", "float", "units", ">= 1", "units over which a direction is spread, median (participation ratio of its weights)"),
        Column("n_units_each_frozen", "float", "units", ">= 1", "of the random ones"),
        Column("dimensions", "float", "1", ">= 1", "directions over which the variance of the activations is spread (participation ratio)"),
        Column(
            "features_per_dimension", "float", "1", ">= 1",
            "directions that take part over the dimensions that they have to themselves (`directions.dimensionality`, summed): 1 without superposition",
        ),
        Column("share_independent", "float", "1", "0 to 1", "universal_sae: directions with a cosine above 0.5 to their partner in a dictionary of the layer alone; NaN of others"),
        Column("share_independent_frozen", "float", "1", "0 to 1", "of the random ones"),
        Column("firing_entropy", "float", "1", "0 to 1", "universal_sae: mean over directions of how evenly they answer in all networks; NaN of others"),
        Column("cofiring", "float", "1", "0 to 1", "universal_sae: mean over directions and other networks of the share of positions at which both answer; NaN of others"),
        Column("cofiring_chance", "float", "1", "0 to 1", "with the other networks' images in another order"),
    ),
)  # fmt: skip
DIRECTIONS = Table(
    "directions",
    "one direction of the dictionary of one layer; in the other tables of the run `unit` is its number",
    (
        *_LAYER,
        Column("direction", "int", "1", ">= 0", "number of the direction"),
        Column("answers", "float", "1", "0 to 1", "share of the judged positions in which it takes part"),
        Column("code", "float", "1", ">= 0", "mean of its code where it takes part, in units of the code; NaN of none"),
        Column("n_units", "float", "units", ">= 1", "units over which it is spread (participation ratio of its weights); 1 for a single unit"),
        Column("unit", "int", "1", ">= 0", "unit that it is nearest to"),
        Column("cosine_unit", "float", "1", "0 to 1", "size of the cosine with that unit"),
        Column("cosine_seeds", "float", "1", "-1 to 1", "mean cosine with its partners in the other seeds; NaN of one seed"),
        Column("dimensionality", "float", "1", "0 to 1", "share of a dimension that it has to itself (Elhage et al. 2022); NaN of a direction that never takes part"),
        Column("firing_entropy", "float", "1", "0 to 1", "universal_sae: how evenly it answers in all networks; NaN of others"),
        Column("cofiring", "float", "1", "0 to 1", "universal_sae: mean over the other networks of the share of its positions at which they answer, too; NaN of others"),
    ),
)  # fmt: skip
DICTIONARY_TABLES: dict[str, Table] = {table.name: table for table in (DICTIONARIES, DIRECTIONS)}


def dictionary_rows(ref: LayerRef) -> dict[str, pd.DataFrame]:
    """Return the rows of ``dictionaries`` and ``directions`` of one layer that is seen in a dictionary; what is not kept is learnt."""
    basis = ref.basis
    assert basis is not None and basis.learnt  # the stage asks for no others
    learnt, judged = (sample(ref.store_root, basis.own, basis.spec, fold=fold).astype(np.float64) for fold in (0, 1))
    seeds = basis.spec.seeds
    found = [basis.dictionary(ref.store_root, seed) for seed in seeds]
    one, null = found[0], basis.dictionary(ref.store_root, seeds[0], frozen=True)
    # Of another draw of random directions nothing is asked but which they are.
    other_null = replace(basis, spec=basis.spec.model_copy(update={"steps": 1})).dictionary(
        ref.store_root, seeds[0] + 1, frozen=True
    )
    of_one, of_null = quality.described(one, judged), quality.described(null, judged)
    of_seeds = [of_one, *(quality.described(other, judged) for other in found[1:])]
    partners = [quality.cosines(one.atoms, other.atoms) for other in found[1:]]
    codes = one.codes(judged)
    each = {
        "answers": of_one.answers,
        "code": np.where(of_one.answers > 0, codes.sum(axis=0) * reciprocal((codes > 0).sum(axis=0)), np.nan),
        "n_units": participation(one.atoms, axis=1),
        **_nearest_unit(one),
        "cosine_seeds": np.mean(partners, axis=0) if partners else np.full(one.directions, np.nan),
        "dimensionality": quality.dimensionality(one.atoms * np.sqrt(np.square(codes).mean(axis=0))[:, None]),
        **_shared(ref, basis, one, codes > 0),
    }
    chance = each.pop("chance")
    labels = {
        "model": ref.model, "seed": -1 if ref.seed is None else ref.seed, "tap": ref.tap.name, "basis": basis.name
    }  # fmt: skip
    independent, independent_null = _independent(ref, basis, one, null)
    known = np.isfinite(each["dimensionality"])
    row: dict[str, Any] = {
        **labels, "depth": ref.tap.relative_depth, "n_units": basis.own.units, "n_directions": one.directions, "n_networks": len(basis.sources),
        "n_learnt": len(learnt), "n_judged": len(judged), "r2": of_one.r2, "r2_seeds": float(np.mean([of.r2 for of in of_seeds])),
        "r2_frozen": of_null.r2, "r2_haar": quality.r2_of_random_basis(learnt, judged, one.directions, round(of_one.l0), seeds[0]),
        "l0": of_one.l0, "l0_frozen": of_null.l0, "n_dead": _dead(one, learnt), "n_dead_frozen": _dead(null, learnt),
        "stability": quality.stability([of.atoms for of in found]), "stability_frozen": quality.stability([null.atoms, other_null.atoms]),
        "share_stable": float((partners[0] > quality.SAME_COSINE).mean()) if partners else np.nan,
        "interference": quality.interference(one.atoms), "interference_frozen": quality.interference(null.atoms),
        "n_units_each": float(np.nanmedian(each["n_units"])), "n_units_each_frozen": float(np.nanmedian(participation(null.atoms, axis=1))),
        "dimensions": quality.dimensions(judged),
        "features_per_dimension": float(known.sum() / each["dimensionality"][known].sum()) if known.any() else np.nan,
        "share_independent": independent, "share_independent_frozen": independent_null,
        "firing_entropy": _mean(each["firing_entropy"]), "cofiring": _mean(each["cofiring"]), "cofiring_chance": chance,
    }  # fmt: skip
    directions = pd.DataFrame({**labels, "direction": np.arange(one.directions), **each})
    return {
        "dictionaries": as_table(DICTIONARIES, pd.DataFrame([row])),
        "directions": as_table(DIRECTIONS, directions),
    }


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _dead(dictionary: Dictionary, rows: Array) -> int:
    return int((~(dictionary.codes(rows) > 0).any(axis=0)).sum())


def _nearest_unit(dictionary: Dictionary) -> dict[str, NDArray[Any]]:
    size = np.abs(dictionary.atoms) * reciprocal(np.linalg.norm(dictionary.atoms, axis=1))[:, None]
    return {"unit": size.argmax(axis=1), "cosine_unit": size.max(axis=1)}


def _shared(ref: LayerRef, basis: BasisRef, one: Dictionary, own: NDArray[np.bool_]) -> dict[str, Any]:
    """Return firing entropy and co-firing of directions that several networks share, and the mean co-firing by chance."""
    nothing = np.full(one.directions, np.nan)
    if len(basis.sources) == 1:
        return {"firing_entropy": nothing, "cofiring": nothing, "chance": float("nan")}
    answers, together, chance = [own.mean(axis=0)], [], []
    for place, source in enumerate(basis.sources):
        if place == basis.place:
            continue
        there = replace(basis, place=place).dictionary(ref.store_root, basis.spec.seeds[0])
        other, elsewhere = (
            there.codes(sample(ref.store_root, source, basis.spec, fold=1, shuffled=order).astype(np.float64)) > 0
            for order in (0, len(basis.sources))
        )
        answers.append(other.mean(axis=0))
        together.append(quality.cofiring(own, other))
        chance.append(_mean(quality.cofiring(own, elsewhere)))
    return {
        "firing_entropy": quality.firing_entropy(np.stack(answers)), "cofiring": np.mean(together, axis=0), "chance": float(np.mean(chance)),
    }  # fmt: skip


def _independent(ref: LayerRef, basis: BasisRef, one: Dictionary, null: Dictionary) -> tuple[float, float]:
    """Return which share of the directions that networks share is found in a dictionary of the layer alone, and that of random ones."""
    if len(basis.sources) == 1:
        return float("nan"), float("nan")
    spec = basis.spec.model_copy(update={"shuffled_images": False})
    alone = replace(basis, name="sae", spec=spec, sources=(basis.own,), place=0)
    atoms = alone.dictionary(ref.store_root, basis.spec.seeds[0]).atoms
    found, chance = (float((quality.cosines(of.atoms, atoms) > quality.SAME_COSINE).mean()) for of in (one, null))
    return found, chance
