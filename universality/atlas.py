"""The atlas: which feature each model holds, and which units of several models are one and the same.

A feature of a known family is a bin of preferred orientation. A cell is what one model has there at its best tap; whether
cells of two models hold the same unit is the verdict of the table ``correspondence``, not the bin.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from universality.detectors import FAMILIES, best_taps
from universality.errors import RunError
from universality.runs import Run

BIN_DEG = 30.0
ATLAS_COLUMNS = (
    "family", "angle_deg", "model", "tap", "n_units", "n_untrained", "unit", "preferred_deg", "r1", "peak_sigma", "links",
    "linked",
)  # fmt: skip
CLIQUE_COLUMNS = (
    "clique",
    "family",
    "n_models",
    "model",
    "tap",
    "unit",
    "preferred_deg",
    "least_r",
    "least_excess_low",
)


def same_feature_graph(correspondence: pd.DataFrame, family: str) -> nx.Graph:
    """Return the graph whose nodes are units (model, tap, unit) and whose edges are verdicts ``same_feature``.

    An edge carries `r` (held-out correlation) and `excess_low`. Both matching methods count; of equal edges the first stays.
    """
    graph = nx.Graph()
    same = correspondence[(correspondence["verdict"] == "same_feature") & (correspondence["family"] == family)]
    for row in same.to_dict("records"):
        a, b = ((row[f"model_{x}"], row[f"tap_{x}"], int(row[f"unit_{x}"])) for x in "ab")
        if not graph.has_edge(a, b):
            graph.add_edge(a, b, r=row["r_natural"], excess_low=row["excess_low"])
    return graph


def atlas(run: Run, bin_deg: float = BIN_DEG) -> pd.DataFrame:
    """Return the periodic table of features, one row per family, bin of orientation and model.

    Columns
    -------
    family, angle_deg (middle of the bin, degrees), model, tap (the model's tap with the most detectors), n_units (detectors
    in the bin), n_untrained (mean over its untrained twins), and of the unit with the most links, of equals the strongest:
    unit (-1 for none), preferred_deg, r1, peak_sigma, links (other models in which it has a same_feature partner), linked
    (their names).

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
    return pd.DataFrame(rows, columns=list(ATLAS_COLUMNS))


def _cell(
    units: pd.DataFrame, graph: nx.Graph, best: dict[Hashable, Any], angle: float, bin_deg: float
) -> dict[str, object]:
    # Bins are centred on their angle, so that 0 degrees is the middle of one.
    inside = units[np.mod(units["preferred_deg"] - angle + bin_deg / 2, FAMILIES[best["family"]].period_deg) < bin_deg]
    trained, untrained = inside[inside["seed"] == -1], inside[inside["seed"] >= 0]
    twins = best["n_twins"]
    row = {
        "family": best["family"], "angle_deg": angle, "model": best["model"], "tap": best["tap"], "n_units": len(trained),
        "n_untrained": len(untrained) / float(str(twins)), "unit": -1, "preferred_deg": np.nan, "r1": np.nan,
        "peak_sigma": np.nan, "links": 0, "linked": "",
    }  # fmt: skip
    if trained.empty:
        return row
    linked = [_linked(graph, (best["model"], best["tap"], int(unit))) for unit in trained["unit"]]
    order = trained.assign(links=[len(names) for names in linked], linked=[", ".join(names) for names in linked])
    chosen = order.sort_values(["links", "peak_sigma", "unit"], ascending=[False, False, True]).iloc[0]
    return row | {name: chosen[name] for name in ("unit", "preferred_deg", "r1", "peak_sigma", "links", "linked")}


def _linked(graph: nx.Graph, node: tuple[object, object, int]) -> list[str]:
    return sorted({str(model) for model, _, _ in graph.neighbors(node)}) if node in graph else []


def cliques(run: Run, least: int = 3) -> pd.DataFrame:
    """Return the units of several models that are all pairwise the same feature: A to B, B to C and C back to A.

    No model is a hub: every pair of a clique has its own verdict. A model contributes at most one unit, since units of one
    model are not compared with one another.

    Parameters
    ----------
    least : int
        Smallest number of models.

    Returns
    -------
    DataFrame
        One row per unit: clique (number within the family, largest cliques first), family, n_models, model, tap, unit,
        preferred_deg, least_r and least_excess_low (of the clique's weakest pair).
    """
    rows: list[dict[str, object]] = []
    for family in dict.fromkeys(run.families["family"]):
        graph = same_feature_graph(run.correspondence, family)
        found = sorted((sorted(c) for c in nx.find_cliques(graph) if len(c) >= least), key=lambda c: (-len(c), c))
        units = run.units[(run.units["family"] == family) & (run.units["seed"] == -1)]
        angles = units.set_index(["model", "tap", "unit"])["preferred_deg"]
        for number, clique in enumerate(found):
            edges = [graph.edges[a, b] for i, a in enumerate(clique) for b in clique[:i]]
            for node in clique:
                rows.append(
                    dict(zip(("model", "tap", "unit"), node, strict=True))
                    | {
                        "clique": number, "family": family, "n_models": len(clique), "preferred_deg": angles[node],
                        "least_r": min(edge["r"] for edge in edges),
                        "least_excess_low": min(edge["excess_low"] for edge in edges),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(CLIQUE_COLUMNS))
