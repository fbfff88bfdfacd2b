"""What differs between two networks, and similarity summed up by it."""

import itertools

import numpy as np
import pandas as pd
import pytest

from universality.atlas.groups import COLUMNS, GROUPS, at_taps, by_group, by_pair, relation
from universality.models import catalogue


@pytest.mark.parametrize(
    ("a", "b", "group"),
    [
        ("pocket/vgg-focus-s0", "pocket/vgg-focus-s1", "seed"),
        ("pocket/vgg-focus-s0", "pocket/alexnet-focus-s0", "architecture"),
        ("pocket/vgg-focus-s0", "pocket/alexnet-focus-s1", "architecture"),
        ("pocket/vgg-focus-s0", "pocket/vgg-sharp-s0", "diet"),
        ("pocket/vgg-focus-s1", "pocket/vgg-sharp-s0", "diet"),
        ("pocket/vgg-focus-s0", "pocket/vgg-focus-texture-s0", "task"),
        ("pocket/vgg-sharp-s0", "pocket/vgg-focus-texture-s0", "several of these"),
        ("pocket/vgg-sharp-s0", "pocket/resnet-focus-s0", "several of these"),
        ("package/efficientnet_lite0", "package/efficientnet_lite1", "architecture"),
        ("package/efficientnet_lite0", "pocket/vgg-focus-s0", "training set"),
    ],
)
def test_relation_names_what_differs(a, b, group):
    assert relation(catalogue.card(a), catalogue.card(b)) == relation(catalogue.card(b), catalogue.card(a)) == group


def similarity(pairs, depths_a=(0.2, 0.8), depths_b=(0.25, 0.7)):
    """A table whose value says which taps it is of: 10 i + j, plus 100 per pair."""
    rows = []
    for number, (a, b) in enumerate(pairs):
        for (i, x), (j, y) in itertools.product(enumerate(depths_a), enumerate(depths_b)):
            row = {
                "model_a": a,
                "model_b": b,
                "tap_a": f"a{i}",
                "tap_b": f"b{j}",
                "depth_a": x,
                "depth_b": y,
                "measure": "m",
            }
            rows.append(row | dict.fromkeys(COLUMNS, 100.0 * number + 10 * i + j))
    return pd.DataFrame(rows)


POCKET = [f"pocket/{a}-focus-s{s}" for a in ("alexnet", "vgg", "inceptionv1", "resnet") for s in (0, 1)]


def test_taps_of_like_depth_stand_for_a_pair_of_models():
    pairs = by_pair(similarity([("pocket/vgg-focus-s0", "pocket/vgg-focus-s1")]), catalogue.cards())
    assert pairs["value"].tolist() == [(0 + 11) / 2]  # a0 with b0, a1 with b1
    assert pairs["group"].tolist() == ["seed"]


def test_equally_near_taps_are_the_shallower_one():
    table = similarity([("pocket/vgg-focus-s0", "pocket/vgg-focus-s1")], (0.5,), (0.6, 0.4))
    assert by_pair(table, catalogue.cards())["value"].tolist() == [1.0]


def test_group_is_the_mean_of_its_pairs_within_its_interval():
    table = similarity(list(itertools.combinations(POCKET, 2)))
    pairs = by_pair(table, catalogue.cards())
    groups = by_group(pairs, bootstraps=300).set_index("group")
    assert set(groups.index) == {"seed", "architecture"}
    assert groups["pairs"].to_dict() == {"seed": 4, "architecture": 24}
    for name, row in groups.iterrows():
        members = pairs.loc[pairs["group"] == name, "value"]
        assert row["value"] == pytest.approx(members.mean())
        assert members.min() <= row["low"] <= row["value"] <= row["high"] <= members.max()
    assert list(pairs["group"].cat.categories) == list(GROUPS)


def test_interval_of_two_pairs_is_not_given():
    pairs = by_pair(similarity([(POCKET[0], POCKET[1]), (POCKET[2], POCKET[3])]), catalogue.cards())
    assert by_group(pairs)[["low", "high"]].isna().all(axis=None)


def test_interval_of_equal_pairs_is_a_point():
    table = similarity(list(itertools.combinations(POCKET[:4], 2))).assign(value=0.25)
    row = by_group(by_pair(table, catalogue.cards()), bootstraps=200).iloc[-1]
    assert (row["low"], row["high"]) == pytest.approx((0.25, 0.25))


def test_intervals_are_wider_than_those_of_independent_pairs():
    """Pairs of one outlying network share its error; resampling pairs would give too narrow an interval."""
    names = POCKET[:8]
    outlier = {(a, b): float(names[0] in (a, b)) for a, b in itertools.combinations(names, 2)}
    pairs = pd.DataFrame(
        {
            "model_a": [a for a, _ in outlier],
            "model_b": [b for _, b in outlier],
            "measure": "m",
            "group": "architecture",
        }
        | {name: list(outlier.values()) for name in COLUMNS}
    )
    row = by_group(pairs).iloc[0]
    independent = 1.96 * np.std(pairs["value"]) / np.sqrt(len(pairs))
    assert (row["high"] - row["low"]) / 2 > 1.3 * independent


def test_no_rows_of_an_empty_table_keep_their_columns():
    """A job that compares no pairs has such tables; reading a column of them works."""
    table = pd.DataFrame(columns=["model_a", "model_b", "tap_a", "tap_b", "value"])
    assert list(at_taps(table, table).columns) == list(table.columns)
