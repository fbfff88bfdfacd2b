"""Published values of the measures on one fixed pair of matrices (30 samples, 25 units each).

The values are agreed on by several public implementations; see `golden/measures.json` for what each one is.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from universality.similarity import score

GOLDEN = json.loads((Path(__file__).parent / "golden" / "measures.json").read_text())


@pytest.fixture(scope="module")
def matrices():
    legacy = np.random.RandomState(0)  # the published inputs were drawn with NumPy's legacy generator
    return legacy.uniform(size=(30, 25)), legacy.uniform(size=(30, 25))


@pytest.mark.parametrize(("name", "expected"), GOLDEN["values"].items())
def test_published_value(name, expected, matrices):
    assert score(name, *matrices).value == pytest.approx(expected, abs=1e-9)


def test_matching_value_is_published_with_two_digits_exchanged(matrices):
    """The source prints ...454259 where NumPy's corrcoef with SciPy's assignment gives ...459254."""
    r = np.corrcoef(*matrices, rowvar=False)[:25, 25:]
    oracle = r[linear_sum_assignment(r, maximize=True)].mean()
    assert score("unit_match_hungarian", *matrices).value == pytest.approx(oracle, abs=1e-14)
    assert oracle == pytest.approx(GOLDEN["published_with_exchanged_digits"]["unit_match_hungarian"], abs=6e-9)


@pytest.mark.parametrize(("name", "wrong"), [(n, w) for n, ws in GOLDEN["known_wrong"].items() for w in ws])
def test_known_wrong_value_is_not_produced(name, wrong, matrices):
    assert abs(score(name, *matrices).value - wrong) > 1e-5
