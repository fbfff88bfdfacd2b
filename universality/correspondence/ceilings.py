"""What a layer shares with a noisy copy of itself: the ceiling of every share between networks whose units are no more alike."""

from __future__ import annotations

import numpy as np
import pandas as pd

from universality.base import schema
from universality.correspondence.resampling import paired, wilson_interval
from universality.correspondence.search import Contender
from universality.correspondence.tables import correspondence_rows
from universality.correspondence.verdict import VERDICTS


def ceiling_rows(own: Contender, copy: Contender) -> pd.DataFrame:
    """Return the rows of the table ``ceilings``, one for each family and method of matching, for a layer and its copy."""
    ref, copied = own.layer.ref, copy.layer.ref
    rows = correspondence_rows(own, copy)
    median_r = _median_r(own, copy)
    found = []
    for family in own.plan.families:
        detectors = own.tables[family]["detector"].to_numpy()
        again = copy.tables[family]["detector"].to_numpy()
        n = int(detectors.sum())
        for method in own.plan.methods:
            of = rows[(rows["family"] == family) & (rows["method"] == method) & rows["detector_a"]]
            met, same = of["detector_b"], of["verdict"] == VERDICTS[0]
            found.append(
                {
                    "model": ref.model, "tap": ref.tap.name, "depth": ref.tap.relative_depth, "family": family, "method": method,
                    "copy_r": copied.copy_r, "median_r": median_r, "n_detectors": n, "n_again": int((detectors & again).sum()),
                    "n_own": int((of["unit_a"] == of["unit_b"]).sum()), "n_met": int(met.sum()),
                    **_share("met", int(met.sum()), n), "n_same_feature": int(same.sum()), **_share("same", int(same.sum()), n),
                    "expected_same_feature": float(of.loc[met, "power"].sum()), "median_r_natural": of.loc[met, "r_natural"].median(),
                }
            )  # fmt: skip
    return schema.as_table(schema.CEILINGS, pd.DataFrame(found))


def _share(name: str, count: int, n: int) -> dict[str, float]:
    low, high = wilson_interval(count, n)
    return {f"share_{name}": count / n if n else np.nan, f"share_{name}_low": low, f"share_{name}_high": high}


def _median_r(own: Contender, copy: Contender) -> float:
    """Return the median over units that vary in both of their correlation with themselves, on the scoring fold."""
    a, b = own.side.halves, copy.side.halves
    _, i, j = np.intersect1d(a.live, b.live, return_indices=True)
    return float(np.median(paired(a.score[:, i], b.score[:, j]))) if i.size else np.nan
