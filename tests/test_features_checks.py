"""Published statements compared with tables whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from universality.base.errors import RunError
from universality.features.checks import COLUMNS, checks

DEPTHS = {"t0": 0.2, "t1": 0.35, "t2": 0.5, "t3": 0.65}


def run_of(units, family="curve"):
    families = pd.DataFrame(
        [{"family": family, "model": "m/m", "tap": tap, "depth": depth} for tap, depth in DEPTHS.items()]
    )
    return SimpleNamespace(
        path="nowhere", families=families, units_of=lambda name: units.assign(family=name), has=lambda *names: True
    )


def units(per_tap=20, **columns):
    """Trained detectors at every tap, and as many untrained units of which none passes."""
    parts = []
    for tap in DEPTHS:
        for seed in (-1, 0):
            parts.append(
                pd.DataFrame(
                    {
                        "model": "m/m", "tap": tap, "seed": seed, "detector": seed < 0, "level": "standard" if seed < 0 else "",
                        "r1": 0.9, "fwhm_deg": 50.0, "echo": 0.1, "preferred_curvature": np.arange(per_tap) % 4 + 1.0,
                        "over_same_frequency": 20.0,
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True).assign(**columns)


def holds(table, words):
    row = table[table["statement"].str.contains(words)]
    assert len(row) == 1, table["statement"].tolist()
    verdict = row["holds"].iloc[0]
    return verdict if verdict is None else bool(verdict)


def test_every_statement_has_its_row():
    table = checks(run_of(units()))
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 5
    assert holds(table, "untrained")
    assert holds(table, "R1 as in")
    assert holds(table, "FWHM as in")


def test_untrained_rate_is_that_of_the_worst_tap():
    table = units(1000)
    first = table.index[(table["seed"] == 0) & (table["tap"] == "t2")][:1]
    table.loc[first, "detector"] = True
    assert holds(checks(run_of(table)), "untrained")  # 1 of 1000
    table.loc[first + 1, "detector"] = True
    row = checks(run_of(table)).iloc[0]
    assert not row["holds"]
    assert row["found"] == "2 of 4000 units, at worst 2 of 1000 at t2"


@pytest.mark.parametrize(("slope", "expected"), [(-0.3, True), (0.3, False)])
def test_echo_against_depth(slope, expected):
    table = units()
    table["echo"] = 0.3 + slope * table["tap"].map(DEPTHS)
    assert holds(checks(run_of(table)), "echo falls") is expected


def test_a_small_step_of_the_echo_is_no_fall():
    table = units()
    table["echo"] = 0.1 - 0.02 * table["tap"].map(DEPTHS)
    assert holds(checks(run_of(table)), "echo falls") is None


def test_early_units_count_for_the_echo_and_not_for_the_rest():
    table = units()
    early = (table["seed"] == -1) & (table["tap"] == "t0")
    table.loc[early, ["level", "detector", "echo", "r1"]] = ["early", False, 0.9, 0.0]
    found = checks(run_of(table))
    assert "20%: 0.90" in found[found["statement"].str.contains("echo falls")]["found"].iloc[0]
    assert holds(found, "R1 as in")


@pytest.mark.parametrize(("sign", "expected"), [(1, True), (-1, False)])
def test_width_against_curvature(sign, expected):
    table = units()
    table["fwhm_deg"] = 50.0 + sign * table["preferred_curvature"]
    assert holds(checks(run_of(table)), "FWHM grows") is expected


@pytest.mark.parametrize(("best", "expected"), [("t1", True), ("t0", False), ("t3", False)])
def test_depth_of_the_largest_share(best, expected):
    table = units()
    table.loc[(table["tap"] != best) & (np.arange(len(table)) % 2 == 0), "detector"] = False
    found = checks(run_of(table, "high_low_frequency"))
    assert holds(found, "nearest to 31%") is expected


@pytest.mark.parametrize(("ratio", "expected"), [(20.0, True), (5.0, False), (np.inf, True)])
def test_silence_at_ratio_1(ratio, expected):
    found = checks(run_of(units(over_same_frequency=ratio), "high_low_frequency"))
    assert holds(found, "near zero at ratio 1") is expected


def test_too_few_units_hold_nothing_and_break_nothing():
    table = units().assign(detector=False, level="")
    for family in ("curve", "high_low_frequency"):
        found = checks(run_of(table, family))
        assert found.loc[~found["statement"].str.contains("untrained"), "holds"].isna().all()


def test_run_without_such_families_is_refused():
    with pytest.raises(RunError, match="no family with published statements"):
        checks(run_of(units(), "another"))


def test_width_that_does_not_follow_the_curvature_is_left_open():
    rng = np.random.default_rng(0)
    table = units()
    table["fwhm_deg"] = 50.0 + rng.standard_normal(len(table))
    assert holds(checks(run_of(table)), "FWHM grows") is None


def test_one_tap_does_not_say_where_the_largest_share_lies():
    table = units()
    found = checks(run_of(table[table["tap"] == "t1"], "high_low_frequency"))
    row = found[found["statement"].str.contains("nearest to 31%")].iloc[0]
    assert row["found"] == "too few taps" and row["holds"] is None
