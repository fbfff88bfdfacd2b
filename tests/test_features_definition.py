"""Definitions applied to a table of units: levels, definitions of one's own, and thresholds that move."""

import re

import numpy as np
import pandas as pd
import pytest

from universality import figures
from universality.base.errors import JobError
from universality.features.definition import apply, best_taps, of_spec, rates, stated_taps, threshold_curve
from universality.features.families import FAMILIES, definition_of, family_of
from universality.features.rules import LEVELS, Criterion, Rule, judged
from universality.features.spec import DefinitionSpec, read_definition
from universality.features.tables import columns_of
from universality.figures import curves_of

RULE = Rule(
    "toy",
    tuned=(Criterion("r1", ">", 0.5, "tuned"), Criterion("peak_sigma", ">", 1.0, "strong")),
    specific=(Criterion("echo", "<", 0.3, "one side"),),
    strict=(Criterion("r1", ">=", 0.8, "published"), Criterion("echo", "<=", 0.1, "published")),
    waived_early=("echo",),
)
NAIVE = Rule("naive", (Criterion("r1", ">", 0.6, "tuned"),), ())


def toy(**columns):
    count = len(next(iter(columns.values())))
    table = pd.DataFrame({"live": [True] * count, "r1": 0.9, "peak_sigma": 3.0, "echo": 0.0} | columns)
    return judged(table, RULE, NAIVE)


def test_levels_go_from_published_form_to_an_answer_to_the_opposite():
    table = toy(r1=[0.9, 0.7, 0.7, 0.4, 0.9], echo=[0.05, 0.2, 0.6, 0.0, 0.2])
    assert table["level"].tolist() == ["strict", "standard", "early", "", "standard"]
    assert table["detector"].tolist() == [True, True, False, False, True]
    assert table["failed"].tolist() == ["", "", "echo", "r1", ""]


def test_dead_unit_reaches_no_level():
    assert toy(live=[False])["level"].tolist() == [""]


@pytest.mark.parametrize("family", FAMILIES)
def test_strict_units_are_detectors_and_early_ones_fail_what_is_waived(family):
    rule = FAMILIES[family].rule
    assert rule.strict
    assert set(rule.waived_early) <= {c.column for c in rule.criteria}
    rng = np.random.default_rng(0)
    table = pd.DataFrame({c.column: rng.uniform(0, 2 * c.threshold, 20000) for c in (*rule.strict, *rule.criteria)})
    table = table.assign(live=True, naive_r1=1.0)
    level = judged(table, rule, NAIVE_OF_ONE)["level"]
    assert set(level[table["detector"]]) <= {"strict", "standard"}
    early = table.loc[level == "early", "failed"]
    assert set(early) == {", ".join(rule.waived_early)}
    assert set(level) <= {*LEVELS, ""}


NAIVE_OF_ONE = Rule("naive", (Criterion("naive_r1", ">", 0.5, "tuned"),), ())


def units(seed=0):
    """Two models, one tap each; trained units pass more often than those of two twins."""
    rng = np.random.default_rng(seed)
    parts = []
    for model in ("a/a", "b/b"):
        for twin, high in ((-1, 1.0), (0, 0.6), (1, 0.6)):
            part = pd.DataFrame(dict.fromkeys((c.name for c in columns_of("curve")), np.nan), index=range(200))
            for criterion in FAMILIES["curve"].rule.criteria:
                # Four in five pass each criterion, so that some pass all of a long rule.
                scale = criterion.threshold * (5.0 * high if criterion.op == ">" else 1.25)
                part[criterion.column] = rng.uniform(0, scale, 200)
            parts.append(part.assign(model=model, seed=twin, tap="t", unit=range(200), family="curve", live=True))
    return pd.concat(parts, ignore_index=True)


def brute_force(table, criteria):
    passes = np.ones(len(table), dtype=bool)
    for c in criteria:
        values = table[c.column].to_numpy()
        passes &= {">": values > c.threshold, ">=": values >= c.threshold, "<": values < c.threshold}[c.op]
    return passes


def test_rates_count_every_model_and_tap_beside_all_its_twins():
    table = units()
    found = rates(definition_of("curve"), table).set_index("model")
    passes = brute_force(table, FAMILIES["curve"].rule.criteria)
    for model in ("a/a", "b/b"):
        trained = (table["model"] == model) & (table["seed"] == -1)
        twins = (table["model"] == model) & (table["seed"] >= 0)
        row = found.loc[model]
        assert (row["n_units"], row["n_units_untrained"]) == (200, 400)
        assert (row["n_detectors"], row["n_detectors_untrained"]) == (passes[trained].sum(), passes[twins].sum())
        assert row["share"] == pytest.approx(passes[trained].mean())
        assert row["share_untrained"] == pytest.approx(passes[twins].mean())


def test_dead_units_count_as_units_and_never_as_detectors():
    table = units().assign(live=False)
    found = rates(definition_of("curve"), table)
    assert found["n_units"].tolist() == [200, 200]
    assert (found[["n_detectors", "n_detectors_untrained"]] == 0).all(axis=None)
    curve = threshold_curve(definition_of("curve"), table, "r1", [0.0])
    assert curve[["share", "share_untrained"]].to_numpy().tolist() == [[0.0, 0.0]]


def test_threshold_curve_moves_one_threshold_and_keeps_the_others():
    table = units(1)
    definition = definition_of("curve")
    curve = threshold_curve(definition, table, "echo", [0.1, 0.3, 0.6])
    others = [c for c in definition.criteria if c.column != "echo"]
    kept = brute_force(table, others)
    trained = (table["seed"] == -1).to_numpy()
    for _, row in curve.iterrows():
        passes = kept & (table["echo"] < row["threshold"]).to_numpy()
        assert row["share"] == pytest.approx(passes[trained].mean())
        assert row["share_untrained"] == pytest.approx(passes[~trained].mean())
    assert curve["share"].is_monotonic_increasing
    at_its_own = curve.set_index("threshold").loc[0.3]
    assert at_its_own["share"] == pytest.approx(rates(definition, table)["n_detectors"].sum() / 400)


def test_own_definition_replaces_the_criterion_of_the_same_column_and_side():
    spec = DefinitionSpec.model_validate(
        {"name": "narrow", "base": "curve", "criteria": [
            {"column": "r1", "op": ">", "threshold": 0.9, "reason": "narrow only"},
            {"column": "fwhm_deg", "op": "<", "threshold": 60.0, "reason": "narrow only"},
        ]}
    )  # fmt: skip
    rule = FAMILIES["curve"].rule
    made = of_spec(spec, rule, columns_of("curve"))
    assert [c.threshold for c in made.criteria if c.column == "r1"] == [0.9]
    assert [c.threshold for c in made.criteria if c.column == "fwhm_deg"] == [60.0]
    assert len(made.criteria) == len(rule.criteria)
    alone = of_spec(spec.model_copy(update={"inherit": False}), rule, columns_of("curve"))
    assert [c.column for c in alone.criteria] == ["r1", "fwhm_deg"]
    table = units().assign(fwhm_deg=50.0)
    assert rates(made, table)["n_detectors"].sum() < rates(definition_of("curve"), table)["n_detectors"].sum()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "x"\nbase = "curve"', "'criteria' is missing"),
        ('name = "x"\nbase = 1\n[[criteria]]\ncolumn="r1"\nop=">"\nthreshold=1\nreason="why"', "'base'"),
        ('name = "x"\nbase = "curve"\n[[criteria]]\ncolumn="r1"\nop="="\nthreshold=1\nreason="why"', "'criteria.0.op'"),
        ('name = "x"\nbase = "curve"\n[[criteria]]\ncolumn="r1"\nop=">"\nthreshold=nan\nreason="why"', "threshold"),
        (
            'name = "x"\nbase = "curve"\n[[criteria]]\ncolum="r1"\nop=">"\nthreshold=1\nreason="why"',
            "did you mean 'column'",
        ),
    ],
)
def test_malformed_definition_is_one_sentence(tmp_path, text, said):
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(JobError, match=re.escape(said)):
        read_definition(tmp_path / "d.toml")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(JobError, match="unknown family 'curv'; did you mean 'curve'"):
        definition_of("curv")
    with pytest.raises(JobError, match="unknown family 'colour_contrasts'; did you mean 'colour_contrast'"):
        family_of("colour_contrasts")
    with pytest.raises(JobError, match=r"has no criterion 'ekko'.*echo"):
        threshold_curve(definition_of("curve"), units(), "ekko", [0.1])
    with pytest.raises(JobError, match="no units of the family 'high_low_frequency'"):
        rates(definition_of("high_low_frequency"), units())
    spec = DefinitionSpec.model_validate(
        {"name": "x", "base": "curve", "criteria": [{"column": "r11", "op": ">", "threshold": 1.0, "reason": "why"}]}
    )
    with pytest.raises(JobError, match="no column 'r11'; did you mean 'r1'"):
        of_spec(spec, FAMILIES["curve"].rule, columns_of("curve"))
    other = FAMILIES["high_low_frequency"]
    with pytest.raises(JobError, match="units of the family 'high_low_frequency' have no column 'r11'"):
        of_spec(spec.model_copy(update={"base": "high_low_frequency"}), other.rule, columns_of("high_low_frequency"))


def test_units_without_the_familys_own_columns_are_one_sentence(small):
    for judge in (rates, curves_of, lambda definition, units: threshold_curve(definition, units, "r1", [0.5])):
        with pytest.raises(JobError, match=r"lack the column 'curve_over_line', .*; take run.units_of\('curve'\)"):
            judge(definition_of("curve"), small.run.units)


def test_threshold_figure_draws_both_rates_and_the_chosen_threshold():
    curve = threshold_curve(definition_of("curve"), units(), "echo", [0.1, 0.3, 0.6])
    ax = figures.threshold_curves({"echo": curve}, {"echo": 0.3})[0, 0]
    trained, untrained, line = ax.get_lines()[:3]
    assert trained.get_ydata().tolist() == curve["share"].tolist()
    assert untrained.get_ydata().tolist() == curve["share_untrained"].tolist()
    assert line.get_xdata() == [0.3, 0.3]


def test_threshold_figure_draws_each_class_of_networks_by_itself():
    table, definition = units(2), definition_of("curve")
    classes = {"a/a": "large", "b/b": "small"}
    curves, chosen = curves_of(definition, table, classes)
    assert {tuple(dict.fromkeys(rates["networks"])) for rates in curves.values()} == {("large", "small")}
    axes = figures.threshold_curves(curves, chosen, share_haar={"small": 0.03})
    ax = next(ax for ax in axes.flat if ax.get_xlabel() == "echo")
    *lines, haar, _, _ = ax.get_lines()
    assert len(lines) == 4
    others = brute_force(table, [c for c in definition.criteria if c.column != "echo"])
    for place, (model, seeds) in enumerate([(m, s) for m in classes for s in ([-1], [0, 1])]):
        of = ((table["model"] == model) & table["seed"].isin(seeds)).to_numpy()
        thresholds, shares = lines[place].get_data()
        assert shares == pytest.approx([(others & (table["echo"] < t).to_numpy())[of].mean() for t in thresholds])
    assert [line.get_linestyle() for line in lines] == ["-", "-", "--", "--"]
    assert (list(haar.get_xdata()), list(haar.get_ydata())) == ([chosen["echo"]], [0.03])
    labels = [text.get_text() for text in figures.figure_of(axes).legends[0].get_texts()]
    assert labels[1:5] == [
        "untrained twins, large",
        "trained networks, small",
        "untrained twins, small",
        "random basis (Haar), small",
    ]


def test_command_applies_rules_and_definitions_to_a_run(small, tmp_path, capsys, monkeypatch):
    from universality import cli

    (tmp_path / "d.toml").write_text(
        'name = "anything"\nbase = "curve"\ninherit = false\n[[criteria]]\ncolumn = "peak_sigma"\nop = ">"\n'
        'threshold = -1.0\nreason = "every live unit"\n'
    )
    run = apply(definition_of("curve"), small.run.units_of("curve"))
    for arguments, count in (((), run["detector"].sum()), (("--definition", str(tmp_path / "d.toml")), None)):
        monkeypatch.setattr(
            "sys.argv", ["universality", "detectors", str(small.out), *arguments, "--threshold", "peak_sigma"]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr().out
        assert ended.value.code in (0, None)
        assert "peak_sigma >" in out
        assert "share_untrained" in out
        assert count is None or str(count) in out


def test_stated_tap_is_the_nearest_in_depth_whatever_it_holds():
    rows = [("a", "early", 0.25, 9), ("a", "late", 0.75, 1), ("a", "last", 0.9, 20), ("b", "only", 0.9, 3)]
    table = pd.DataFrame(rows, columns=["model", "tap", "depth", "n_detectors"]).assign(family="curve")
    assert stated_taps(table)["tap"].tolist() == ["early", "only"]  # of equals the shallower one
    assert stated_taps(table, depth=0.75)["tap"].tolist() == ["late", "only"]
    assert best_taps(table)["tap"].tolist() == ["last", "only"]
