"""Findings of a run, in sentences made from its tables: those at their null as well as those above it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from universality.atlas.groups import at_taps, nearest_taps
from universality.base import html
from universality.base.names import HAAR_NAME, number, short
from universality.circuits.pairs import LEAST_SOURCES
from universality.circuits.plan import WeightKind
from universality.correspondence.layer_pairs import of_family
from universality.correspondence.resampling import upper_bound, wilson_interval
from universality.correspondence.verdict import POWER, VERDICTS
from universality.features.definition import STATED_DEPTH, best_taps, stated_taps
from universality.features.families import FAMILIES
from universality.features.rules import CLIPPED_TIES, within
from universality.report.interventions import Said, ablations_said, patches_said, roles_said, transplants_said
from universality.runs.drawn import drawn_taps, judged
from universality.runs.run import Run
from universality.similarity.matching import COMPLETE, HOW

Standing = Literal["above", "null", "mixed", "none"]
STANDINGS: dict[Standing, str] = {
    "above": "above its null",
    "mixed": "above some nulls, not all",
    "null": "at its null",
    "none": "",
}
"""What a reader is told of each standing."""
NEAR_DEG = 30.0
"""Preferred angles that agree within so much are counted in a sentence, degrees."""
NETWORKS = "networks"
HOW_SOURCES = {"match": "sources matched one to one", "angle": "sources by family and relative angle"}
_STATES = {"untrained twins": "value_untrained", HAAR_NAME: "value_haar", "shuffled stimuli": "value_shuffled"}


@dataclass(frozen=True)
class Finding:
    """One statement of a report.

    Attributes
    ----------
    topic : what it is about: detectors, matches, similarity, circuits, interventions or ledger
    text : the sentence, each number beside its null
    standing : whether the number is above its null, at it, above some and not others, or has none
    detail : whether it belongs to a list that a reader opens rather than to the summary
    """

    topic: str
    text: str
    standing: Standing = "none"
    detail: bool = False


class Findings(list[Finding]):
    """Findings that a notebook shows as a list by topic, details behind a line that opens them."""

    def _repr_html_(self) -> str:
        topics = dict.fromkeys(finding.topic for finding in self)
        return "".join(self._topic([finding for finding in self if finding.topic == topic]) for topic in topics)

    @staticmethod
    def _topic(found: list[Finding]) -> str:
        said, details = ([_marked(f) for f in found if f.detail is detail] for detail in (False, True))
        opened = html.folded(f"{len(details)} more", html.items(details)) if details else ""
        return html.heading(found[0].topic) + html.items(said) + opened


def _marked(finding: Finding) -> str:
    word = STANDINGS[finding.standing]
    return f"{finding.text} [{word}]" if word else finding.text


def findings(run: Run) -> Findings:
    """Return the run's findings, the summary of each topic before its details; tables that it lacks are not spoken of."""
    return Findings([found for needs, say in _SAID if run.has(*needs) for found in say(run)])


def _of_detectors(run: Run) -> Iterator[Finding]:
    """Yield what is said of each family of detectors."""
    classes = _classes(run)
    for family in dict.fromkeys(run.families["family"]):
        of_family = run.families[run.families["family"] == family]
        for name in dict.fromkeys(classes.values()):
            rows = of_family[of_family["model"].map(classes) == name]
            if not rows.empty:
                yield detectors_summary(rows, name)
                yield basis_summary(stated_taps(rows), name)
        spoken = pd.concat([stated_taps(of_family), best_taps(of_family)]).drop_duplicates(["model", "tap"])
        yield from (_detectors_detail(row) for _, row in spoken.sort_values(["model", "depth"]).iterrows())


def _classes(run: Run) -> dict[str, str]:
    """Return what networks of each class are called, by model: by what they were trained on, where the job's networks differ in it.

    Shares of networks that were trained on other things are not averaged.
    """
    from universality.models.catalogue import training_sets

    trained_on = training_sets(run.families["model"] if run.has("families") else [entry.id for entry in run.job.models])
    if len(set(trained_on.values())) == 1:
        return dict.fromkeys(trained_on, NETWORKS)
    return {model: f"{NETWORKS} trained on {name}" for model, name in trained_on.items()}


def _pairs_of_classes(rows: pd.DataFrame, classes: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of a table of pairs by the classes of their networks, with what such pairs are called."""
    of = [
        (classes.get(a, NETWORKS), classes.get(b, NETWORKS))
        for a, b in zip(rows["model_a"], rows["model_b"], strict=True)
    ]
    names = [a if a == b else f"{NETWORKS} trained on different things" for a, b in of]
    for name in dict.fromkeys(names):
        yield name, rows[[each == name for each in names]]


def _of_matches(run: Run) -> Iterator[Finding]:
    """Yield what is said of matched units: of those that the job's method matched (`Job.matched_by`)."""
    if run.similarity.empty:
        yield Finding("matches", "No two networks were compared: the job's list of pairs is empty.")
        return
    families, method = list(dict.fromkeys(run.families["family"])), run.job.matched_by()
    matched = run.correspondence[run.correspondence["method"] == method]
    near = nearest_taps(judged(run.similarity, run.families))
    classes = _classes(run)
    for family, (name, at) in itertools.product(families, list(_pairs_of_classes(near, classes))):
        yield from matches_summary(matched[matched["family"] == family], at, family, method, name)
    for a, b in run.job.drawn():
        of_pair = matched[(matched["model_a"] == a) & (matched["model_b"] == b)]
        for family in families:
            taps = drawn_taps(run.similarity, run.families, family, a, b)
            yield matches_detail(of_pair[of_pair["family"] == family], run.units, family, (a, b), taps, method)


def _of_ceilings(run: Run) -> Iterator[Finding]:
    """Yield what networks share with noisy copies of themselves."""
    rows, classes = run.table("ceilings"), _classes(run)
    rows = rows[rows["method"] == run.job.matched_by()]
    for (family, _), of in rows.groupby(["family", "copy_r"], sort=False):
        of_class = of["model"].map(lambda model: classes.get(model, NETWORKS))
        for name in dict.fromkeys(of_class):
            yield ceiling(of[of_class == name], str(family), float(of["copy_r"].iloc[0]), name)


def _of_similarity(run: Run) -> Iterator[Finding]:
    return _similarity(run.similarity, _classes(run))


def _of_nulls(run: Run) -> Iterator[Finding]:
    """Yield how often the verdict was given where nothing corresponds."""
    if run.job.compared():
        yield null_verdicts(run.correspondence, run.correspondence_nulls, run.job.matched_by())


def _of_pairs(run: Run) -> Iterator[Finding]:
    return disagreements(run.pairs, run.job.matched_by())


def noun_of(family: str) -> str:
    """Return what units of a family are called; a family that this version does not know is called by its name."""
    return FAMILIES[family].noun if family in FAMILIES else f"{family.replace('_', ' ')} units"


def detectors_summary(families: pd.DataFrame, networks: str = NETWORKS) -> Finding:
    """Return in how many networks one family is there at the stated depth, from which share to which, beside what untrained twins show.

    The tap with the most of them stands beside, with an interval that corrects for the choice. `networks` is what those of the table are called.
    """
    stated = stated_taps(families).sort_values("share", kind="stable")
    noun, held = noun_of(str(stated["family"].iloc[0])), stated[stated["n_detectors"] > 0]
    highest = families.iloc[int(families["share_untrained"].argmax())]
    units = int((families["n_units"] * families["n_twins"]).sum())
    twins = (
        f"in untrained twins {_share(highest['share_untrained'])} at most (mean over seeds, {_place(highest)})"
        if highest["share_untrained"] > 0
        else f"in untrained twins none at any tap (0 of {units} units, so below {_share(upper_bound(0, units))} with 95 % confidence)"
    )
    where = f"at the tap nearest to {_share(STATED_DEPTH)} of their depth"
    if held.empty:
        return Finding(
            "detectors",
            f"{noun.capitalize()}: none in any of {len(stated)} {networks} {where}{_most(families)}; {twins}.",
            "null",
        )
    low, high = held.iloc[0], held.iloc[-1]
    span = f"{_share_interval(low)} in {_place(low)}" + (
        f" to {_share_interval(high)} in {_place(high)}" if len(held) > 1 else ""
    )
    text = f"{noun.capitalize()} are there in {len(held)} of {len(stated)} {networks} {where}: {span}{_strict(held)}; {twins}{_most(families)}."
    above = held["share_low"].min() > families["share_untrained"].max()
    return Finding("detectors", text, "above" if above else "mixed")


def _strict(rows: pd.DataFrame) -> str:
    strict, clipped, found = (int(rows[name].sum()) for name in ("n_strict", "n_clipped", "n_detectors"))
    family = FAMILIES.get(str(rows["family"].iloc[0]))
    said = f", of these {strict} of {found} of the strict level" if family and family.rule.strict else ""
    return said + (
        f", {clipped} clipped ({CLIPPED_TIES} images or more at exactly the largest value that they hand on)"
        if clipped
        else ""
    )


def _most(families: pd.DataFrame) -> str:
    """Return what the tap with the most detectors holds, of the network where that is most, with an interval for the largest of all its taps."""
    taps = families.groupby("model")["tap"].nunique()
    row = best_taps(families).sort_values("share", kind="stable").iloc[-1]
    count = int(taps[row["model"]])
    if (taps == 1).all() or not row["n_detectors"]:
        return ""
    low, high = wilson_interval(int(row["n_detectors"]), int(row["n_units"]), float(ndtri(1 - 0.025 / count)))
    return (
        f". At the tap with the most of them it is up to {_share(row['share'])} (95 % interval for the largest of {count} taps {_share(low)} to "
        f"{_share(high)}) in {_place(row)}"
    )


def basis_summary(best: pd.DataFrame, networks: str = NETWORKS) -> Finding:
    """Return whether units pass more often than random mixtures of the same layers' units do."""
    columns = ["share", "share_haar", "share_haar_standardised", "share_strong", "share_strong_haar"]
    share, raw, standardised, strong, strong_haar = best[columns].mean()
    haar = max(raw, standardised)
    # Of few detectors a share twice that of the bases is no evidence: the interval counts.
    found, units = int(best["n_detectors"].sum()), int(best["n_units"].sum())
    privileged = haar < 0.5 * share and wilson_interval(found, units)[0] > haar
    text = (
        f"{noun_of(str(best['family'].iloc[0])).capitalize()}: in a {HAAR_NAME} of the same layers, whose units are mixtures, "
        f"{_share(raw)} pass the rule, in one of their standardised units {_share(standardised)}, of the units themselves {_share(share)} (mean over {networks} at those taps); with a peak above "
        f"2 sigma it is {_share(strong_haar)} against {_share(strong)}. "
    ) + (
        "So the units stand out from random directions of their layer, of which less than half as many pass."
        if privileged
        else "So the share alone does not show that single units, rather than directions of the layer, are the features."
    )
    return Finding("detectors", text, "above" if privileged else "null")


def _detectors_detail(row: pd.Series) -> Finding:
    text = (
        f"{_place(row)}: {row['n_detectors']} of {row['n_units']} units are {noun_of(row['family'])} by the {row['rule']} rule ({_share(row['share'])}, "
        f"95 % interval {_share(row['share_low'])} to {_share(row['share_high'])}), with a largest gap of {number(row['largest_gap_deg'], 0)} degrees in {_angle(row['family'])}; untrained twins "
        f"{_share(row['share_untrained'])}, as sparse as the trained units {_share(row['share_sparse'])}, {HAAR_NAME} {_share(row['share_haar'])} (of "
        f"standardised units {_share(row['share_haar_standardised'])}), shuffled angles {_share(row['share_shuffled'])}. "
        f"The naive rule would have passed {_share(row['share_naive'])} of its units and "
        f"{_share(row['share_naive_untrained'])} of the twins', {_share(row['share_naive_sparse'])} of these made as sparse."
    )
    return Finding("detectors", text, "above" if row["share_low"] > row["share_untrained"] else "null", detail=True)


def matches_summary(
    correspondence: pd.DataFrame, taps: pd.DataFrame, family: str, method: str, networks: str = NETWORKS
) -> Iterator[Finding]:
    """Yield, over all pairs of models, how alike matched detectors are beside their nulls, and how many pass each verdict."""
    rows = at_taps(correspondence[correspondence["method"] == method], taps)
    both = rows[rows["detector_a"] & rows["detector_b"]]
    pairs = len(taps[["model_a", "model_b"]].drop_duplicates())
    where = (
        f"over {pairs} pair{'' if pairs == 1 else 's'} of {networks}, each tap of the first with the tap of the "
        "second nearest in depth"
    )
    if both.empty:
        yield Finding("matches", f"No two {noun_of(family)} were matched {HOW[method]}, {where}.", "null")
        return
    median = both[["r_natural", "r_natural_haar", "r_natural_untrained"]].median()
    from_a = rows[rows["detector_a"]]
    chance = from_a["family_rate_b"].mean()
    share = from_a["detector_b"].mean()
    floor = max(median["r_natural_haar"], median["r_natural_untrained"])
    yield Finding(
        "matches",
        f"Of {len(from_a)} {noun_of(family)} matched {HOW[method]} among all units, {len(both)} met one of the same kind "
        f"({_share(share)}, chance {_share(chance)}), {where}. Their median held-out r is {number(median['r_natural'])} (best partner in a "
        f"{HAAR_NAME} {number(median['r_natural_haar'])}, in an untrained twin {number(median['r_natural_untrained'])}).",
        _standing(
            [median["r_natural"] > floor, wilson_interval(int(from_a["detector_b"].sum()), len(from_a))[0] > chance]
        ),
    )
    could = rows[of_family(rows)]
    if not could.empty:
        yield _verdicts(could, family, networks)


def _verdicts(judged: pd.DataFrame, family: str, networks: str = NETWORKS) -> Finding:
    """Return how many pairs that can be given the verdict get it, and how many would if every one were true."""
    counts, total = judged["verdict"].value_counts(), len(judged)
    named = [*VERDICTS, *(name for name in counts.index if name not in VERDICTS)]
    same = int(counts.get("same_feature", 0))
    low, high = wilson_interval(same, total)
    others = ", ".join(f"{counts.get(name, 0)} {name}" for name in named if name != "same_feature" and name in counts)
    text = (
        f"Of {total} pair{'' if total == 1 else 's'} of {noun_of(family)} (one a detector, the other at least a near miss) in {networks}, {same} earn{'s' if same == 1 else ''} "
        f"the verdict same_feature ({_share(same / total)}, 95 % interval {_share(low)} to {_share(high)} if pairs were independent): among other things, more "
        f"alike than the best partner in a {HAAR_NAME}, with the whole interval. Were each of them a true pair of its correlation, {judged['power'].sum():.1f} "
        f"would be above random bases with these images{f'. The others: {others}' if others else ''}. Half of the pairs could be confirmed from r "
        f"{number(judged['r_confirmable'].median())} on with a power of {POWER:g}."
    )
    return Finding("matches", text, "above" if same == total else "mixed" if same else "null")


def matches_detail(
    correspondence: pd.DataFrame,
    units: pd.DataFrame,
    family: str,
    models: tuple[str, str],
    taps: tuple[str, str],
    method: str,
) -> Finding:
    """Return a finding about the detectors of one tap that were matched with one tap of another model."""
    noun, (a, b) = noun_of(family), (short(name) for name in models)
    rows = correspondence[(correspondence["method"] == method) & correspondence["detector_a"]]
    rows = rows[(rows["tap_a"] == taps[0]) & (rows["tap_b"] == taps[1])]
    where = f"{a} {taps[0]} to {b} {taps[1]}"
    if rows.empty:
        return Finding("matches", f"{where}: none of the {noun} was matched {HOW[method]}.", "none", detail=True)
    both, chance = rows[rows["detector_b"]], rows["family_rate_b"].iloc[0]
    low, high = wilson_interval(len(both), len(rows))
    said = (
        f"{where}, {HOW[method]} among all live units: of {len(rows)} {noun} that were matched, {len(both)} ({_share(len(both) / len(rows))}, 95 % interval "
        f"{_share(low)} to {_share(high)}) met one, where chance is {_share(chance)}"
    )
    if both.empty:
        return Finding("matches", said + ".", "null", detail=True)
    counts = rows["verdict"].value_counts()
    near = (both["delta_theta_deg"].abs() <= NEAR_DEG).mean()
    text = (
        f"{said}. For these pairs the median held-out r is {_beside(both, 'r_natural')}, the median unshifted correlation of their "
        f"tuning {_beside(both, 'r_tuning')}, and {_share(near)} differ by at most {NEAR_DEG:.0f} degrees in preferred {_angle(family)} "
        f"(chance {_share(chance_within(units, family, models, taps, NEAR_DEG))}). Verdicts of all {len(rows)}: "
        f"{', '.join(f'{count} {name}' for name, count in counts.items())}."
    )
    medians = both[["r_natural", "r_natural_haar", "r_natural_untrained"]].median()
    standing = _standing([low > chance, medians["r_natural"] > medians.iloc[1:].max()])
    return Finding("matches", text, standing, detail=True)


def chance_within(
    units: pd.DataFrame, family: str, models: tuple[str, str], taps: tuple[str, str], tolerance_deg: float
) -> float:
    """Return the share of all pairs of detectors of two layers whose preferred orientations agree: chance, 0 to 1."""
    found = units[units["detector"] & (units["seed"] == -1) & (units["family"] == family)]
    a, b = (
        found.loc[(found["model"] == model) & (found["tap"] == tap), "preferred_deg"].to_numpy()
        for model, tap in zip(models, taps, strict=True)
    )
    return (
        float(within(a[:, None], b[None, :], tolerance_deg, _period(family)).mean())
        if len(a) and len(b)
        else float("nan")
    )


def _angle(family: str) -> str:
    return FAMILIES[family].angle if family in FAMILIES else "orientation"


def _period(family: str) -> float:
    return FAMILIES[family].period_deg if family in FAMILIES else 360.0


def null_verdicts(correspondence: pd.DataFrame, nulls: pd.DataFrame, method: str) -> Finding:
    """Return how often `same_feature` is said where nothing should correspond, beside how often it is said of the networks."""

    def counted(rows: pd.DataFrame) -> tuple[int, int]:
        # Others could not have passed, whatever their correlation.
        rows = rows[(rows["method"] == method) & of_family(rows)]
        return int((rows["verdict"] == "same_feature").sum()), len(rows)

    of_twins = nulls["null"] == "untrained"
    trained, twins, turned = counted(correspondence), counted(nulls[of_twins]), counted(nulls[~of_twins])
    nothing = "no pair could have passed, so the verdict was not put to the test there"

    def said(count: tuple[int, int]) -> str:
        if not count[1]:
            return nothing
        return f"{count[0]} of {count[1]}, which is below {_share(upper_bound(*count))} with 95 % confidence"

    text = (
        f"Verdict same_feature over all pairs of networks and taps, matched {HOW[method]}, of the matched pairs that could get it (a detector with a detector "
        f"or a near miss): {f'{trained[0]} of {trained[1]}' if trained[1] else nothing}; with one layer in a {HAAR_NAME}: {said(turned)}; between untrained twins: "
        f"{said(twins)}."
    )

    # A null of which nothing could be asked is no null that was passed; few cases are told apart by their intervals only.
    low = wilson_interval(*trained)[0] if trained[1] else 0.0
    above = [low > wilson_interval(*null)[1] for null in (twins, turned) if null[1]]
    return Finding("matches", text, _standing(above) if above and trained[1] else "none")


def ceiling(rows: pd.DataFrame, family: str, copy_r: float, name: str = NETWORKS) -> Finding:
    """Return which share of its detectors a network finds again in its own noisy copy, over networks of a class (`name`) at the taps with the most of them."""
    best = rows.sort_values("n_detectors", ascending=False, kind="stable").drop_duplicates("model")
    n, again, met, same = (int(best[count].sum()) for count in ("n_detectors", "n_again", "n_met", "n_same_feature"))
    if not n:
        return Finding(
            "matches",
            f"Ceilings: none of {len(best)} {name} holds {noun_of(family)} to be found again in its noisy copy.",
            "none",
        )
    text = (
        f"Ceilings, {name} ({', '.join(map(short, best['model']))}): in noisy copies of themselves (units at the recorded taps correlate with their originals by {copy_r:g}; here by a median of "
        f"{number(best['median_r'].median())}), of {n} {noun_of(family)} {again} are detectors again, {met} meet one ({_share(met / n)}), and {same} earn same_feature "
        f"({_share(same / n)}). So much is found of a network's detectors where another one is known to hold the same, at that likeness: what two networks share stands beside it."
    )
    return Finding("matches", text, "none")


def disagreements(pairs: pd.DataFrame, method: str) -> Iterator[Finding]:
    """Yield in how many pairs of layers similarity and matching say the opposite, with the case of the best layers.

    Nothing is yielded for a method that leaves units without a partner: the chance that the table states is that of a matching
    of all units, and detectors without a partner count as not met, so such a method seems to fall below chance.
    """
    if method not in COMPLETE:
        return
    rows = pairs[pairs["method"] == method]
    differ = rows[rows["disagreement"] != ""]
    if differ.empty:
        return
    shown = differ.sort_values(["best", "score"], ascending=False, kind="stable").iloc[0]
    yield Finding(
        "similarity",
        f"In {len(differ)} of {len(rows)} cases (pair of taps and family) similarity of layers and matching of detectors disagree; for "
        f"instance {short(shown['model_a'])} {shown['tap_a']} and {short(shown['model_b'])} {shown['tap_b']}, "
        f"{noun_of(shown['family'])}: {shown['disagreement']}.",
    )


def _similarity(similarity: pd.DataFrame, classes: Mapping[str, str]) -> Iterator[Finding]:
    itself = similarity["model_a"] == similarity["model_b"]
    for model, rows in similarity[itself].groupby("model_a", sort=False):
        yield from _with_itself(rows, str(model))
    near = at_taps(similarity[~itself], nearest_taps(similarity[~itself]))
    for measure, of_measure in near.groupby("measure", sort=False):
        for name, rows in _pairs_of_classes(of_measure, classes):
            yield similarity_summary(rows, str(measure), name)
    for (a, b), rows in near.groupby(["model_a", "model_b"], sort=False):
        yield _similarity_detail(rows, str(a), str(b))


def _with_itself(rows: pd.DataFrame, model: str) -> Iterator[Finding]:
    """Yield, for each measure, how alike neighbouring layers of one network are, beside its untrained twin and the nulls."""
    taps = rows.drop_duplicates("tap_a").sort_values("depth_a", kind="stable")["tap_a"].tolist()
    following = pd.DataFrame({"tap_a": taps[:-1], "tap_b": taps[1:]})
    near = rows.merge(following, on=["tap_a", "tap_b"])
    for measure, of_measure in near.groupby("measure", sort=False):
        yield Finding(
            "similarity",
            f"{short(model)} with itself, {measure}: layers that follow one another {number(of_measure['value'].mean())} "
            f"({_states(of_measure)}); means over {len(of_measure)} pairs of neighbours.",
        )


def similarity_summary(rows: pd.DataFrame, measure: str, networks: str = NETWORKS) -> Finding:
    """Return in how many pairs of models the trained layers are more alike than their untrained twins, by one measure."""
    means = rows.groupby(["model_a", "model_b"], sort=False)[["value", *_STATES.values()]].mean()
    sign = -1 if (rows["direction"] == "distance").all() else 1.0
    defined = means.dropna(subset=["value", "value_untrained"])
    if defined.empty:
        return Finding("similarity", f"{measure}: not defined for any pair of networks and of their twins.", "none")
    more = int((sign * (defined["value"] - defined["value_untrained"]) > 0).sum())
    overall = defined.mean()
    trained_more = sign * (overall["value"] - overall["value_untrained"]) > 0
    text = (
        f"{measure} finds layers of the networks more alike than those of their untrained twins in {more} of {len(defined)} pairs of {networks}: "
        f"{number(overall['value'])} ({_states(defined)}); means over taps of nearest depth."
    )
    standing: Standing = "above" if more == len(defined) else "mixed" if trained_more else "null"
    return Finding("similarity", text, standing)


def _states(rows: pd.DataFrame) -> str:
    """Return the means of the nulls; a measure that gives the same in every basis says so instead of a number."""
    mean = rows[["value", *_STATES.values()]].mean()
    same = bool(np.isclose(rows["value"], rows["value_haar"], rtol=0, atol=1e-6).all())
    return ", ".join(
        f"{name} {'the same by construction' if same and column == 'value_haar' else number(mean[column])}"
        for name, column in _STATES.items()
    )


def _similarity_detail(rows: pd.DataFrame, a: str, b: str) -> Finding:
    parts = []
    for measure, of_measure in rows.groupby("measure", sort=False):
        parts.append(f"{measure} {number(of_measure['value'].mean())} ({_states(of_measure)})")
    taps = rows[["tap_a", "tap_b"]].drop_duplicates()
    listed = ", ".join(f"{x} and {y}" for x, y in taps.head(3).itertuples(index=False))
    more = f" and {len(taps) - 3} more" if len(taps) > 3 else ""
    text = f"{short(a)} and {short(b)}, mean over taps of nearest depth ({listed}{more}): {'; '.join(parts)}."
    return Finding("similarity", text, "none", detail=True)


def _standing(above: list[bool]) -> Standing:
    return "above" if all(above) else "mixed" if any(above) else "null"


def _beside(rows: pd.DataFrame, column: str) -> str:
    value, haar, untrained = rows[[column, f"{column}_haar", f"{column}_untrained"]].median()
    return f"{number(value)} ({HAAR_NAME} {number(haar)}, untrained twin {number(untrained)})"


def _place(row: pd.Series) -> str:
    return f"{short(row['model'])} at {row['tap']}"


def _share_interval(row: pd.Series) -> str:
    return f"{_share(row['share'])} (95 % interval {_share(row['share_low'])} to {_share(row['share_high'])})"


def _share(value: float) -> str:
    """Return a share in percent, with one digit behind the point below 10 %, and two that count where that one would be 0."""
    if not np.isfinite(value):
        return "not defined"
    digits = 1 if abs(value) < 0.0995 else 0
    if 0 < abs(value) < 0.0005:
        digits = 1 - int(np.floor(np.log10(100 * abs(value))))
    return f"{number(100 * value, digits)} %"


def _of_circuits(run: Run) -> Iterator[Finding]:
    """Yield whether matched units have the same incoming weights, and whether families are wired alike."""
    classes = _classes(run)
    table = run.table("circuits")
    matched = run.correspondence
    matched = matched[(matched["method"] == run.job.matched_by()) & (matched["verdict"] == "same_feature")]
    for family in dict.fromkeys(run.families["family"]):
        of, could = table[table["family"] == family], matched[matched["family"] == family]
        if of.empty:
            yield Finding(
                "circuits",
                f"{noun_of(str(family)).capitalize()}: no matched pair of units has sources to compare: a network needs a tap of the job before the units' own, "
                f"with {LEAST_SOURCES} units or more that are found in the other network.",
            )
        for name, rows in _pairs_of_classes(of, classes):
            pairs = could.merge(rows[["model_a", "model_b"]].drop_duplicates())
            yield from circuit_sentences(rows, len(pairs), str(family), name, run.job.circuits.weights)
    if run.has("circuits_untrained"):
        yield from untrained_sentences(run.table("circuits_untrained"))
    wired = run.table("profile_pairs")
    for family, rows in wired.groupby("target_family", sort=False):
        for name, some in _pairs_of_classes(rows, classes):
            yield profiles_sentence(some, str(family), name)


def circuit_sentences(
    rows: pd.DataFrame, matched: int, family: str, networks: str = NETWORKS, weights: WeightKind = "linear"
) -> Iterator[Finding]:
    """Yield, for each earlier tap and each way of setting sources side by side, how alike the incoming weights of one feature are in two networks.

    Parameters
    ----------
    rows : of the table ``circuits``, of one family
    matched : pairs of units of these networks that are the same feature by their responses
    weights : what stands for weights
    """
    what = "incoming weights" if weights == "linear" else "gradients (means over natural images, in place of weights)"
    same = rows[rows["verdict_response"] == "same_feature"]
    if same.empty:
        yield Finding(
            "circuits", f"{noun_of(family).capitalize()}: no pair of {networks} that is the same feature by its responses has sources to compare ({matched} such pairs).", "none"
        )  # fmt: skip
        return
    for (sources, back), of in same.groupby(["sources", "back"], sort=False):
        low, high = _mean_interval(of)
        means = {name: of[f"s_w_{name}"].mean() for name in ("permuted", "haar", "untrained", "unmatched", "readout")}
        of_verdict = of["verdict"].value_counts()
        found, other = (int(of_verdict.get(name, 0)) for name in ("same_circuit", "same_response_other_circuit"))
        share = wilson_interval(found, len(of))
        how = HOW_SOURCES[str(sources)]
        could = of["power"].mean()
        known = [value for value in means.values() if np.isfinite(value)]
        over = (
            f"95 % interval over pairs of networks {number(low)} to {number(high)}"
            if np.isfinite(low)
            else "one pair of networks, so no interval over networks"
        )
        yield Finding(
            "circuits",
            f"{noun_of(family).capitalize()} that are the same feature by their responses have {what} alike by s_w {number(of['s_w'].mean())} on average ({over}) within nine squares, which hold {_share(of['share_within'].mean())} of the weights' power, from {'the tap' if back == 1 else f'{back} taps'} before, {how} ({len(of)} of {matched} such pairs of units of {networks} have sources there); exchanged sources "
            f"{number(means['permuted'])}, best direction of a {HAAR_NAME} {number(means['haar'])}, best unit of an untrained twin {number(means['untrained'])}, units that are no match "
            f"{number(means['unmatched'])}, a ridge that reads the response {number(means['readout'])}; ceiling {number(of['s_w_ceiling'].mean())}. Verdicts: {found} same_circuit "
            f"({_share(found / len(of))}, 95 % interval {_share(share[0])} to {_share(share[1])}), {other} same_response_other_circuit, {len(of) - found - other} undecided; if every true s_w were the ceiling, {_share(could)} would be same_circuit. One pair shows an s_w of "
            f"{number(of['s_w_detectable'].median())} with a power of 80 %.",
            _standing([low > value for value in known]) if np.isfinite(low) else "none",
            detail=back != 1,
        )  # fmt: skip


def untrained_sentences(rows: pd.DataFrame) -> Iterator[Finding]:
    """Yield how often units of untrained twins are called the same circuit, for each way of setting sources side by side.

    Parameters
    ----------
    rows : of the table ``circuits_untrained``
    """
    for sources, of in rows.groupby("sources", sort=False):
        same = int(of["same_circuit"].sum())
        what = (
            "pairs of units matched by their responses"
            if sources == "match"
            else "pairs of units that are matched detectors in the trained networks"
        )
        yield Finding(
            "circuits",
            f"Untrained twins compared as if they were networks of their own ({HOW_SOURCES[str(sources)]}): {same} of {len(of)} {what} are same_circuit ({_share(same / len(of))}; below "
            f"{_share(upper_bound(same, len(of)))} with 95 % confidence), s_w {number(of['s_w'].mean())} on average.",
        )


def _mean_interval(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the 95 % interval of a mean s_w: pairs of networks are drawn anew, for pairs of units share them."""
    of_networks = rows.groupby(["model_a", "model_b"])["s_w"].agg(["sum", "count"]).to_numpy()
    if len(of_networks) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).multinomial(
        len(of_networks), np.full(len(of_networks), 1 / len(of_networks)), size=2000
    )
    sums, counts = (drawn @ of_networks).T
    low, high = np.quantile(sums[counts > 0] / counts[counts > 0], [0.025, 0.975])
    return float(low), float(high)


def profiles_sentence(rows: pd.DataFrame, family: str, networks: str = NETWORKS) -> Finding:
    """Return how alike a family's wiring by relative angle is in pairs of networks.

    Parameters
    ----------
    rows : of the table ``profile_pairs``, of one family of targets
    """
    above = int((rows["p"] <= 0.05).sum())
    low, high = wilson_interval(above, len(rows))
    beside = np.nanmax([rows["r_permuted"].median(), rows["r_untrained"].median()])
    return Finding(
        "circuits",
        f"Wiring of {noun_of(family)} by relative angle: the profiles of {len(rows)} pairs of layers of {networks} correlate by {number(rows['r'].median())} (median; angles exchanged "
        f"{number(rows['r_permuted'].median())}, untrained twins {number(rows['r_untrained'].median())}), {above} of them above 95 % of exchanges ({_share(above / len(rows))}, 95 % interval "
        f"{_share(low)} to {_share(high)}; chance 5 %).",
        _standing([low > 0.05, rows["r"].median() > beside]),
    )


def _of_motifs(run: Run) -> Iterator[Finding]:
    from universality.report.motif_sentences import of_motifs  # it makes findings, too

    return of_motifs(run)


def _of_ledger(run: Run) -> Iterator[Finding]:
    """Yield what became of the claims that were held against the run: how many held, and every one that did not."""
    rows = run.table("ledger")
    counts = rows["verdict"].value_counts()
    foreseen = int((rows["before_run"] & rows["known"].eq("") & rows["verdict"].ne("undecided")).sum())
    decided = len(rows) - int(counts.get("undecided", 0))
    yield Finding(
        "ledger",
        f"Claims of the ledger: {counts.get('held', 0)} held, {counts.get('failed', 0)} failed, {counts.get('undecided', 0)} are undecided ({rows['claim'].nunique()} claims). "
        f"Of the {decided} that were decided {foreseen} were registered before the run by somebody who knew no outcome.",
    )
    for row in rows[rows["verdict"].eq("failed")].to_dict("records"):
        of = f" ({row['of']})" if row["of"] else ""
        span = "" if np.isnan(row["low"]) else f", {number(row['low'])} to {number(row['high'])}"
        null = "" if np.isnan(row["null"]) else f"; null {number(row['null'])}"
        yield Finding(
            "ledger", f"Failed{of}: {row['statement']} Measured {number(row['measured'])}{span}{null}.", "null"
        )
    for row in rows[rows["verdict"].eq("undecided")].to_dict("records"):
        yield Finding(
            "ledger",
            f"Undecided{' (' + row['of'] + ')' if row['of'] else ''}: {row['statement']} ({row['reason']})",
            detail=True,
        )


def _of_interventions(run: Run) -> Iterator[Finding]:
    """Yield what removing, exchanging and replacing units did."""
    speakers: tuple[tuple[str, Callable[[pd.DataFrame], Iterable[Said]]], ...] = (
        ("ablations", ablations_said), ("patches", patches_said), ("transplants", lambda table: transplants_said(table, NETWORKS)),
        ("circuit_and_role", roles_said),
    )  # fmt: skip
    for name, said in speakers:
        if run.has(name):
            for text, above in said(run.table(name)):
                yield Finding("interventions", text, _standing(above) if above else "none")


def _of_dictionaries(run: Run) -> Iterator[Finding]:
    """Yield how well dictionaries describe layers, beside random directions, and how many of their directions another seed finds again."""
    table = run.table("dictionaries")
    trained, twins = table[table["seed"] == -1], table[table["seed"] != -1]
    of = {
        name: number(trained[name].mean())
        for name in (
            "r2",
            "r2_frozen",
            "r2_haar",
            "l0",
            "stability",
            "stability_frozen",
            "interference",
            "interference_frozen",
        )
    }
    stable = "" if trained["stability"].isna().all() else (
        f" Directions of two seeds, paired one to one, have a mean cosine of {of['stability']} (random ones {of['stability_frozen']})."
    )  # fmt: skip
    yield Finding(
        "dictionaries",
        f"Dictionaries ({run.job.basis}) of {len(trained)} layers describe {of['r2']} of the variance of held-out images (R2) with {of['l0']} of "
        f"{number(trained['n_directions'].mean(), 0)} directions at a time; random directions whose description is learnt {of['r2_frozen']}, random orthonormal ones {of['r2_haar']}; "
        f"untrained twins {number(twins['r2'].mean())}.{stable} Two directions overlap by {of['interference']} (mean squared cosine; random ones {of['interference_frozen']}).",
        _standing([bool((trained["r2"] > trained[["r2_frozen", "r2_haar"]].max(axis=1)).all())]),
    )


_SAID: tuple[tuple[tuple[str, ...], Callable[[Run], Iterable[Finding]]], ...] = (
    (("dictionaries",), _of_dictionaries),
    (("families",), _of_detectors),
    (("families", "units", "similarity", "correspondence"), _of_matches),
    (("ceilings",), _of_ceilings),
    (("similarity",), _of_similarity),
    (("correspondence", "correspondence_nulls"), _of_nulls),
    (("pairs",), _of_pairs),
    (("families", "correspondence", "circuits", "profile_pairs"), _of_circuits),
    (("families", "equivariance", "layouts", "cases", "superposition", "branches"), _of_motifs),
    ((), _of_interventions),
    (("ledger",), _of_ledger),
)
"""Who speaks of which tables, in the order of the report."""
