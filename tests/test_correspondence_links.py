"""Links between units of two layers: against brute force and planted truth."""

import numpy as np
import pytest
from zoos import latents, layer, zoo

from universality.activations.bases import haar
from universality.activations.layer import Halves
from universality.base import arrays
from universality.correspondence import random_bases, verdict
from universality.correspondence.census import count_links
from universality.correspondence.links import (
    ANY_UNIT,
    Block,
    Links,
    Marks,
    Resampling,
    Sight,
    View,
    candidates,
    rematched,
)


def view(natural, fold, marks=None):
    decide, score = (arrays.standardised(natural[fold == f]) for f in (0, 1))
    units = natural.shape[1]
    every = Marks(*np.ones((2, units), dtype=bool), np.full(units, np.nan))
    return View(Halves(np.arange(units), decide, score), marks or {ANY_UNIT: every})


def sight(natural, seed):
    """A layer and one random basis of it as views, and the bases to be exceeded."""
    made = layer("m/x", natural)
    own = natural @ arrays.haar_orthogonal(natural.shape[1], np.random.default_rng(seed))
    return Sight([view(natural, made.fold), view(own, made.fold)], random_bases.RandomBases.of(made, 20, seed)), made


@pytest.fixture(scope="module")
def halves():
    fold = np.arange(300) % 2
    return fold, Resampling.of(fold, np.arange(300), 1, 120, 0)


def test_any_unit_is_a_candidate_of_its_mutual_nearest_neighbour():
    r = np.array([[0.9, 0.2, 0.1], [0.8, 0.3, 0.4], [0.1, 0.7, 0.2]])
    marks = Marks(*np.ones((2, 3), dtype=bool), np.full(3, np.nan))
    assert candidates(r, ANY_UNIT, marks, marks).tolist() == [[0, 0], [2, 1]]
    some = np.array([False, True, True])
    assert candidates(r, ANY_UNIT, Marks(some, some, marks.angle_deg), marks).tolist() == [[2, 1]]


def test_detectors_are_candidates_within_their_best_and_near_in_orientation():
    r = np.array([[0.9, 0.5, 0.4, 0.3, 0.2]])
    one, none = np.ones(1, dtype=bool), np.zeros(5, dtype=bool)
    a = Marks(one, one, np.array([350.0]))
    of_b, angles = np.array([True, True, False, True, True]), np.array([9.0, 100.0, 350.0, 350.0, 350.0])
    b = Marks(of_b, of_b, angles)
    # The fourth and fifth are no more among the best three, the third is no detector, the second prefers 100 degrees.
    assert candidates(r, "curve", a, b).tolist() == [[0, 0]]
    assert candidates(r, "curve", a, Marks(none, none, angles)).shape == (0, 2)
    # A near miss may be the partner of a detector, not of another near miss.
    near = Marks(none, ~none, angles)
    assert candidates(r, "curve", a, near).tolist() == [[0, 0], [0, 2]]
    assert candidates(r, "curve", Marks(~one, one, a.angle_deg), near).shape == (0, 2)
    assert candidates(r, "curve", Marks(~one, one, a.angle_deg), b).tolist() == [[0, 0]]


@pytest.mark.parametrize("views", [(0, 0), (1, 0), (1, 1)])
def test_excess_is_over_the_best_partner_in_bases_of_either_layer(halves, views):
    """A view in a random basis is judged as the layer itself is: over the same bases, none of which it is."""
    fold, resampling = halves
    common = latents(6, 0, 300)
    a, b = (np.concatenate([common, latents(4, s, 300)], axis=1) + 0.3 * latents(10, s + 9, 300) for s in (1, 2))
    (of_a, layer_a), (of_b, layer_b) = sight(a, 5), sight(b, 6)
    links = Block(of_a, of_b, resampling).links([views])[0]
    x, y = of_a.views[views[0]].halves, of_b.views[views[1]].halves
    assert len(links.pairs) >= 2
    for (i, j), r, excess in zip(links.pairs, links.r, links.excess, strict=True):
        assert r == pytest.approx(np.corrcoef(x.score[:, i], y.score[:, j])[0, 1], abs=1e-12)
        levels = []
        for side, k, other, seed in ((x, i, layer_b, 6), (y, j, layer_a, 5)):
            for scaled in (other, other.standardised()):
                bases = [
                    view(scaled.in_basis(haar(number, seed)).natural, fold).halves
                    for number in range(random_bases.LEAST_BASES)
                ]
                of_bases = [
                    sign * (side.score[:, k] @ basis.score[:, np.argmax(sign * (side.decide[:, k] @ basis.decide))])
                    for basis in bases
                    for sign in (1, -1)
                ]
                levels.append(np.mean(of_bases))
        assert excess == pytest.approx(r - max(levels), abs=1e-6)
    assert (links.linked == ((links.excess_low > 0) & (links.excess_z > verdict.LEAST_Z))).all()
    if views == (0, 0):
        assert links.linked.any()
        assert (links.kept.mean(axis=0)[links.linked] > 0.5).all()


def test_rematching_is_matching_the_resampled_rows(halves):
    fold, resampling = halves
    # Rare large answers: lengths of the columns differ much from resample to resample.
    a, b = latents(7, 1, 300) ** 3, latents(9, 2, 300) ** 3
    b[:, :5] += a[:, :5]
    x, y = view(a, fold), view(b, fold)
    every = np.array([(i, j) for i in range(7) for j in range(9)])
    rule = np.where(np.arange(63) % 2 == 0, ANY_UNIT, "curve")
    links = Links(rule, every, *np.zeros((4, 63)), np.zeros((120, 63), dtype=bool), np.zeros(63, dtype=bool))
    again = rematched(x, y, links, resampling)
    for place in range(0, 120, 4):
        rows = np.repeat(np.arange(150), resampling.decide_weights[place].astype(int))
        r = np.corrcoef(x.halves.decide[rows].T, y.halves.decide[rows].T)[:7, 7:]
        for (i, j), kind, got in zip(every, rule, again[place], strict=True):
            k = 1 if kind == ANY_UNIT else verdict.TOP_K
            assert got == ((r[i] > r[i, j]).sum() < k and (r[:, j] > r[i, j]).sum() < k)


def test_unit_that_does_not_vary_in_a_resample_matches_nothing_there():
    fold = np.arange(40) % 2
    spiky = np.zeros((40, 1))
    spiky[[0, 1]] = 1.0  # one image of each fold
    a = np.concatenate([spiky, latents(3, 1, 40)], axis=1)
    resampling = Resampling.of(fold, np.arange(40), 1, 200, 0)
    x = view(a, fold)
    links = Links(
        np.array([ANY_UNIT]), np.array([[0, 0]]), *np.zeros((4, 1)), np.zeros((200, 1), dtype=bool), np.zeros(1, dtype=bool)
    )  # fmt: skip
    drawn = resampling.decide_weights[:, 0] > 0
    assert (rematched(x, x, links, resampling)[:, 0] == drawn).all()
    assert 0.5 < drawn.mean() < 0.8


def test_shared_units_are_linked_and_others_are_not():
    layers, places = zoo(("m/a", "m/b"), units=30, shared=15)
    found = count_links(layers, [("m/a", "m/b")], (), resamples=50).edges
    own = found[(found["basis_a"] == -1) & (found["basis_b"] == -1) & found["linked"].astype(bool)]
    truth = set(zip(places["m/a"].tolist(), places["m/b"].tolist(), strict=True))
    assert set(zip(own["unit_a"], own["unit_b"], strict=True)) == truth


def test_bases_are_each_layers_own():
    """Two layers that hold the same units in the same order must not be turned by the same rotation."""
    values = latents(12, 0)
    layers = [layer("m/a", values), layer("m/b", values)]
    found = count_links(layers, [("m/a", "m/b")], (), resamples=50).edges
    turned = found[(found["basis_a"] >= 0) & (found["basis_b"] == found["basis_a"])]
    assert turned["r"].max() < 0.95
    # A basis is above others in one of twenty cases.
    assert turned["linked"].mean() <= 0.1


def test_census_does_not_depend_on_the_order_of_layers():
    layers, _ = zoo(("m/a", "m/b", "m/c"), units=12, shared=5)
    pairs = [("m/a", "m/b"), ("m/b", "m/c"), ("m/a", "m/c")]
    plain = count_links(layers, pairs, (), bases=1, resamples=50)
    turned = count_links(layers[::-1], pairs[::-1], (), bases=1, resamples=50)
    key = ["model_a", "model_b", "basis_a", "basis_b", "unit_a", "unit_b"]
    columns = [*key, "r", "excess", "excess_low", "linked"]
    one, two = (t.edges[columns].sort_values(key).reset_index(drop=True) for t in (plain, turned))
    assert one.equals(two)
    assert plain.rematched.sum() == turned.rematched.sum()
