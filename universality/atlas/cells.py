"""The atlas: which feature each model holds, and which units of several models are one and the same.

A feature of a known family is a bin of preferred orientation. A cell is what one model has there at its best tap; whether
cells of two models hold the same unit is the verdict of the table ``correspondence``, not the bin. Cliques are units of several
models that are pairwise the same, without any model as a hub; those without a detector are features of no known family. They
come from the census, which judges by the same rule every pair, not only those that a matching chose.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from universality.base import schema
from universality.base.errors import RunError
from universality.correspondence.census import Census
from universality.correspondence.links import ANY_UNIT
from universality.correspondence.verdict import VERDICTS
from universality.features.definition import best_taps
from universality.features.families import FAMILIES

if TYPE_CHECKING:
    import networkx as nx

BIN_DEG = 30.0
LEAST_MODELS = 3
DATA_DRIVEN = "data-driven"
STABLE = 0.5
"""A clique that re-forms in so large a share of the resamples counts as stable."""
Node = tuple[str, str, int]


class HasTables(Protocol):
    """A run, or whatever else has these tables."""

    @property
    def families(self) -> pd.DataFrame:
        """The table ``families``."""

    @property
    def units(self) -> pd.DataFrame:
        """The table ``units``."""

    @property
    def correspondence(self) -> pd.DataFrame:
        """The table ``correspondence``."""


def same_feature_graph(correspondence: pd.DataFrame, family: str) -> nx.Graph:
    """Return the graph whose nodes are units (model, tap, unit) and whose edges are verdicts ``same_feature``.

    An edge carries `r` (held-out correlation). The matches of all methods in the table count; of equal edges the first stays.
    """
    same = correspondence[(correspondence["verdict"] == VERDICTS[0]) & (correspondence["family"] == family)]
    return _graph(same.rename(columns={"r_natural": "r"}))


def _graph(rows: pd.DataFrame) -> nx.Graph:
    """Return the graph of the units (model, tap, unit) of the rows; an edge carries `r`, `excess_low` and its row's label."""
    import networkx as nx

    graph = nx.Graph()
    for label, row in zip(rows.index, rows.to_dict("records"), strict=True):
        a, b = ((row[f"model_{x}"], row[f"tap_{x}"], int(row[f"unit_{x}"])) for x in "ab")
        if not graph.has_edge(a, b):
            graph.add_edge(a, b, r=row["r"], excess_low=row["excess_low"], row=label)
    return graph


def atlas(run: HasTables, bin_deg: float = BIN_DEG) -> pd.DataFrame:
    """Return the periodic table of the known families, one row per family, bin of orientation and model.

    Columns
    -------
    feature, family, angle_deg (middle of the bin, degrees), model, tap (the model's tap with the most detectors), n_units
    (detectors in the bin), n_untrained (mean over its untrained twins), and of the unit with the most links, of equals the
    strongest: unit (-1 for none), preferred_deg, r1, peak_sigma, links (other models in which it has a same_feature
    partner), linked (their names), mean_r (mean held-out correlation over its links), stability (NaN here).

    Raises
    ------
    RunError
        The bins do not divide the circle (for a family of orientations: half of it).
    """
    periods = {family: FAMILIES[family].period_deg for family in dict.fromkeys(run.families["family"])}
    for period in periods.values():
        if bin_deg <= 0 or abs(period / bin_deg - round(period / bin_deg)) > 1e-9:
            circle = "the circle" if period == 360.0 else f"{period:g} degrees"
            raise RunError(f"bins of {bin_deg:g} degrees do not divide {circle}; choose 30, 45, 60 or the like")
    rows = []
    for family, period in periods.items():
        graph = same_feature_graph(run.correspondence, family)
        units = run.units[(run.units["family"] == family) & run.units["detector"]]
        # As they come in the run, not by name.
        for best in best_taps(run.families[run.families["family"] == family]).sort_index().to_dict("records"):
            here = units[(units["model"] == best["model"]) & (units["tap"] == best["tap"])]
            for angle in np.arange(0.0, period, bin_deg):
                rows.append(_cell(here, graph, best, angle, bin_deg))
    return schema.as_table(schema.ATLAS, pd.DataFrame(rows, columns=schema.ATLAS.names))


def _cell(
    units: pd.DataFrame, graph: nx.Graph, best: dict[Hashable, Any], angle: float, bin_deg: float
) -> dict[str, object]:
    # Bins are centred on their angle, so that 0 degrees is the middle of one.
    inside = units[np.mod(units["preferred_deg"] - angle + bin_deg / 2, FAMILIES[best["family"]].period_deg) < bin_deg]
    trained, untrained = inside[inside["seed"] == -1], inside[inside["seed"] >= 0]
    twins = best["n_twins"]
    row = _empty_cell(f"{best['family']} {angle:g}°", str(best["family"]), angle, str(best["model"])) | {
        "tap": best["tap"], "n_units": len(trained), "n_untrained": len(untrained) / float(str(twins)),
    }  # fmt: skip
    if trained.empty:
        return row
    nodes = [(best["model"], best["tap"], int(unit)) for unit in trained["unit"]]
    linked = [_linked(graph, node) for node in nodes]
    r = [float(np.mean([edge["r"] for edge in graph.adj[n].values()])) if n in graph else np.nan for n in nodes]
    order = trained.assign(links=[len(names) for names in linked], linked=[", ".join(n) for n in linked], mean_r=r)
    chosen = order.sort_values(["links", "peak_sigma", "unit"], ascending=[False, False, True]).iloc[0]
    return row | {
        name: chosen[name] for name in ("unit", "preferred_deg", "r1", "peak_sigma", "links", "linked", "mean_r")
    }


def _empty_cell(feature: str, family: str, angle: float, model: str) -> dict[str, object]:
    return {
        "feature": feature, "family": family, "angle_deg": angle, "model": model, "tap": "", "n_units": 0, "n_untrained": 0.0,
        "unit": -1, "preferred_deg": np.nan, "r1": np.nan, "peak_sigma": np.nan, "links": 0, "linked": "", "mean_r": np.nan,
        "stability": np.nan,
    }  # fmt: skip


def _linked(graph: nx.Graph, node: Node) -> list[str]:
    return sorted({str(model) for model, _, _ in graph.neighbors(node)}) if node in graph else []


def data_driven_rows(found: pd.DataFrame, counts: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """Return rows of the atlas for cliques that belong to no known family, one row per clique and model.

    Parameters
    ----------
    found : DataFrame
        As `cliques` returns them; those of a family are left out.
    counts : DataFrame
        As `clique_counts` returns it. `n_untrained` is, for every row, how many such cliques the untrained twins hold per
        one of the trained networks: it is the null of all rows together, not of a single one.
    models : list of str
        The columns of the atlas.
    """
    of_kind = counts[counts["family"] == DATA_DRIVEN].set_index("networks")["n_disjoint"]
    null = float(of_kind["untrained"] / of_kind["trained"]) if of_kind.get("trained", 0) else np.nan
    rows = []
    for number, clique in found[found["family"] == DATA_DRIVEN].groupby("clique", sort=True):
        members = clique.set_index("model")
        for model in models:
            row = _empty_cell(f"{DATA_DRIVEN} {number}", DATA_DRIVEN, np.nan, model) | {"n_untrained": null}
            if model in members.index:
                unit = members.loc[model]
                row |= {name: unit[name] for name in ("tap", "unit", "mean_r", "stability")}
                others = sorted(set(members.index) - {model})
                row |= {"n_units": 1, "links": len(others), "linked": ", ".join(others)}
            rows.append(row)
    return schema.as_table(schema.ATLAS, pd.DataFrame(rows, columns=schema.ATLAS.names))


def _found(graph: nx.Graph, least: int) -> list[list[Node]]:
    """Return the maximal cliques of at least `least` models, the largest first."""
    from networkx import find_cliques

    return sorted((sorted(c) for c in find_cliques(graph) if len(c) >= least), key=lambda c: (-len(c), c))


def _edges_of(graph: nx.Graph, clique: list[Node]) -> list[dict[str, Any]]:
    return [graph.edges[a, b] for i, a in enumerate(clique) for b in clique[:i]]


def cliques(counted: Census, least: int = LEAST_MODELS) -> pd.DataFrame:
    """Return units of several models that are all pairwise the same: A to B, B to C and C back to A.

    No model is a hub: every pair of a clique is judged by itself, detectors of a family by the verdict same_feature, units of no
    family (`DATA_DRIVEN`) by `verdict.same_unit`. A model contributes at most one unit, since units of one model are not compared
    with one another. Of cliques that share a unit the larger stays, of equally large ones the more stable.

    Parameters
    ----------
    least : int
        Smallest number of models.

    Returns
    -------
    DataFrame
        One row per unit: clique (number within the family, largest cliques first), family, n_models, model, tap, unit,
        preferred_deg (NaN for `DATA_DRIVEN`), mean_r (of the unit with the others), least_r and least_excess_low (of the clique's
        weakest pair), stability: share of the resamples of the deciding fold's photographs in which every pair of the clique is
        again among each other's best.
    """
    tables = []
    for rule in _rules(counted):
        _, units, graph, held = next(iter(_graphs(counted, rule)))
        found = _found(graph, least)
        found, stable = _disjoint(counted, graph, _of_no_family(found, held) if rule == ANY_UNIT else found)
        of_rule = units.loc[units["rule"] == rule, ["model", "tap", "unit", "angle_deg"]]
        angles: dict[Node, float] = {(m, t, int(u)): deg for m, t, u, deg in of_rule.itertuples(index=False, name=None)}
        tables.append(_clique_table(graph, found, DATA_DRIVEN if rule == ANY_UNIT else rule, stable, angles))
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _rules(counted: Census) -> list[str]:
    """Return the families of a census, then `ANY_UNIT`."""
    return [rule for rule in dict.fromkeys(counted.units["rule"]) if rule != ANY_UNIT] + [ANY_UNIT]


def _clique_table(
    graph: nx.Graph, found: list[list[Node]], family: str, stability: list[float], angles: dict[Node, float]
) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for number, clique in enumerate(found):
        edges = _edges_of(graph, clique)
        shared = {
            "clique": number, "family": family, "n_models": len(clique), "stability": stability[number],
            "least_r": min(edge["r"] for edge in edges), "least_excess_low": min(edge["excess_low"] for edge in edges),
        }  # fmt: skip
        for node in clique:
            own = float(np.mean([graph.edges[node, other]["r"] for other in clique if other != node]))
            names = dict(zip(("model", "tap", "unit"), node, strict=True))
            rows.append(shared | names | {"preferred_deg": angles.get(node, np.nan), "mean_r": own})
    return schema.as_table(schema.CLIQUES, pd.DataFrame(rows, columns=schema.CLIQUES.names))


def _stability(counted: Census, graph: nx.Graph, clique: list[Node]) -> float:
    """Return in which share of the resamples all pairs of a clique are matched again."""
    return float(counted.rematched[[edge["row"] for edge in _edges_of(graph, clique)]].all(axis=0).mean())


def _graphs(counted: Census, rule: str) -> Iterator[tuple[str, pd.DataFrame, nx.Graph, dict[Node, list[str]]]]:
    """Yield (networks, their units, graph, families of its nodes): the trained networks, every twin, every random basis."""
    edges = counted.edges[counted.edges["linked"].astype(bool) & (counted.edges["rule"] == rule)]
    for seed, basis in _replicates(counted):
        networks = "haar" if basis >= 0 else "untrained" if seed >= 0 else "trained"
        chosen = (edges["seed"] == seed) & (edges["basis_a"] == basis) & (edges["basis_b"] == basis)
        units = counted.units[(counted.units["seed"] == seed) & (counted.units["basis"] == basis)]
        held: dict[Node, list[str]] = {}
        for family, *node in units.loc[units["rule"] != ANY_UNIT, ["rule", "model", "tap", "unit"]].itertuples(
            index=False
        ):
            held.setdefault((node[0], node[1], int(node[2])), []).append(family)
        yield networks, units, _graph(edges[chosen]), held


def _replicates(counted: Census) -> list[tuple[int, int]]:
    """Return (seed, basis) of the trained networks, of their random bases, and of every twin's own units."""
    known = counted.units[["seed", "basis"]].drop_duplicates()
    wanted = known[(known["seed"] == -1) | (known["basis"] == -1)]
    return [(int(seed), int(basis)) for seed, basis in wanted.itertuples(index=False)]


def _of_no_family(found: list[list[Node]], held: dict[Node, list[str]]) -> list[list[Node]]:
    return [clique for clique in found if not any(node in held for node in clique)]


def _disjoint(counted: Census, graph: nx.Graph, found: list[list[Node]]) -> tuple[list[list[Node]], list[float]]:
    """Return cliques that share no unit, the larger and of equal ones the more stable first, with their stability."""
    stable = {tuple(clique): _stability(counted, graph, clique) for clique in found}
    taken: set[Node] = set()
    kept = []
    for clique in sorted(found, key=lambda c: (-len(c), -stable[tuple(c)], c)):
        if taken.isdisjoint(clique):
            taken.update(clique)
            kept.append(clique)
    return kept, [stable[tuple(clique)] for clique in kept]


def clique_counts(counted: Census, least: int = LEAST_MODELS) -> pd.DataFrame:
    """Return how many cliques there are in the trained networks, in their untrained twins, and in random bases.

    One rule finds them in all three, the one of `cliques`, whose table holds the disjoint ones of the trained networks.

    Returns
    -------
    DataFrame
        One row per family (``any_unit`` for all units, ``data-driven`` for cliques without a detector) and kind of
        network (trained, untrained, haar): replicates (twins, bases), least_models, and means over them: n_units (that
        the rule is about), n_cliques (maximal), n_disjoint (that share no unit), n_stable (of these,
        stability of `STABLE` at least); largest (models in the largest clique of any replicate) and stability (mean over
        the disjoint cliques of all replicates; NaN without any).
    """
    each = []
    for rule in _rules(counted):
        for networks, units, graph, held in _graphs(counted, rule):
            found = _found(graph, least)
            n_units = int((units["rule"] == rule).sum())
            kinds = {rule: found} | ({DATA_DRIVEN: _of_no_family(found, held)} if rule == ANY_UNIT else {})
            for family, of_kind in kinds.items():
                apart, stable = _disjoint(counted, graph, of_kind)
                each.append({
                    "family": family, "networks": networks, "n_units": n_units,
                    "n_cliques": len(of_kind), "n_disjoint": len(apart),
                    "largest": max((len(clique) for clique in of_kind), default=0),
                    "stable": stable,
                })  # fmt: skip
    return _summed(pd.DataFrame(each), least)


def _summed(each: pd.DataFrame, least: int) -> pd.DataFrame:
    rows = []
    for (family, networks), group in each.groupby(["family", "networks"], sort=False):
        stable = np.concatenate([np.array(values, dtype=np.float64) for values in group["stable"]])
        rows.append({
            "family": family, "networks": networks, "replicates": len(group), "least_models": least,
            **group[["n_units", "n_cliques", "n_disjoint"]].mean(), "n_stable": (stable >= STABLE).sum() / len(group),
            "largest": group["largest"].max(), "stability": stable.mean() if stable.size else np.nan,
        })  # fmt: skip
    return schema.as_table(schema.CLIQUE_COUNTS, pd.DataFrame(rows, columns=schema.CLIQUE_COUNTS.names))
