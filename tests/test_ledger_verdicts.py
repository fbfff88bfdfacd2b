"""Claims: read, registered, changed, held against tables that hold what is planted in them."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from universality.base.errors import ClaimError
from universality.base.schema import Column, Table
from universality.ledger import claims, expressions, intervals, verdicts
from universality.ledger.tables import LEDGER

UNITS = Table(
    "units", "a unit", (Column("model", "string", "1", "", ""), Column("detector", "bool", "1", "", ""), Column("seed", "int", "1", "", ""), Column("r1", "float", "1", "", "")),
)  # fmt: skip
PAIRS = Table(
    "pairs",
    "a pair",
    (*(Column(n, "string", "1", "", "") for n in ("model_a", "model_b")), Column("r", "float", "1", "", "")),
)
SCHEMAS = {"units": UNITS, "pairs": PAIRS}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALWAYS = 'claim = "Words."\nchosen_on = []\nknown = ""\n'


class Tables:
    def __init__(self, **tables):
        self.tables = tables

    def has(self, *names):
        return set(names) <= set(self.tables)

    def table(self, name):
        return self.tables[name]


def units(shares, seed=-1, each=100):
    """Units of networks m/0, m/1, ... of which stated shares are detectors."""
    parts = [
        pd.DataFrame({"model": f"m/{k}", "detector": np.arange(each) < round(share * each), "seed": seed, "r1": 0.5 + k / 10})
        for k, share in enumerate(shares)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


SIX = Tables(
    units=pd.concat([units([0.30, 0.32, 0.34, 0.36, 0.38, 0.40]), units([0.0] * 6, seed=0)], ignore_index=True)
)


def ledger_of(folder, register=True, **texts):
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(ALWAYS + text, encoding="utf-8")
    found = claims.read(folder)
    if register:
        claims.register(found, NOW)
    return claims.read(folder)


def decided(folder, text, tables=SIX, **more):
    ledger = ledger_of(folder, one=text)
    (row,) = verdicts.evaluate(ledger, tables, SCHEMAS, **more).to_dict("records")
    return row


@pytest.mark.parametrize(
    ("text", "verdict", "why"),
    [
        ("prediction = 'share(units, detector, seed < 0) >= 0.2'", "held", ""),
        ("prediction = 'share(units, detector, seed < 0) >= 0.5'", "failed", "the whole interval"),
        ("prediction = 'share(units, detector, seed < 0) >= 0.35'", "undecided", "others"),
        ("prediction = 'share(units, detector, seed < 0) >= 0.35'\nrule = 'value'", "held", ""),
        ("prediction = 'share(units, detector, seed < 0) >= 0.36'\nrule = 'value'", "failed", "not as predicted"),
        ("prediction = 'share(units, detector, seed >= 0) <= 0.001'", "undecided", "others"),  # 0 of 600: up to 0.6 %
        ("prediction = 'share(units, detector, seed >= 0) <= 0.01'", "held", ""),
        ("prediction = 'share(units, detector, seed < 0) > 0.2'\nnull = 'share(units, detector, seed >= 0)'\nagainst = 'above'", "held", ""),
        ("prediction = 'share(units, detector, seed < 0) > 0.2'\nnull = 'share(units, detector, seed >= 0)'\nagainst = 'below'", "failed", "not below"),
        ("prediction = 'share(units, detector, seed < 0) > 0.2'\nnull = 'mean(pairs, r)'\nagainst = 'above'", "undecided", "null"),
        ("prediction = 'share(units, detector, seed < 0) >= 0.5'\nceiling = 'mean(units, r1) - 0.5'", "undecided", "could not have held: the ceiling, 0.25"),
        ("prediction = 'share(units, detector, seed < 0) >= 0.5'\nceiling = 'mean(units, r1)'", "failed", "the whole interval"),
        ("prediction = 'share(units, detector, seed < 0) <= 0.1'\nceiling = 'mean(units, r1)'", "failed", "the whole interval"),
        ("prediction = 'share(units, detector, seed < 0) > 0.2'\nleast = 601", "undecided", "600 rows, the claim asks for 601"),
        ("prediction = 'share(units, detector, seed == 9) > 0.2'", "undecided", "no row of the run"),
        ("prediction = 'mean(pairs, r) > 0.2'", "undecided", "the run has no table pairs"),
        ("prediction = 'largest(units, r1) > 0.9'", "undecided", "no interval"),
        ("prediction = 'share(units, detector, seed < 0 and model in (\"m/0\", \"m/1\")) > 0.2'", "undecided", "2 networks"),
        ("prediction = 'share(units, detector, seed < 0 and model in (\"m/0\", \"m/1\")) > 0.2'\nover = 'rows'", "held", ""),
    ],
)  # fmt: skip
def test_verdicts(tmp_path, text, verdict, why):
    row = decided(tmp_path, text)
    assert (row["verdict"], why in row["reason"]) == (verdict, True), row
    assert row["registered"] == "2026-01-02T03:04:05Z"


def test_an_interval_of_networks_is_that_of_their_means(tmp_path):
    """Equal networks: the share is the mean over networks, and Student's interval of it is what the bootstrap is moved out to."""
    row = decided(tmp_path, "prediction = 'share(units, detector, seed < 0) >= 0.2'")
    shares = np.array([0.30, 0.32, 0.34, 0.36, 0.38, 0.40])
    half = t.ppf(0.975, 5) * shares.std(ddof=1) / 6**0.5
    assert row["measured"] == pytest.approx(0.35)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.15)
    assert (row["n"], row["n_networks"]) == (600, 6)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Means of 6 networks, each of 20 rows that share what their network adds: 95 % of intervals hold 0, and rows alone would not do."""
    rng = np.random.default_rng(0)
    (part,) = expressions.expression("mean(units, r1)").aggregates.values()
    names = np.repeat([f"m/{k}" for k in range(6)], 20)
    hits = {"networks": 0, "rows": 0}
    for trial in range(100):
        table = pd.DataFrame(
            {"model": names, "r1": np.repeat(rng.standard_normal(6), 20) + 0.3 * rng.standard_normal(120)}
        )
        chosen = intervals.chosen(part, table, np.ones(120, dtype=bool))
        for over, values, count in (
            ("networks", intervals.values_over_networks([chosen], intervals.networks_of([chosen]), trial, 300), 6),
            ("rows", intervals.values_over_rows([chosen], trial, 300), 120),
        ):
            low, high = intervals.interval(values[0], count)
            hits[over] += low <= 0 <= high
    assert 88 <= hits["networks"] <= 100
    assert hits["rows"] < 60


def test_pairs_count_as_often_as_both_their_networks():
    """Of two networks that are drawn k and l times, their pair counts k l times."""
    table = pd.DataFrame({"model_a": ["a", "a", "b"], "model_b": ["b", "c", "c"], "r": [1.0, 2.0, 6.0]})
    (part,) = expressions.expression("mean(pairs, r)").aggregates.values()
    chosen = intervals.chosen(part, table, np.ones(3, dtype=bool))
    assert intervals.networks_of([chosen]) == ["a", "b", "c"]
    weights = np.array([[1.0, 1, 1], [2 * 1, 2 * 3, 1 * 3]])
    np.testing.assert_allclose(intervals._weighted(chosen, weights), [3.0, (2 * 1 + 6 * 2 + 3 * 6) / 11])


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [2, 0, 1, 0], [0, 3, 0, 1], [0, 0, 0, 0]])
def test_weighted_medians_are_those_of_repeated_rows(weights):
    values = np.array([3.0, 1.0, 4.0, 1.5])
    repeated = np.repeat(values, weights)
    came = intervals._median(values, np.array([weights], dtype=float))[0]
    assert came == pytest.approx(np.median(repeated) if repeated.size else np.nan, nan_ok=True)


def test_each_asks_of_every_value_by_itself(tmp_path):
    ledger = ledger_of(
        tmp_path, one="prediction = 'share(units, detector, seed < 0) > 0.33'\neach = 'model'\nrule = 'value'"
    )
    found = verdicts.evaluate(ledger, SIX, SCHEMAS)
    assert list(found["of"]) == [f"m/{k}" for k in range(6)]
    assert list(found["verdict"]) == ["failed"] * 2 + ["held"] * 4
    assert list(found.columns) == LEDGER.names


def test_networks_that_chose_the_rule_are_counted(tmp_path):
    text = (
        ALWAYS.replace("chosen_on = []", 'chosen_on = ["m/0", "m/1", "m/9"]')
        + "prediction = 'share(units, detector) > 0'"
    )
    (tmp_path / "one.toml").write_text(text, encoding="utf-8")
    found = verdicts.evaluate(claims.read(tmp_path), SIX, SCHEMAS)
    assert found["share_chosen_on"][0] == pytest.approx(2 / 6)


def test_before_the_run_means_before_it_began(tmp_path):
    text = "prediction = 'share(units, detector) > 0'"
    at = NOW.timestamp()
    assert decided(tmp_path, text, began_unix_s=at + 1)["before_run"]
    assert not decided(tmp_path, text, began_unix_s=at - 1)["before_run"]
    assert not decided(tmp_path, text)["before_run"]


# The register


def test_a_claim_that_is_not_registered_decides_nothing(tmp_path):
    ledger = ledger_of(tmp_path, register=False, one="prediction = 'share(units, detector) > 0'")
    (row,) = verdicts.evaluate(ledger, SIX, SCHEMAS).to_dict("records")
    assert (row["verdict"], row["registered"], row["before_run"]) == ("undecided", "", False)
    assert "not registered" in row["reason"]
    assert row["measured"] > 0


def test_a_claim_that_was_changed_is_seen_and_decides_nothing(tmp_path):
    ledger_of(
        tmp_path, one="prediction = 'share(units, detector, seed < 0) > 0.5'", two="prediction = 'count(units) > 0'"
    )
    (tmp_path / "one.toml").write_text(
        ALWAYS + "prediction = 'share(units, detector, seed < 0) > 0.3'", encoding="utf-8"
    )
    (tmp_path / "two.toml").unlink()
    ledger = claims.read(tmp_path)
    (row,) = verdicts.evaluate(ledger, SIX, SCHEMAS).to_dict("records")
    assert (row["verdict"], row["reason"]) == ("undecided", "changed after it was registered on 2026-01-02T03:04:05Z")
    assert [("'one' is not what was registered" in p, "'two', registered on" in p) for p in ledger.problems] == [
        (True, False),
        (False, True),
    ]
    with pytest.raises(ClaimError, match=r"'one' is not what was registered .* under another name"):
        claims.register(ledger, NOW)


def test_registering_again_keeps_the_first_time(tmp_path):
    ledger_of(tmp_path, one="prediction = 'count(units) > 0'")
    again = ledger_of(tmp_path, register=False, two="prediction = 'count(units) > 1'")
    later = datetime(2026, 5, 1, tzinfo=UTC)
    assert claims.register(again, later) == ["two"]
    times = {name: entry.time for name, entry in claims.read(tmp_path).register.items()}
    assert times == {"one": "2026-01-02T03:04:05Z", "two": "2026-05-01T00:00:00Z"}
    assert claims.register(claims.read(tmp_path), later) == []


def test_words_and_order_of_keys_are_in_the_digest_as_far_as_they_mean_something(tmp_path):
    first = ledger_of(tmp_path, one="prediction = 'count(units) > 0'").claims["one"].digest()
    (tmp_path / "one.toml").write_text("prediction = 'count(units) > 0'\n" + ALWAYS, encoding="utf-8")
    assert claims.read(tmp_path).changed == []
    (tmp_path / "one.toml").write_text(
        ALWAYS.replace("Words", "Others") + "prediction = 'count(units) > 0'", encoding="utf-8"
    )
    assert claims.read(tmp_path).claims["one"].digest() != first


# Mistakes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("prediction = 'count(unit) > 0'", "claim 'one' asks of a table 'unit'; did you mean 'units'"),
        ("prediction = 'count(units, sed < 0) > 0'", "column 'sed' of the table 'units'; did you mean 'seed'"),
        ("prediction = 'count(pairs, rr > 0) > 0'", "column 'rr' of the table 'pairs'"),  # though the run lacks it
        ("prediction = 'count(units) > 0'\neach = 'tap'", "column 'tap' of the table 'units'"),
        ("prediction = 'mean(units, model) > 0'", "claim 'one': 'model' is a text"),
    ],
)
def test_names_that_there_are_not_are_said_with_the_nearest(tmp_path, text, why):
    with pytest.raises(ClaimError, match=why):
        verdicts.evaluate(ledger_of(tmp_path, one=text), SIX, SCHEMAS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("predicton = 'count(units) > 0'", "unknown key 'predicton'; did you mean 'prediction'"),
        ("", "key 'prediction' is missing"),
        ("prediction = 'count(units)'", "key 'prediction': prediction 'count\\(units\\)' compares nothing"),
        ("prediction = 'count(units) > 0'\nnull = 'nothing'", "key 'null': .* stands alone"),
        ("prediction = 'count(units) > 0'\nagainst = 'above'", "needs a null, which is empty"),
        ("prediction = 'count(units) > 0'\nrule = 'p'", "key 'rule'"),
        ("prediction = ", "is not valid TOML"),
    ],
)
def test_malformed_claims_are_refused_in_one_sentence(tmp_path, text, why):
    with pytest.raises(ClaimError, match=why) as caught:
        ledger_of(tmp_path, register=False, one=text)
    assert "\n" not in str(caught.value)
    assert "one.toml" in str(caught.value)


def test_folders_without_claims_are_refused(tmp_path):
    with pytest.raises(ClaimError, match="is no folder of claims"):
        claims.read(tmp_path / "none")
    with pytest.raises(ClaimError, match="holds no claim"):
        claims.read(tmp_path)
    (tmp_path / "A claim.toml").write_text(ALWAYS + "prediction = 'count(units) > 0'", encoding="utf-8")
    with pytest.raises(ClaimError, match="has a name that is none"):
        claims.read(tmp_path)
