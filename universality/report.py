"""Tables and figures of a run as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from universality.detectors import FAMILIES, best_taps, within
from universality.evidence import VERDICTS
from universality.figures import short
from universality.origin import KEY, as_text
from universality.runs import Run
from universality.stimuli import POLICIES

_MOST_ROWS = 40


def findings(run: Run) -> list[str]:
    """Return the run's findings in sentences, each number beside its nulls; what failed is said as plainly."""
    families, correspondence, similarity = run.families, run.correspondence, run.similarity
    best = best_taps(families)
    said = [_family_sentence(row) for _, row in best.iterrows()]
    said += [_basis_sentence(of_family) for _, of_family in best.groupby("family")]
    drawn = run.job.drawn()
    for a, b in drawn:
        of_pair = correspondence[(correspondence["model_a"] == a) & (correspondence["model_b"] == b)]
        for family in dict.fromkeys(families["family"]):
            said.append(_match_sentence(a, b, family, of_pair[of_pair["family"] == family], run))
        said.append(_similarity_sentence(a, b, similarity[(similarity["model_a"] == a) & (similarity["model_b"] == b)]))
    compared = similarity[["model_a", "model_b"]].drop_duplicates()
    if len(compared) > len(drawn):
        said.append(_overview(correspondence))
    return [sentence for sentence in said if sentence]


def _overview(correspondence: pd.DataFrame) -> str:
    """Return all pairs of models in one sentence per family."""
    both = correspondence[correspondence["detector_a"] & correspondence["detector_b"]]
    both = both[both["method"] == "hungarian"]
    parts = []
    for family, rows in both.groupby("family", sort=False):
        medians = rows[["r_natural", "r_natural_haar", "r_natural_untrained"]].median()
        parts.append(
            f"{len(rows)} matched pairs of {FAMILIES[str(family)].noun} with a median held-out r of {medians['r_natural']:.2f} (best "
            f"partner in a rotated basis {medians['r_natural_haar']:.2f}, untrained twin {medians['r_natural_untrained']:.2f})"
        )
    pairs = correspondence[["model_a", "model_b"]].drop_duplicates()
    return f"Over all {len(pairs)} pairs of models and all their taps: {'; '.join(parts)}." if parts else ""


def _family_sentence(row: pd.Series) -> str:
    return (
        f"{short(row['model'])}: {row['n_detectors']} of {row['n_units']} units ({row['share']:.1%}, 95 % interval "
        f"{row['share_low']:.1%} to {row['share_high']:.1%}) at {row['tap']} (the tap with the most; this choice is not corrected for) are {FAMILIES[row['family']].noun} by the {row['rule']} rule, with a "
        f"largest gap of {row['largest_gap_deg']:.0f} degrees in orientation; untrained twins {row['share_untrained']:.1%}, "
        f"shuffled angles {row['share_shuffled']:.1%}. The naive rule would have passed {row['share_naive']:.1%} of the trained "
        f"and {row['share_naive_untrained']:.1%} of the untrained units."
    )


def _basis_sentence(best: pd.DataFrame) -> str:
    share, haar = best["share"].mean(), best["share_haar"].mean()
    strong, strong_haar = best["share_strong"].mean(), best["share_strong_haar"].mean()
    return (
        f"{FAMILIES[best['family'].iloc[0]].noun.capitalize()}: random mixtures of the same layers' units (Haar basis) pass the rule in {haar:.1%} of cases, units in "
        f"{share:.1%}; with a peak above 2 sigma it is {strong_haar:.1%} against {strong:.1%}. "
        + (
            "So the share alone does not show that single units, rather than directions of the layer, are the features."
            if haar >= 0.5 * share
            else "So the units are privileged over random directions."
        )
    )


def _chance_within(run: Run, family: str, a: str, tap_a: str, b: str, tap_b: str, tolerance_deg: float) -> float:
    """Return the share of all pairs of detectors of two layers whose preferred orientations agree: chance."""
    units = run.units[run.units["detector"] & (run.units["seed"] == -1) & (run.units["family"] == family)]
    angles = [
        units.loc[(units["model"] == model) & (units["tap"] == tap), "preferred_deg"].to_numpy()
        for model, tap in ((a, tap_a), (b, tap_b))
    ]
    return float(within(angles[0][:, None], angles[1][None, :], tolerance_deg).mean())


def _match_sentence(a: str, b: str, family: str, rows: pd.DataFrame, run: Run) -> str:
    noun = FAMILIES[family].noun
    rows = rows[(rows["method"] == "hungarian") & rows["detector_a"]]
    best = best_taps(run.families[run.families["family"] == family]).set_index("model")["tap"]
    rows = rows[(rows["tap_a"] == best[a]) & (rows["tap_b"] == best[b])]
    if rows.empty:
        return f"{short(a)} and {short(b)}: none of the {noun} was matched at their best taps."
    both = rows[rows["detector_b"]]
    counts = rows["verdict"].value_counts()
    said = (
        f"{short(a)} to {short(b)} ({best[a]} and {best[b]}, one-to-one over all live units): of {len(rows)} {noun}, "
        f"{len(both)} ({len(both) / len(rows):.0%}) were matched with one, where chance is "
        f"{rows['family_rate_b'].iloc[0]:.0%}"
    )
    if both.empty:
        return said + "."
    near = (both["delta_theta_deg"].abs() <= 30).mean()
    return (
        f"{said}. For these pairs the median r on held-out images is {both['r_natural'].median():.2f} (best partner in a rotated basis "
        f"{both['r_natural_haar'].median():.2f}, untrained twin {both['r_natural_untrained'].median():.2f}), the median "
        f"unshifted correlation of their tuning {both['r_tuning'].median():.2f} (rotated basis "
        f"{both['r_tuning_haar'].median():.2f}, untrained twin {both['r_tuning_untrained'].median():.2f}), and {near:.0%} "
        f"prefer orientations within 30 degrees of one another (chance {_chance_within(run, family, a, best[a], b, best[b], 30):.0%}). "
        f"Verdicts: {', '.join(f'{counts.get(name, 0)} {name}' for name in VERDICTS)}."
    )


def _similarity_sentence(a: str, b: str, rows: pd.DataFrame) -> str:
    parts = []
    for measure, of_measure in rows.groupby("measure", sort=False):
        mean = of_measure[["value", "value_untrained", "value_haar", "value_shuffled"]].mean()
        parts.append(
            f"{measure} {mean['value']:.2f} (untrained {mean['value_untrained']:.2f}, rotated basis "
            f"{mean['value_haar']:.2f}, shuffled {mean['value_shuffled']:.2f})"
        )
    return (
        f"{short(a)} and {short(b)}, mean over all {len(rows) // max(len(parts), 1)} pairs of taps: {'; '.join(parts)}."
    )


def render(run: Run, captions: Mapping[str, str]) -> str:
    """Return the page: findings, figures, tables, methods and provenance. It needs no network and no other file."""
    environment = Environment(loader=PackageLoader("universality"), autoescape=select_autoescape(("html",)))
    both = run.correspondence[run.correspondence["detector_a"] & run.correspondence["detector_b"]]
    tables = {
        "families": (run.families, "every row"),
        "similarity": (run.similarity.head(_MOST_ROWS), f"first {_MOST_ROWS} of {len(run.similarity)} rows"),
        "correspondence": (
            both.nlargest(_MOST_ROWS, "r_natural"),
            f"the {min(_MOST_ROWS, len(both))} pairs of detectors with the largest held-out r, of {len(both)} such "
            f"pairs in {len(run.correspondence)} rows",
        ),
    }
    return environment.get_template("report.html").render(
        run=run,
        key=KEY,
        findings=findings(run),
        figures=[
            (base64.b64encode((run.path / "figures" / f"{stem}.png").read_bytes()).decode(), caption)
            for stem, caption in captions.items()
        ],
        tables={name: (_html(table), what) for name, (table, what) in tables.items()},
        policy=POLICIES[run.record["job"]["stimuli"]["policy"]],
        provenance=as_text(run.record["provenance"]),
    )


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, float_format=lambda x: f"{x:.3f}", na_rep="NaN")
