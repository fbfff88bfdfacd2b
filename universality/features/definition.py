"""Definitions applied to the units of a family: rates beside the untrained twins', thresholds moved, definitions of one's own.

Every criterion's value is in the tables of a run (`Run.units_of` gives a family's), so a definition can be changed without
showing a stimulus again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.base.errors import JobError, did_you_mean
from universality.base.schema import Column
from universality.features.rules import Criterion, Rule, failed
from universality.features.spec import DefinitionSpec

_KEYS = ["model", "seed", "tap", "unit"]


@dataclass(frozen=True)
class Definition:
    """Criteria over the units of one family."""

    name: str
    family: str
    criteria: tuple[Criterion, ...]


def of_rule(family: str, rule: Rule) -> Definition:
    """Return what the package itself counts."""
    return Definition(rule.name, family, rule.criteria)


def of_spec(spec: DefinitionSpec, rule: Rule, columns: Sequence[Column]) -> Definition:
    """Return a definition of the user's own.

    Parameters
    ----------
    rule : Rule
        Of the base family; its criteria are kept unless one of the same column and side replaces them.
    columns : sequence of Column
        Those of the units of the base family.

    Raises
    ------
    JobError
        A criterion names a column that the units of the family do not have, or one that holds no numbers.
    """
    kinds = {column.name: column.kind for column in columns}
    own = tuple(Criterion(c.column, c.op, c.threshold, c.reason) for c in spec.criteria)
    for criterion in own:
        if criterion.column not in kinds:
            raise JobError(
                f"definition '{spec.name}': units of the family '{spec.base}' have no column '{criterion.column}'"
                f"{did_you_mean(criterion.column, kinds)}"
            )
        if kinds[criterion.column] not in ("float", "int", "bool"):
            raise JobError(
                f"definition '{spec.name}': column '{criterion.column}' holds no numbers, expected one of the kinds float, int "
                "or bool (docs/tables.md)"
            )
    replaced = {(c.column, c.op[0]) for c in own}
    kept = tuple(c for c in rule.criteria if (c.column, c.op[0]) not in replaced) if spec.inherit else ()
    return Definition(spec.name, spec.base, (*kept, *own))


def judged_units(definition: Definition, units: pd.DataFrame) -> pd.DataFrame:
    """Return the units of a definition's family.

    Raises
    ------
    JobError
        There are none, or the column of a criterion is not there.
    """
    here = units[units["family"] == definition.family].reset_index(drop=True)
    if here.empty:
        raise JobError(
            f"the run has no units of the family '{definition.family}'; add it to comparison.families of its job"
        )
    for criterion in definition.criteria:
        if criterion.column not in here:
            raise JobError(
                f"definition '{definition.name}': the units lack the column '{criterion.column}', expected all columns of the family "
                f"'{definition.family}'; take run.units_of('{definition.family}')"
            )
    return here


def apply(definition: Definition, units: pd.DataFrame) -> pd.DataFrame:
    """Return one row per unit of the family: model, seed, tap, unit, what it fails, and whether it is a detector."""
    here = judged_units(definition, units)
    return here[_KEYS].assign(
        failed=failed(here, definition.criteria), detector=_passing(here, definition.criteria) & here["live"].to_numpy()
    )


def rates(definition: Definition, units: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model and tap: units, detectors and shares, trained and untrained (all twins together)."""
    applied = apply(definition, units)
    counts = applied.groupby(["model", "tap", applied["seed"] >= 0], sort=False)["detector"].agg(["sum", "size"])
    wide = counts.unstack("seed", fill_value=0)
    table = pd.DataFrame(
        {
            "n_units": wide["size", False], "n_detectors": wide["sum", False],
            "share": wide["sum", False] / wide["size", False],
            "n_units_untrained": wide["size", True], "n_detectors_untrained": wide["sum", True],
            "share_untrained": wide["sum", True] / wide["size", True],
        }
    )  # fmt: skip
    return table.reset_index()


STATED_DEPTH = 0.5
"""Relative depth at which networks are spoken of first: the middle, the same for all networks and families."""


def stated_taps(families: pd.DataFrame, depth: float = STATED_DEPTH) -> pd.DataFrame:
    """Return for each model and family the row of the tap nearest to a stated depth (the shallower one of equals), whatever it holds."""
    ordered = families.assign(distance=(families["depth"] - depth).abs())
    ordered = ordered.sort_values(["distance", "depth"], kind="stable").drop(columns="distance")
    return ordered.drop_duplicates(["family", "model"]).sort_values(["family", "model"])


def best_taps(families: pd.DataFrame) -> pd.DataFrame:
    """Return for each model and family the row of the tap with the most detectors (the shallower one of equals)."""
    ordered = families.sort_values(["n_detectors", "depth"], ascending=[False, True], kind="stable")
    return ordered.drop_duplicates(["family", "model"]).sort_values(["family", "model"])


def threshold_curve(
    definition: Definition, units: pd.DataFrame, column: str, thresholds: Sequence[float]
) -> pd.DataFrame:
    """Return how the rates move with one threshold, the other criteria staying as they are.

    Parameters
    ----------
    column : str
        Of a criterion of the definition; where there are two, the first is moved.

    Returns
    -------
    DataFrame
        One row per threshold: threshold, share, share_untrained (of all units of all models and taps, 0 to 1).

    Raises
    ------
    JobError
        The definition has no criterion of that column, or the units are not those of its family.
    """
    moved = next((c for c in definition.criteria if c.column == column), None)
    if moved is None:
        columns = [c.column for c in definition.criteria]
        raise JobError(f"definition '{definition.name}' has no criterion '{column}'{did_you_mean(column, columns)}")
    of_family = judged_units(definition, units)
    here = of_family[of_family["live"]]
    others = _passing(here, tuple(c for c in definition.criteria if c is not moved))
    sizes = [int((of_family["seed"] < 0).sum()), int((of_family["seed"] >= 0).sum())]
    trained = (here["seed"] < 0).to_numpy()
    rows = []
    for threshold in thresholds:
        passes = others & Criterion(column, moved.op, threshold, moved.reason).passes(here[column]).to_numpy()
        counts = passes[trained].sum(), passes[~trained].sum()
        share, untrained = (count / size if size else np.nan for count, size in zip(counts, sizes, strict=True))
        rows.append({"threshold": threshold, "share": share, "share_untrained": untrained})
    return pd.DataFrame(rows)


def _passing(units: pd.DataFrame, criteria: Sequence[Criterion]) -> NDArray[np.bool_]:
    passing = np.ones(len(units), dtype=np.bool_)
    for criterion in criteria:
        passing &= criterion.passes(units[criterion.column]).to_numpy()
    return passing
