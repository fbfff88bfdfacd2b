"""Ablations, attributions and patches in networks where the cause is known by construction."""

import numpy as np
import pandas as pd
import pytest
import torch
from tapped import tap_at
from torch import nn

from universality.base.errors import TapError
from universality.causes import patches
from universality.causes.ablations import Ablation, ablation_rows, nearest, random_sets, shared
from universality.causes.attributions import attribution_rows
from universality.causes.passes import Passes
from universality.causes.patches import Patching
from universality.causes.plan import BASES, RANDOM_SETS, CausePlan
from universality.models.pocket import shapes

UNITS, N = 12, 24
PLAN = CausePlan(N, (), 0)
CLASSES = ("zero", "one")


class Planted(nn.Module):
    """Unit k is channel k of the image; the log odds of class 1 are the mean of unit 1 less that of unit 0, others are not read."""

    def __init__(self):
        super().__init__()
        self.units = nn.Conv2d(UNITS, UNITS, 1, bias=False)
        self.next = nn.Conv2d(UNITS, 3, 1, bias=False)
        with torch.no_grad():
            self.units.weight.copy_(torch.eye(UNITS)[:, :, None, None])
            self.next.weight.zero_()
            self.next.weight[0, 0] = self.next.weight[1, 1] = 4.0

    def forward(self, x):
        return self.next(self.units(x)).mean((2, 3))[:, :2]


TAP, NEXT = tap_at("units", channels=UNITS, size=4), tap_at("next", channels=3, size=4)


def shown(seed):
    """Images (image, channel, y, x) whose class decides which of the first two channels is on."""
    images = np.random.default_rng(seed).random((N, UNITS, 4, 4)).astype(np.float32)
    labels = np.arange(N) % 2
    for k in (0, 1):
        images[:, k] = np.where(labels == k, 1.0, 0.0)[:, None, None]
    return images, labels


@pytest.fixture(scope="module")
def tables():
    images, labels = shown(0)
    passes = Passes(Planted().eval(), TAP, NEXT, images)
    families = {"causes": np.array([0, 1]), "idle": np.array([5, 6, 7])}
    found = ablation_rows(passes, labels, CLASSES, families, PLAN, {})
    return {name: pd.DataFrame(rows) for name, rows in found.items()}, passes, labels


def test_units_that_nothing_reads_cost_nothing_in_any_way_of_removing(tables):
    rows = tables[0]["ablations"]
    idle = rows[(rows["unit"] >= 2) | (rows["family"] == "idle")]
    assert set(rows["base"]) == set(BASES) and len(idle) == 3 * (UNITS - 2 + 1)
    assert (idle[["d_loss", "kl", "d_accuracy", "next_change"]] == 0).all(axis=None)
    assert (idle["edit_norm"] > 0).all() and (idle["class_hit"] == "").all()


def test_the_cause_is_found_its_class_is_named_and_random_units_do_nothing(tables):
    rows = tables[0]["ablations"].set_index(["what", "unit", "family", "base"])
    one = rows.loc["unit", 1, "causes", "zero"]
    # Without unit 1 the log odds of class-1 images fall from 4 to 0.
    np.testing.assert_allclose(one["d_loss"], 0.5 * (np.log(2) - np.log1p(np.exp(-4))), rtol=1e-5)
    assert (
        one["class_hit"] == "one"
        and one["d_accuracy_class"] == -1
        and one["d_accuracy"] == -0.5
        and one["next_unit"] == 1
    )
    family = rows.loc["family", -1, "causes", "mean"]
    assert (
        family["d_loss"] > 0.6
        and family["d_loss_random_95"] == 0
        and family["d_loss_norm"] == 0
        and family["n_random"] > 0
    )
    assert family["d_loss_low"] <= family["d_loss"] <= family["d_loss_high"]
    classes = tables[0]["ablation_classes"]
    hit = classes[(classes["unit"] == 1) & (classes["base"] == "zero")].set_index("class")["d_accuracy"]
    assert hit["one"] == -1 and hit["zero"] == 0


def test_the_divergence_is_that_of_the_two_answers(tables):
    _, passes, labels = tables
    of = Ablation(passes, labels, CLASSES, "zero", 0)
    found = of.removed(np.array([0])).cost["kl"]
    intact = torch.from_numpy(passes.intact.log_p)
    maps = passes.maps.clone()
    maps[:, 0] = 0
    edited = torch.from_numpy(passes.with_maps(maps).log_p)
    expected = nn.functional.kl_div(edited, intact, log_target=True, reduction="none").sum(1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_random_sets_are_of_like_activity_and_of_other_units():
    values = np.arange(40.0)
    sets = random_sets(values, np.array([10, 11, 30]), seed=0)
    for some in sets:
        assert len(np.unique(some)) == 3 and not {10, 11, 30} & set(some.tolist())
        assert (some < 20).sum() == 2 and (some > 20).sum() == 1
    assert random_sets(values[:5], np.arange(5), seed=0) == []
    assert sorted(nearest(values, 0, np.arange(40)).tolist()) == list(range(1, 9))


def test_random_sets_of_a_family_of_more_than_half_of_a_layer_are_of_all_its_units():
    values, family = np.arange(10.0), np.arange(7)
    sets = random_sets(values, family, seed=0)
    assert len(sets) == RANDOM_SETS and all(len(np.unique(some)) == 7 for some in sets)
    # Seven of ten units, of which three are no others': four to seven of the family's own.
    own = [np.isin(some, family).sum() for some in sets]
    assert {4} <= set(own) <= {4, 5, 6, 7} and shared(sets, family) == np.mean(own)
    assert shared(random_sets(np.arange(40.0), family, seed=0), family) == 0 and np.isnan(shared([], family))


def test_attribution_finds_the_effects_of_a_linear_loss(tables, monkeypatch):
    _, passes, labels = tables
    of = Ablation(passes, labels, CLASSES, "zero", 0)
    effects = np.linspace(-1, 2, UNITS)

    class Linear:
        base = "zero"

        def removed(self, units):
            loss = float(effects[units].sum())
            return type("Removed", (), {"means": {"loss": loss}})

    rows = pd.DataFrame(attribution_rows(Linear(), effects, PLAN, {}))
    known = rows["effect"].notna().to_numpy()
    assert known.sum() >= UNITS - 1
    np.testing.assert_allclose(rows["effect"][known], effects[known], atol=0.05)
    assert (
        (rows["r_held_out"] > 0.95).all()
        and (rows["r_single"] > 0.999).all()
        and (rows["r_held_out_shuffled"] < 0.9).all()
    )
    real = pd.DataFrame(attribution_rows(of, np.zeros(UNITS), PLAN, {}))
    assert real["effect"].abs().idxmax() == 1  # unit 0, the other cause, was in no ablation that was fitted
    assert np.isnan(real["effect"][0])
    assert attribution_rows(of, np.zeros(500), PLAN, {}) == []


@pytest.fixture(scope="module")
def patched():
    clean, labels = shown(0)
    corrupted, _ = shown(1)
    corrupted[:, :2] = clean[:, [1, 0]]
    of = Patching.of(Planted().eval(), TAP, clean, corrupted, labels)
    return pd.DataFrame(of.rows({"causes": np.array([0, 1]), "idle": np.array([4, 5])}, PLAN, {}))


def test_patching_restores_the_answer_at_the_cause_alone(patched):
    rows = patched.set_index(["what", "unit", "family"])
    assert (rows["n_pairs"] == N).all()
    for where in (("layer", -1, ""), ("family", -1, "causes")):
        assert rows.loc[where, "restored"] == pytest.approx(1) and rows.loc[where, "answered"] == 1
    # Each of the two causes restores one half.
    np.testing.assert_allclose(rows.loc["unit"].loc[[0, 1], "restored"], 0.5, rtol=1e-6)
    assert set(rows.loc["unit"].loc[[0, 1], "rank"]) == {1, 2}
    assert (rows.loc["unit"].loc[2:, "restored"] == 0).all() and rows.loc[("family", -1, "idle"), "restored"] == 0
    assert rows.loc[("layer", -1, ""), "restored_other"] < 0.7
    assert rows.loc[("family", -1, "causes"), "restored_random_95"] == 0


def test_pairs_that_are_answered_alike_do_not_count():
    clean, labels = shown(0)
    rows = Patching.of(Planted().eval(), TAP, clean, clean, labels).rows({}, PLAN, {})
    assert len(rows) == 1 and rows[0]["n_pairs"] == 0 and np.isnan(rows[0]["restored"])


@pytest.mark.parametrize("parameter", patches.PARAMETERS)
def test_pairs_of_drawn_images_differ_in_one_parameter(parameter):
    clean, corrupted = patches.pairs(parameter, 12, 0, "focus")
    differ = {name for name in clean if not np.array_equal(clean[name], corrupted[name], equal_nan=True)}
    assert (
        differ
        == {
            "shape": {"shape"},
            "texture": {"figure_frequency_cpp", "figure_orientation_deg"},
            "defocus": {"defocus_sigma_px"},
        }[parameter]
    )
    assert (shapes.render(clean) != shapes.render(corrupted)).any(axis=(1, 2, 3)).all()


def test_values_of_another_shape_and_outputs_without_classes_are_one_sentence(tables):
    with pytest.raises(TapError, match=r"values for 1 unit\(s\) of 'units' have the shape"):
        tables[1].with_units([0], torch.zeros(N, 1, 2, 2))
    network = nn.Sequential(nn.Conv2d(UNITS, UNITS, 1))
    with pytest.raises(TapError, match=r"expected \(image, class\)"):
        Passes(network, tap_at("0", channels=UNITS, size=4), None, shown(0)[0])
    with pytest.raises(TapError, match="an edit of 'units' made the network's output infinite or NaN"):
        tables[1].with_units([0], torch.full((N, 1, 4, 4), 1e38) * 100)
