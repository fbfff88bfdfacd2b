"""Every link between units of all networks of a run, of their untrained twins and of their random bases: one pass.

The index of universality and the cliques count these links; all are found in the stores by one rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.activations.bases import directions_of, orthonormal
from universality.activations.layer import Layer
from universality.activations.spec import NullSpec
from universality.base.spec import digest
from universality.correspondence import random_bases
from universality.correspondence.links import ANY_UNIT, Block, Links, Marks, Resampling, Sight, View, rematched
from universality.features import answers
from universality.features.families import FAMILIES

BASES = 3
"""Random bases per layer in which links are counted as among its units; none of those that the units have to exceed."""
RESAMPLES = 100
HAAR_ROTATIONS: int = NullSpec.model_fields["haar_rotations"].default
UNIT_COLUMNS = ("seed", "basis", "model", "tap", "unit", "rule", "angle_deg")
EDGE_COLUMNS = (
    "seed", "rule", "basis_a", "basis_b", "model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b", "r", "excess",
    "excess_low", "excess_z", "linked",
)  # fmt: skip


@dataclass(frozen=True)
class Census:
    """Units and the links between them.

    Attributes
    ----------
    units : DataFrame
        One row per eligible unit and rule: seed (-1 for the trained network, else its twin's), basis (-1 for the units
        themselves, else the number of a random basis), model, tap, unit, rule (``any_unit`` or a family), angle_deg.
    edges : DataFrame
        One row per pair of units that lack nothing to be the same but, it may be, an excess: seed, rule, basis_a, basis_b, model_a, tap_a, unit_a,
        model_b, tap_b, unit_b, r (scoring fold), excess, excess_low, excess_z,
        linked (of verdict same_feature; of any unit, the same by `verdict.same_unit`).
    rematched : (edge, resample)
        Whether the pair is matched again with the photographs of the deciding fold resampled; False throughout where
        exactly one side is a random basis.
    kept : (edge, resample)
        Whether the excess stays above its error with the photographs of the scoring fold resampled.
    """

    units: pd.DataFrame
    edges: pd.DataFrame
    rematched: NDArray[np.bool_]
    kept: NDArray[np.bool_]


def count_links(
    layers: Sequence[Layer],
    pairs: Iterable[tuple[str, str]],
    families: Sequence[str],
    seed: int = 0,
    bases: int = BASES,
    resamples: int = RESAMPLES,
    haar_rotations: int = HAAR_ROTATIONS,
) -> Census:
    """Return every link between layers of different networks, all trained or all twins of one seed.

    Parameters
    ----------
    layers : sequence of Layer
        They saw the same natural images.
    pairs : of model ids
    bases : int
        In how many random bases of every layer links are counted, too.
    haar_rotations : int
        Over how many others a pair has to have an excess, as in a job.
    """
    first = layers[0]
    resampling = Resampling.of(first.fold, first.photograph, first.places, resamples, seed)
    seen = {(x.ref.model, x.ref.tap.name): _sight(x, families, bases, haar_rotations, seed) for x in layers}
    twin = -1 if first.ref.seed is None else first.ref.seed
    found = [
        _edges(twin, (a, b), Block(seen[a], seen[b], resampling))
        for model_a, model_b in pairs
        for a, b in itertools.product(*([key for key in seen if key[0] == model] for model in (model_a, model_b)))
    ]
    return joined([Census(_units(twin, seen), _empty_edges(), *_none(resamples)), *found])


def joined(parts: Iterable[Census]) -> Census:
    """Return several as one."""
    every = list(parts)
    edges = [part.edges for part in every if len(part.edges)] or [_empty_edges()]
    return Census(
        pd.concat([part.units for part in every], ignore_index=True),
        pd.concat(edges, ignore_index=True),
        np.concatenate([part.rematched for part in every]),
        np.concatenate([part.kept for part in every]),
    )


def _empty_edges() -> pd.DataFrame:
    return pd.DataFrame(columns=list(EDGE_COLUMNS))


def _none(resamples: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return np.zeros((0, resamples), dtype=np.bool_), np.zeros((0, resamples), dtype=np.bool_)


def _sight(layer: Layer, families: Sequence[str], bases: int, haar_rotations: int, seed: int) -> Sight:
    """Return a layer as it is and in random bases of its own (no two layers share one), and the bases to be exceeded."""
    number = int(digest([layer.ref.model, layer.ref.tap.name])[:12], 16)
    units, directions = (layer.in_units or layer).natural.shape[1], layer.natural.shape[1]
    own = (
        layer.in_basis(orthonormal(f"own {basis}", directions_of(units, directions, seed, number, basis)))
        for basis in range(bases)
    )
    views = [_view(seen, families) for seen in (layer, *own)]
    return Sight(views, random_bases.RandomBases.of(layer, haar_rotations, seed))


def _view(layer: Layer, families: Sequence[str]) -> View:
    halves = layer.halves()
    every = np.ones(halves.live.size, dtype=np.bool_)
    marks = {ANY_UNIT: Marks(every, every, np.full(halves.live.size, np.nan))}
    for family in families:
        table = answers.units(layer, family).iloc[halves.live]
        angles = table["preferred_deg"].to_numpy(np.float64)
        marks[family] = Marks(
            table["detector"].to_numpy(np.bool_), table["near"].to_numpy(np.bool_), angles, FAMILIES[family].period_deg
        )
    return View(halves, marks)


def _units(twin: int, seen: Mapping[tuple[str, str], Sight]) -> pd.DataFrame:
    rows = []
    for (model, tap), layer in seen.items():
        for basis, view in enumerate(layer.views, start=-1):
            for rule, marks in view.marks.items():
                chosen = np.flatnonzero(marks.eligible)
                rows.append(pd.DataFrame({
                    "seed": twin, "basis": basis, "model": model, "tap": tap, "unit": view.halves.live[chosen], "rule": rule,
                    "angle_deg": marks.angle_deg[chosen],
                }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)[list(UNIT_COLUMNS)]


def _wanted(bases: int) -> Iterator[tuple[int, int]]:
    """Yield the views to link: the units themselves, one side in a random basis, both sides in one."""
    yield 0, 0
    for basis in range(1, bases + 1):
        yield from ((0, basis), (basis, 0), (basis, basis))


def _edges(twin: int, names: tuple[tuple[str, str], tuple[str, str]], block: Block) -> Census:
    """Return the links between two layers and between their random bases."""
    tables, again, kept = [], [], []
    views = list(_wanted(len(block.a.views) - 1))
    for (u, v), links in zip(views, block.links(views), strict=True):
        x, y = block.a.views[u], block.b.views[v]
        tables.append(_table(twin, names, (u, v), (x, y), links))
        # Cliques are counted among units and among random bases; a basis on one side only is the null of a share.
        both = (u == 0) == (v == 0)
        again.append(rematched(x, y, links, block.resampling).T if both else np.zeros_like(links.kept.T))
        kept.append(links.kept.T)
    edges = pd.concat(tables, ignore_index=True)
    return Census(pd.DataFrame(columns=list(UNIT_COLUMNS)), edges, np.concatenate(again), np.concatenate(kept))


def _table(
    twin: int,
    names: tuple[tuple[str, str], tuple[str, str]],
    places: tuple[int, int],
    views: tuple[View, View],
    links: Links,
) -> pd.DataFrame:
    (model_a, tap_a), (model_b, tap_b) = names
    return pd.DataFrame({
        "seed": twin, "rule": links.rule, "basis_a": places[0] - 1, "basis_b": places[1] - 1,
        "model_a": model_a, "tap_a": tap_a, "unit_a": views[0].halves.live[links.pairs[:, 0]],
        "model_b": model_b, "tap_b": tap_b, "unit_b": views[1].halves.live[links.pairs[:, 1]],
        "r": links.r, "excess": links.excess, "excess_low": links.excess_low, "excess_z": links.excess_z, "linked": links.linked,
    })  # fmt: skip
