"""A unit found in every other model: against brute force on a real, small run."""

import re

import numpy as np
import pytest

from universality import open_run
from universality.base.errors import RunError
from universality.jobs.trace import COLUMNS, trace
from universality.runs.names import parse_unit


@pytest.fixture(scope="module")
def run(small):
    return open_run(small.out)


@pytest.fixture(scope="module")
def chosen(run):
    """A unit that varies in both halves of the natural images."""
    first = run.record["stores"][0]
    units = run.units
    row = units[
        (units["model"] == first["model"]) & (units["tap"] == first["tap"]) & (units["seed"] == -1) & units["live"]
    ].iloc[3]
    return str(row["model"]), str(row["tap"]), int(row["unit"])


@pytest.fixture(scope="module")
def traced(run, chosen):
    return trace(run, *chosen)


def halves(array):
    fold = array["fold"].values
    values = array.values.astype(np.float64)
    return values[fold == 0], values[fold == 1]


def test_partner_is_the_best_of_one_half_scored_on_the_other(run, chosen, traced):
    model, tap, unit = chosen
    decide_a, score_a = (half[:, unit] for half in halves(run.activations(model, tap)))
    assert list(traced.columns) == list(COLUMNS)
    assert set(traced["model"]) == {entry["model"] for entry in run.record["stores"]} - {model}
    for row in traced.to_dict("records"):
        decide_b, score_b = halves(run.activations(row["model"], row["tap"]))
        live = np.flatnonzero((np.ptp(decide_b, axis=0) > 0) & (np.ptp(score_b, axis=0) > 0))
        r = np.array([np.corrcoef(decide_a, decide_b[:, k])[0, 1] for k in live])
        assert row["unit"] == live[r.argmax()]
        assert row["r_match"] == pytest.approx(r.max(), abs=1e-9)
        assert row["r_natural"] == pytest.approx(np.corrcoef(score_a, score_b[:, row["unit"]])[0, 1], abs=1e-9)
        assert row["r_natural_low"] <= row["r_natural"] <= row["r_natural_high"]
        assert 0 < row["p"] <= 1


def test_untrained_column_is_the_best_partner_in_the_twin_of_either_side(run, chosen, traced):
    seeds = run.record["job"]["nulls"]["untrained_seeds"]
    row = traced.iloc[0]
    here, there = chosen, (row["model"], row["tap"], row["unit"])
    sides = []
    for (model, tap, unit), (other, other_tap, _) in ((here, there), (there, here)):
        decide_a, score_a = (half[:, unit] for half in halves(run.activations(model, tap)))
        scores = []
        for seed in seeds:
            decide_b, score_b = halves(run.activations(other, other_tap, seed=seed))
            live = np.flatnonzero((np.ptp(decide_b, axis=0) > 0) & (np.ptp(score_b, axis=0) > 0))
            best = live[np.argmax([np.corrcoef(decide_a, decide_b[:, k])[0, 1] for k in live])]
            scores.append(np.corrcoef(score_a, score_b[:, best])[0, 1])
        sides.append(np.mean(scores))
    assert row["r_natural_untrained"] == pytest.approx(max(sides), abs=1e-9)


def test_best_partners_come_first(traced):
    assert traced["r_natural"].is_monotonic_decreasing


def test_names_of_taps_may_hold_colons():
    assert parse_unit("torchvision/resnet50:layer2.0.relu:1:7") == ("torchvision/resnet50", "layer2.0.relu:1", 7)


@pytest.mark.parametrize("text", ["", "a:b", "a:b:c", "a:b:-1", ":b:1", "a::1"])
def test_other_forms_are_refused(text):
    with pytest.raises(RunError, match="expected MODEL:TAP:INDEX"):
        parse_unit(text)


def test_unknown_model_tap_and_unit_are_refused(run, chosen):
    model, tap, _ = chosen
    with pytest.raises(RunError, match="has no model"):
        trace(run, model + "x", tap, 0)
    with pytest.raises(RunError, match=re.escape(f"has no tap '{tap}x' of '{model}'")):
        trace(run, model, tap + "x", 0)
    with pytest.raises(RunError, match=r"unit 100000 .* cannot be traced"):
        trace(run, model, tap, 100000)


def test_command_prints_the_partners(small, chosen, capsys, monkeypatch):
    from universality import cli

    monkeypatch.setattr("sys.argv", ["universality", "atlas", str(small.out), "--unit", ":".join(map(str, chosen))])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    assert "best partners of" in capsys.readouterr().out
    assert not (small.out / "atlas").exists()
