"""What a run's motifs say, in sentences: equivariance, fields, cases, superposition, branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from universality.base.names import number, short
from universality.circuits.cases import LEAST_CASES, VERDICTS
from universality.correspondence.resampling import wilson_interval
from universality.report.sentences import Finding, Standing, noun_of

if TYPE_CHECKING:
    from universality.runs.run import Run

CHANCE = 0.05


def of_motifs(run: Run) -> Iterator[Finding]:
    """Yield what is said of each family of a run."""
    tables = {name: run.table(name) for name in ("equivariance", "layouts", "cases", "superposition", "branches")}
    for family in dict.fromkeys(run.families["family"]):
        for name, column, say in (
            ("equivariance", "target_family", equivariance_sentence), ("layouts", "target_family", layouts_sentence), ("cases", "family", cases_sentence),
            ("superposition", "source_family", superposition_sentence),
        ):  # fmt: skip
            rows = tables[name][tables[name][column] == family]
            if len(rows):
                yield say(rows, str(family))
        rows = tables["branches"][tables["branches"]["family"] == family]
        if len(rows):
            yield from branch_sentences(rows, str(family))


def _counted(p: pd.Series) -> tuple[int, int, str, Standing]:
    """Return how many p are 0.05 or less, of how many, that in words with its interval, and whether it is more than chance gives."""
    known = p.dropna()
    found = int((known <= CHANCE).sum())
    if not len(known):
        return 0, 0, "none of 0", "none"
    low, high = wilson_interval(found, len(known))
    words = f"{found} of {len(known)} ({100 * found / len(known):.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f} %; chance 5 %)"
    return found, len(known), words, "above" if low > CHANCE else "null"


def equivariance_sentence(rows: pd.DataFrame, family: str) -> Finding:
    """Return how far the weights into a family follow the difference of angles alone.

    Parameters
    ----------
    rows : of the table ``equivariance``, of one family of targets
    """
    own = rows[rows["source_family"] == family]
    some = own if len(own) else rows
    _, _, words, standing = _counted(rows["p_share"])
    return Finding(
        "circuits",
        f"Equivariance of {noun_of(family)}: in {words} pairs of layers and families of sources the difference of preferred angles holds more of the weights' variance than with angles "
        f"exchanged; from {noun_of(family) if len(own) else 'all families'} a share of {number(some['share'].median())} (median; angles exchanged "
        f"{number(some['share_permuted'].median())}, untrained twins {number(some['share_untrained'].median())}).",
        standing if not some["share"].median() <= some["share_untrained"].median() else "mixed" if standing == "above" else standing,
    )  # fmt: skip


def layouts_sentence(rows: pd.DataFrame, family: str) -> Finding:
    """Return in how many fields of a family's units and of the family a group of sources lies on one side.

    Parameters
    ----------
    rows : of the table ``layouts``, of one family of targets
    """
    units, turned = rows[rows["unit"] >= 0], rows[(rows["unit"] < 0) & rows["difference_deg"].notna()]
    _, _, of_units, _ = _counted(units["p_asymmetry"])
    found, _, of_family, standing = _counted(turned["p_asymmetry"])
    firm = int((rows["q_asymmetry"] <= CHANCE).sum())
    weighty = int((units["q_weight"] <= CHANCE).sum())
    return Finding(
        "circuits",
        f"Fields of {noun_of(family)}: sources of one family excite from one side and inhibit from the other, more than sources with labels exchanged, in {of_units} single detectors and families of "
        f"sources, and by difference of preferred angles over all detectors turned onto one another in {of_family} ({firm} at q of 0.05); {weighty} of {len(units)} have a weight outside exchanged "
        "labels at q of 0.05.",
        standing, detail=not found,
    )  # fmt: skip


def cases_sentence(rows: pd.DataFrame, family: str) -> Finding:
    """Return how many detectors of a family are unions over cases.

    Parameters
    ----------
    rows : of the table ``cases``, of one family
    """
    units = rows[rows["case"] == 0]
    counts = units["verdict"].value_counts()
    several = sum(int(counts.get(name, 0)) for name in VERDICTS[2:])
    asked = len(units) - int(counts.get(VERDICTS[0], 0))
    low, high = wilson_interval(several, asked) if asked else (np.nan, np.nan)
    return Finding(
        "circuits",
        f"Cases of {noun_of(family)}: the gradients of {several} of {asked} detectors that were looked at (95 % interval {100 * low:.0f} to {100 * high:.0f} %) fall into clusters, at q of 0.05 against one "
        f"Gaussian of the same covariance; of these {int(counts.get(VERDICTS[3], 0)) + int(counts.get(VERDICTS[4], 0))} have cases that exclude one another, and "
        f"{int(counts.get(VERDICTS[4], 0))} have them carried apart to the unit. {int(counts.get(VERDICTS[0], 0))} more answer at the middle of fewer than {LEAST_CASES} images.",
        "above" if several and low > CHANCE else "null" if asked else "none", detail=not several,
    )  # fmt: skip


def superposition_sentence(rows: pd.DataFrame, family: str) -> Finding:
    """Return on how many units of the next tap a family's outgoing weights fall.

    Parameters
    ----------
    rows : of the table ``superposition``, of one family of sources
    """
    firm = rows[rows["q"] <= CHANCE]
    fewer = int((firm["ratio"] < firm["ratio_random"]).sum())
    return Finding(
        "circuits",
        f"Outgoing weights of {noun_of(family)} have a participation ratio of {number(rows['ratio'].median())} over the units of the next tap (median of {len(rows)} pairs of layers; other units "
        f"{number(rows['ratio_random'].median())}, the same units of untrained twins {number(rows['ratio_untrained'].median())}); at q of 0.05 they fall on fewer units than others do in {fewer}, on more in {len(firm) - fewer}.",
        "mixed" if len(firm) else "null", detail=True,
    )  # fmt: skip


def branch_sentences(rows: pd.DataFrame, family: str) -> Iterator[Finding]:
    """Yield in which branches a family lies more than their size lets expect, and that it does in no other.

    Parameters
    ----------
    rows : of the table ``branches``, of one family
    """
    layers = len(rows[["model", "tap"]].drop_duplicates())
    firm = rows[rows["q"] <= CHANCE]
    for row in firm.to_dict("records"):
        yield Finding(
            "circuits",
            f"{noun_of(family).capitalize()} of {short(row['model'])} at {row['tap']} lie in {row['branch']}: {row['n_detectors']} of {row['n_family']} ({100 * row['share']:.0f} %; of all units "
            f"{100 * row['share_expected']:.0f} %; hypergeometric q {number(row['q'], 3)}).",
            "above",
        )  # fmt: skip
    if firm.empty:
        yield Finding(
            "circuits",
            f"{noun_of(family).capitalize()} lie in no branch more than its size lets expect, in {layers} layers with branches (q of 0.05).",
            "null",
            detail=True,
        )
