"""The language of claims: what it computes, and everything that it refuses in a sentence."""

import ast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from universality.base.errors import ClaimError
from universality.ledger import expressions, intervals, rows

TABLE = pd.DataFrame(
    {
        "model": pd.Series(["a/x-s0", "a/x-s0", "b/y-s1", "b/y-s1", "b/z-s1"], dtype="string[pyarrow]"),
        "x": [1.0, 2.0, np.nan, 4.0, 9.0],
        "y": [2.0, 1.0, 3.0, 5.0, 4.0],
        "good": [True, False, True, True, False],
        "n": [1, 2, 3, 4, 5],
    }
)


def measured(text):
    """An expression's value of all rows of the table t."""
    made = expressions.expression(text)
    parts = {k: intervals.chosen(a, TABLE, np.ones(len(TABLE), dtype=bool)) for k, a in made.aggregates.items()}
    names = intervals.networks_of(list(parts.values()))
    return float(
        made.value(dict(zip(parts, intervals.values_over_networks(list(parts.values()), names, 0, 1), strict=True)))[0]
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("count(t)", 5),
        ("count(t, good)", 3),
        ("share(t, good)", 0.6),
        ("share(t, good, n > 1 and not n == 4)", 1 / 3),
        ("mean(t, x)", 4.0),  # a value that is not known is left out
        ("mean(t, x - y, known(x))", 1.0),
        ("median(t, y)", 3.0),
        ("median(t, y, n <= 4)", 2.5),
        ("least(t, x)", 1.0),
        ("largest(t, abs(x - 5))", 4.0),
        ("networks(t, good)", 2 / 3),
        ("mean(t, n, source(model) == 'b')", 4.0),
        ("count(t, begins(model, 'b/'))", 3),
        ("count(t, contains(model, '-s1') or x < 2)", 4),
        ("count(t, model in ('a/x-s0', 'b/z-s1'))", 3),
        ("count(t, n not in (1, 2))", 3),
        ("mean(t, good)", 0.6),
        ("2 * mean(t, n) - count(t) / 5 + -1", 4.0),
        ("share(t, good, n > 99)", np.nan),
    ],
)
def test_values_are_those_counted_by_hand(text, value):
    assert measured(text) == pytest.approx(value, nan_ok=True)


def test_correlations_are_scipys():
    known = TABLE.dropna()
    assert measured("correlation(t, x, y)") == pytest.approx(pearsonr(known["x"], known["y"])[0])
    assert measured("rank_correlation(t, x, y)") == pytest.approx(spearmanr(known["x"], known["y"])[0])
    assert np.isnan(measured("correlation(t, x, x - x)"))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("count(t) <= 0.5", [0.5, -1], [0.6, np.nan]),
        ("0.5 > count(t)", [0.4], [0.5]),
        ("0.1 < count(t) <= 0.3", [0.2, 0.3], [0.1, 0.31]),
        ("count(t) == 1", [1.0], [0.99]),
    ],
)
def test_bounds(text, inside, outside):
    made = expressions.prediction(text)
    assert all(made.met(value) for value in inside)
    assert not any(made.met(value) for value in outside)


def test_an_interval_is_excluded_only_where_all_of_it_is():
    made = expressions.prediction("0.1 <= count(t) < 0.3")
    assert made.excludes(0.3, 0.5)
    assert made.excludes(-1.0, 0.09)
    assert not made.excludes(0.0, 0.1)
    assert not made.excludes(0.2, 0.9)
    assert expressions.prediction("count(t) == 1").excludes(0.2, 0.9)
    assert not expressions.prediction("count(t) == 1").excludes(0.2, 1.0)


REFUSED = [
    ("__import__('os').system('x') > 1", "not part of the language"),
    ("count(t).__class__ > 1", "not part of the language"),
    ("mean(t, x.values) > 1", "not part of the language"),
    ("mean(t, x[0]) > 1", "not part of the language"),
    ("mean(t, (lambda: 1)()) > 1", "not part of the language"),
    ("mean(t, [n for n in x]) > 1", "not part of the language"),
    ("mean(t, x ** 99999) > 1", "not part of the language"),
    ("mean(t, f'{x}') > 1", "not part of the language"),
    ("mean(t, x if good else y) > 1", "not part of the language"),
    ("mean(t, where=x) > 1", "not part of the language"),
    ("mean(*t) > 1", "not part of the language"),
    ("mean(t, 1 < x < 2) > 1", "not part of the language"),
    ("open('/etc/passwd') > 1", "unknown aggregate 'open'"),
    ("maen(t, x) > 1", "unknown aggregate 'maen' in .*; did you mean 'mean'"),
    ("mean(t, abz(x)) > 1", "unknown function 'abz' of rows .*; did you mean 'abs'"),
    ("mean(t, mean(t, x)) > 1", "unknown function 'mean' of rows"),
    ("mean(t, begins(model)) > 1", "has 1 arguments, expected 2"),
    ("mean(t, begins(model, 3)) > 1", "looks for no text"),
    ("mean(t, source('a')) > 1", "asks of no column"),
    ("mean(t, x in 3) > 1", "looks in no list"),
    ("mean(t, x in (1, y)) > 1", "looks in a list of more than values"),
    ("mean(t, (1, 2)) > 1", "not part of the language"),
    ("mean(t, x == (1, 2)) > 1", "looks|not part|expected"),
    ("mean(t) > 1", "has 1 arguments, expected a table, 1 of what"),
    ("mean('t', x) > 1", "expected the name of a table"),
    ("x > 1", "compares|sides that are made from tables"),
    ("mean(t, x) + x > 1", "'x' in .* stands alone"),
    ("mean(t, x)", "compares nothing"),
    ("mean(t, x) > mean(t, y)", "has 2 sides that are made from tables"),
    ("mean(t, x) != 1", "compares with '!='"),
    ("mean(t, x) > 'a'", "is no number"),
    ("mean(t, x) > 1 / 0", "is no number"),
    ("1 < 2 < mean(t, x)", "sides"),
    ("mean(t, x) >", "cannot be read"),
    ("a = 1", "cannot be read"),
    ("\0", "cannot be read"),
    ("(" * 300, "cannot be read"),
    ("mean(t, x) > 1" + " " * 3000, "has 3014 characters"),
    ("mean(t, " + "+".join(["x"] * 300) + ") > 1", "more than 400 parts"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_claim_is_refused_in_one_sentence(text, why):
    with pytest.raises(ClaimError, match=why) as caught:
        expressions.prediction(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("count(t, n)", "is int64, expected a condition"),
        ("mean(t, model)", "is a text, expected a number"),
        ("count(t, model > 3)", "cannot be computed"),
        ("count(t, goud)", "the table has no column 'goud'; did you mean 'good'"),
        ("count(t, model + 1 == 2)", "cannot be computed"),
        ("count(t, n in ('a', 1) and begins(n, 'a') and n)", "expected a condition"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(text, why):
    with pytest.raises(ClaimError, match=why):
        measured(text)


NAMES = st.sampled_from(["x", "y", "n", "good", "model", "eval", "__builtins__"])
PARTS = st.recursive(
    NAMES | st.integers(-3, 3).map(str) | st.sampled_from(["'b'", "True", "None", "()", "{}", "..."]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "/", "and", "==", "in", "[", ".", "("]), inner).map(
        lambda p: f"({p[0]} {p[1]} {p[2]})"
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(PARTS)
def test_whatever_is_written_gives_a_number_or_one_sentence(part):
    try:
        assert isinstance(measured(f"count(t, {part})"), float)
    except ClaimError as cause:
        assert "\n" not in str(cause)


def test_columns_are_those_that_are_named():
    node = rows.row_expression("abs(x) > 1 and source(model) in ('n', 'y') or not good")
    assert rows.columns_of([node]) == ["x", "model", "good"]
    assert isinstance(node, ast.BoolOp)
