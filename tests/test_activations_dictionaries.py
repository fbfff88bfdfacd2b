"""Dictionaries: against toy models whose features are known, against other implementations, and what is refused."""

import itertools

import numpy as np
import pytest
import scipy.optimize
from toy_superposition import HIDDEN, present, toy

from universality.activations import bases
from universality.activations.dictionaries import non_negative, quality
from universality.activations.dictionaries.dictionary import Dictionary, largest
from universality.activations.dictionaries.dictionary import non_negative as codes_of
from universality.activations.dictionaries.kept import BasisRef, Source, learn
from universality.activations.dictionaries.sparse import sae
from universality.activations.dictionaries.spec import DictionarySpec
from universality.base.arrays import participation
from universality.base.errors import MeasureError, TapError


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.fixture(scope="module")
def learnt():
    """By sparsity of the toy and active directions: the dictionary of 20 directions, learnt from its hidden units."""
    return {
        (sparsity, active): sae([toy(sparsity)[1]], 20, active, 0, steps=600, batch=256)[0]
        for sparsity, active in ((0.0, 4), (0.9, 1), (0.9, 4))
    }


def recovered(features, dictionary):
    return (quality.cosines(present(features), dictionary.atoms) > 0.9).mean()


# toy models of superposition ------------------------------------------------------------------------------------------


def test_a_phase_change_with_sparsity_is_what_the_published_toy_shows():
    dense, sparse, sparser = (present(toy(sparsity)[0]) for sparsity in (0.0, 0.9, 0.97))
    # Dense features get a dimension each, and no more than fit; the sparser they are, the more share one.
    assert len(dense) == HIDDEN and quality.dimensionality(dense) == pytest.approx(np.ones(HIDDEN), abs=0.02)
    assert 2 * HIDDEN < len(sparse) < len(sparser) == 20
    assert quality.dimensionality(sparser).max() < 0.4 < 0.5 + 1e-6 > np.median(quality.dimensionality(sparse))
    shared = [len(of) / quality.dimensionality(of).sum() for of in (dense, sparse, sparser)]
    assert shared == sorted(shared) and shared[0] == pytest.approx(1, abs=0.02)
    assert quality.interference(dense) < 0.01 < quality.interference(sparser)


def test_sparse_features_in_superposition_are_recovered_and_dense_ones_are_not(learnt):
    assert recovered(toy(0.9)[0], learnt[0.9, 1]) >= 0.9
    assert recovered(toy(0.0)[0], learnt[0.0, 4]) <= 0.2


def test_variance_explained_is_no_sign_of_features_recovered(learnt):
    # Where the indices fail: more active directions than the input has describe more and find less; and of dense features nothing is found at a high R2.
    hidden = toy(0.9)[1].astype(np.float64)
    few, many = (quality.described(learnt[0.9, active], hidden) for active in (1, 4))
    assert many.r2 > few.r2 + 0.1
    assert recovered(toy(0.9)[0], learnt[0.9, 4]) < recovered(toy(0.9)[0], learnt[0.9, 1])
    assert quality.described(learnt[0.0, 4], toy(0.0)[1].astype(np.float64)).r2 > 0.9


def test_random_directions_describe_less(learnt):
    hidden = toy(0.9)[1]
    (null,) = sae([hidden], 20, 1, 0, steps=300, batch=512, frozen=True)
    assert (
        quality.described(null, hidden.astype(np.float64)).r2
        < quality.described(learnt[0.9, 1], hidden.astype(np.float64)).r2 - 0.1
    )
    assert np.linalg.norm(null.atoms, axis=1) == pytest.approx(np.full(20, np.linalg.norm(null.atoms[0])), rel=1e-4)


# sparse autoencoders --------------------------------------------------------------------------------------------------


def test_learning_is_repeatable_and_the_seed_decides():
    rows = toy(0.9)[1][:2000]
    first, again, other = (sae([rows], 12, 2, seed, steps=40, batch=128)[0] for seed in (0, 0, 1))
    assert np.array_equal(first.atoms, again.atoms) and not np.allclose(first.atoms, other.atoms)


@pytest.mark.parametrize("sparsity", ["topk", "batch_topk"])
def test_codes_are_as_few_as_asked_for_and_of_a_row_alone(sparsity):
    rows = toy(0.9)[1][:2000]
    (found,) = sae([rows], 12, 3, 0, steps=60, batch=128, sparsity=sparsity)
    codes = found.codes(rows.astype(np.float64))
    active = (codes > 0).sum(axis=1)
    assert codes.min() >= 0 and (
        active.max() <= 3 if sparsity == "topk" else active.mean() == pytest.approx(3, abs=0.05)
    )
    np.testing.assert_array_equal(codes[5:9], found.codes(rows[5:9].astype(np.float64)))


def test_a_universal_dictionary_shares_features_between_networks_that_hold_them():
    # Two networks hold the same features in other units; in a third order of the images they share nothing.
    x = np.maximum(normal(6000, 8) - 1.2, 0)
    x = x[x.any(axis=1)]
    a, b = normal(8, 10), normal(8, 12)
    rows = [(x @ a).astype(np.float32), (x @ b).astype(np.float32)]
    paired = sae(rows, 8, 2, 0, steps=600, batch=128)
    order = np.random.default_rng(0).permutation(len(x))
    exchanged = sae([rows[0], rows[1][order]], 8, 2, 0, steps=600, batch=128)

    def agree(found):
        first, second = (of.codes(of_rows.astype(np.float64)) for of, of_rows in zip(found, rows, strict=True))
        return np.median(
            [np.corrcoef(p, q)[0, 1] for p, q in zip(first.T, second.T, strict=True) if p.std() and q.std()]
        )

    assert agree(paired) > 0.8 > 0.3 > agree(exchanged)
    # The same index names the same feature in both.
    assert np.median(quality.cosines(a, paired[0].atoms)) > 0.8


def test_codes_are_those_of_another_implementation(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    # Its pictures, which nothing here needs, ask for a function that Matplotlib has no longer.
    monkeypatch.setattr(matplotlib.cm, "get_cmap", lambda name: matplotlib.colormaps[name], raising=False)
    overcomplete = pytest.importorskip("overcomplete.sae")
    import torch

    rows = toy(0.9)[1][:500]
    (ours,) = sae([rows], 12, 3, 0, steps=30, batch=128)
    theirs = overcomplete.TopKSAE(rows.shape[1], 12, top_k=3, encoder_module="linear")
    with torch.no_grad():
        linear = theirs.encoder.final_block[0]
        linear.weight.copy_(torch.from_numpy(ours.encoder))
        linear.bias.copy_(torch.from_numpy(ours.bias - ours.encoder @ ours.offset))
        theirs.eval()
        codes = theirs.encode(torch.from_numpy(rows))[1].numpy()
    np.testing.assert_allclose(ours.codes(rows.astype(np.float64)), codes, atol=1e-4)


# non-negative parts ---------------------------------------------------------------------------------------------------


def test_planted_parts_are_found():
    parts = np.maximum(normal(5, 16), 0)
    x = (np.maximum(normal(3000, 5) - 1.5, 0) @ parts).astype(np.float32)
    found = non_negative.nmf(x, 5, 0)
    assert quality.cosines(parts, found.atoms).min() > 0.9
    assert quality.described(found, x.astype(np.float64)).r2 > 0.99


def test_non_negative_codes_are_those_of_exact_least_squares():
    atoms, x = np.abs(normal(8, 20)), np.abs(normal(30, 20))
    exact = np.array([scipy.optimize.nnls(atoms.T, row)[0] for row in x])
    np.testing.assert_allclose(codes_of(x, atoms), exact, atol=1e-3)


# figures --------------------------------------------------------------------------------------------------------------


def test_dimensionality_of_known_arrangements():
    turn = 2 * np.pi * np.arange(5) / 5
    pentagon = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    assert quality.dimensionality(np.eye(3)) == pytest.approx(np.ones(3))
    assert quality.dimensionality(np.array([[2.0], [-2.0]])) == pytest.approx([0.5, 0.5])
    assert quality.dimensionality(pentagon) == pytest.approx(np.full(5, 0.4))
    assert np.isnan(quality.dimensionality(np.zeros((1, 3)))).all()


def test_spread_of_directions_and_of_variance():
    assert participation(np.array([[0.0, 3.0, 0.0], [1.0, 1.0, -1.0], [0.0, 0.0, 0.0]]), axis=1) == pytest.approx(
        [1, 3, np.nan], nan_ok=True
    )
    white = np.linalg.qr(normal(500, 4))[0]
    assert quality.dimensions(white) == pytest.approx(4, rel=0.05)
    assert np.isnan(quality.dimensions(np.ones((5, 2))))
    assert quality.interference(normal(300, 40)) == pytest.approx(1 / 40, rel=0.05)


def test_directions_are_paired_one_to_one_for_the_largest_sum():
    a, b = normal(4, 6), normal(4, 6, seed=1)
    unit_a, unit_b = (of / np.linalg.norm(of, axis=1)[:, None] for of in (a, b))
    best = max(sum(unit_a[i] @ unit_b[j] for i, j in enumerate(order)) for order in itertools.permutations(range(4)))
    assert quality.cosines(a, 3 * b).sum() == pytest.approx(best)
    assert np.isnan(quality.cosines(a, b[:2])).sum() == 2
    assert quality.stability([a, a[::-1]]) == pytest.approx(1) and np.isnan(quality.stability([a]))


def test_firing_together():
    answers = np.array([[0.5, 0.2, 0.0], [0.5, 0.0, 0.0]])
    assert quality.firing_entropy(answers) == pytest.approx([1, 0, np.nan], nan_ok=True)
    own, other = np.array([[1, 0], [1, 0], [0, 0]], bool), np.array([[1, 1], [0, 1], [1, 1]], bool)
    assert quality.cofiring(own, other) == pytest.approx([0.5, np.nan], nan_ok=True)


def test_largest_keeps_the_earlier_of_equals():
    np.testing.assert_array_equal(largest(np.array([[1.0, 3.0, 3.0, 2.0]]), 1), [[0, 3, 0, 0]])
    np.testing.assert_array_equal(largest(np.array([[1.0, 3.0]]), 5), [[1, 3]])


def test_a_random_basis_with_all_directions_describes_everything():
    x = normal(50, 6)
    assert quality.r2_of_random_basis(x, x, 6, 6, 0) == pytest.approx(1)
    assert quality.r2_of_random_basis(x, x, 6, 1, 0) < 0.9


def test_a_dictionary_survives_its_file():
    (found,) = sae([toy(0.9)[1][:500]], 7, 2, 0, steps=3, batch=64, sparsity="batch_topk")
    read = Dictionary.from_bytes(found.to_bytes())
    assert (read.encoding, read.active, read.threshold) == (found.encoding, found.active, found.threshold)
    np.testing.assert_array_equal(read.encoder, found.encoder)


# random bases of as many directions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [3, 8, 20])
def test_random_bases_have_as_many_directions_as_are_asked_for(directions):
    x = normal(40, 8)
    seen = bases.haar(2, 0, directions).seen(x)
    assert seen.shape == (40, directions)
    np.testing.assert_allclose(seen[:, : min(directions, 8)], bases.haar(2, 0).seen(x)[:, :directions])
    if directions > 8:  # those beyond are of another basis
        assert np.abs(np.corrcoef(seen.T)[0, 8:]).max() < 1 - 1e-6
    drawn = bases.directions_of(8, directions, 5)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=0), 1)


# bad input ------------------------------------------------------------------------------------------------------------


def reference(name, directions=12):
    return BasisRef(name, DictionarySpec(active=2, steps=2), directions, (Source("tap 'x' of 'y'", 5, ""),), 0)


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("sae", np.ones((11, 5)) + np.arange(5), "11 positions of natural images are fewer than the 12 directions"),
        ("sae", np.ones((30, 5)), "all units are constant over the natural images"),
        ("nmf", np.where(np.arange(150).reshape(30, 5) == 7, np.nan, 1.0), "hold NaN or infinite numbers"),
        ("nmf", np.arange(150).reshape(30, 5) - 3.0, "go down to -3, expected none below 0 for basis = 'nmf'"),
    ],
)
def test_what_has_no_dictionary_is_one_sentence(name, rows, said):
    with pytest.raises(TapError, match=said) as caught:
        learn(reference(name), [rows.astype(np.float32)], 0)
    assert str(caught.value).startswith("tap 'x' of 'y': ") and "\n" not in str(caught.value)


def test_a_dictionary_of_another_tap_is_one_sentence():
    found = non_negative.frozen(np.ones((4, 6), np.float32), 3, 0)
    with pytest.raises(
        MeasureError, match="a dictionary of 6 units is given activations of 9, expected those of the tap"
    ):
        found.codes(np.ones((2, 9)))
