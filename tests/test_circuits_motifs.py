"""Motifs on planted weights and networks that have them, and on others that have not."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.stats import hypergeom
from torch import nn

from universality.activations.bases import orthonormal
from universality.activations.layer import Layer, LayerRef
from universality.base.discovery import false_discovery
from universality.base.errors import MeasureError
from universality.circuits import branches, cases, equivariance, layouts, motifs, superposition
from universality.circuits.expanded import weights_into
from universality.circuits.motif_tables import LATER, MOTIF_TABLES
from universality.circuits.pairs import Ends
from universality.circuits.plan import CircuitPlan
from universality.circuits.profiles import Units, rms
from universality.models.receptive_field import describe_tap
from universality.report import motif_sentences
from universality.runs.run import Run

STRIDE = 4.0
RNG = np.random.default_rng


def field(values):
    """Weights (target, source, y, x) around the middle of a field."""
    values = np.asarray(values, dtype=np.float32)
    offsets = (np.arange(values.shape[2]) - values.shape[2] // 2) * STRIDE
    return xr.DataArray(
        values, dims=("unit_b", "unit_a", "dy", "dx"),
        coords={"unit_b": np.arange(len(values)), "unit_a": np.arange(values.shape[1]), "dy": offsets, "dx": offsets},
    )  # fmt: skip


def car(noise=0.3, sources=40):
    """One unit that windows (0 to 5) excite above and inhibit below, wheels (6 to 11) the other way; the rest is noise."""
    values = noise * RNG(0).standard_normal((1, sources, 5, 5))
    values[0, :6, :2] += 1.0
    values[0, :6, 3:] -= 1.0
    values[0, 6:12, :2] -= 1.0
    values[0, 6:12, 3:] += 1.0
    return field(values)


def test_windows_are_above_and_wheels_below():
    for group, degrees in ((range(6), 270.0), (range(6, 12), 90.0)):
        found = layouts.layout(car(), list(group)).summary()
        assert abs(found["side_deg"] - degrees) < 10  # y points down
        # Two rows of +1 at -8 and -4 px, two of -1 opposite: the mean offset of |weight| is 6 px.
        assert found["side_px"] == pytest.approx(6.0, abs=0.8)
        assert found["asymmetry"] > 0.9 > found["asymmetry_null_95"] and found["p_asymmetry"] <= 0.01


def test_labels_that_mean_nothing_are_called_chance_as_often_as_they_should():
    values = field(RNG(1).standard_normal((1, 60, 5, 5)))
    p = [layouts.layout(values, RNG(k).choice(60, 8, replace=False), draws=99, seed=k).summary() for k in range(120)]
    for name in ("p_weight", "p_asymmetry"):
        assert 0.0 <= np.mean([of[name] <= 0.05 for of in p]) < 0.12
        assert 0.35 < np.mean([of[name] for of in p]) < 0.65


def test_a_null_keeps_the_norms_of_the_group():
    values = RNG(2).standard_normal((3, 30, 3, 3))
    values[:, :5] *= 10
    found = layouts.layout(field(values), range(5), draws=199)
    spread = np.square(found.drawn).mean()
    # Five weights of size 10 average to 100 / 5 per target, and over three targets to a third of that; nine of 25 squares hold any.
    assert spread == pytest.approx(100 / 15 * 9 / 25, rel=0.2)


def test_frames_are_the_targets_own():
    values = np.zeros((4, 12, 5, 5))
    for target, (row, column) in enumerate([(2, 4), (4, 2), (2, 0), (0, 2)]):  # right, below, left, above
        values[target, :3, row, column] = 1.0
    values[:, 3:] = 0.1 * RNG(3).standard_normal((4, 9, 5, 5))
    turned = layouts.layout(field(values), range(3), [0.0, 90.0, 180.0, 270.0])
    assert turned.side[0] == pytest.approx(0.0, abs=1e-6) and turned.side[1] == pytest.approx(8.0)
    straight = layouts.layout(field(values), range(3))
    assert straight.side[1] == pytest.approx(0.0, abs=1e-6)
    axis = layouts.layout(field(values), range(3), [0.0, 90.0, 180.0, 270.0], axis=True)
    assert np.isnan([*axis.side, axis.asymmetry]).all()
    np.testing.assert_allclose(axis.map, (turned.map + turned.map[::-1, ::-1]) / 2)


def test_groups_that_cannot_be_are_refused():
    with pytest.raises(MeasureError, match="holds no unit, expected some of the 40 units of tap A"):
        layouts.layout(car(), [])
    with pytest.raises(MeasureError, match="holds unit 41, which the tap has not"):
        layouts.layout(car(), [3, 41])
    with pytest.raises(MeasureError, match="no source beside the group has weights"):
        layouts.layout(car(), range(40))


# equivariance ---------------------------------------------------------------------------------------------------------

ANGLES = Units(np.arange(24), np.arange(24) * 15.0)


def test_a_circulant_tensor_has_share_one_and_noise_what_its_cells_say():
    rng = RNG(0)
    row = rng.normal(size=8)
    assert equivariance.circulant_share(np.stack([np.roll(row, k) for k in range(8)])) == pytest.approx(1.0)
    # Of noise one part in as many as there are differences, less the mean.
    shares = [equivariance.circulant_share(rng.normal(size=(8, 8))) for _ in range(400)]
    assert np.mean(shares) == pytest.approx(7 / 63, abs=0.01)
    assert np.isnan(equivariance.circulant_share(np.ones((4, 4))))
    # With places: each has its own mean, which is not variance.
    tensor = np.stack([np.roll(row, k) for k in range(8)])[..., None] * np.array([1.0, -2.0]) + np.array([5.0, 0.0])
    assert equivariance.circulant_share(tensor) == pytest.approx(1.0)
    with pytest.raises(MeasureError, match=r"tensor has shape \(2, 3\), expected \(bin, bin, ...\)"):
        equivariance.circulant_share(np.ones((2, 3)))


def test_cells_without_units_do_not_count():
    row = RNG(0).normal(size=8)
    matrix = np.stack([np.roll(row, k) for k in range(8)])
    matrix[2], matrix[:, 5] = np.nan, np.nan
    assert equivariance.circulant_share(matrix) == pytest.approx(1.0)
    assert np.isnan(equivariance.circulant_share(np.full((8, 8), np.nan)))


def test_weights_by_difference_are_above_exchanged_angles_and_others_are_not():
    turn = np.deg2rad(ANGLES.angle_deg[None] - ANGLES.angle_deg[:, None])
    bins = equivariance.bins_of(ANGLES)
    noise = RNG(4).standard_normal((2, 24, 24))
    wired = equivariance.summary(np.cos(turn) + 0.5 * noise[0], bins, bins, RNG(0), "share")
    assert wired["share"] > 0.8 > wired["share_permuted_95"] and wired["p_share"] == pytest.approx(1 / 400)
    none = equivariance.summary(noise[1] + np.arange(24), bins, bins, RNG(0), "share")
    assert none["p_share"] > 0.05


# superposition --------------------------------------------------------------------------------------------------------


def test_participation_ratio_of_one_of_all_and_of_half():
    ratios = superposition.participation_ratio(np.array([[1.0, 2, 3, 0], [0, 2, 3, 0], [0, 2, 0, 0], [0, 2, 0, 0]]))
    np.testing.assert_allclose(ratios, [0.25, 1.0, 0.5, np.nan])
    tiny = superposition.participation_ratio(np.full((4, 1), 1e-120))
    np.testing.assert_allclose(tiny, 1.0)


def test_a_family_that_few_units_read_is_below_other_units():
    strengths = np.abs(RNG(0).standard_normal((64, 40)))
    strengths[8:, :6] *= 0.02
    found = superposition.summary(strengths, range(6), RNG(1))
    assert found["ratio"] < 0.15 < found["ratio_random_low"] and found["p"] == pytest.approx(1 / 400)
    assert superposition.summary(strengths, range(20, 30), RNG(1))["p"] > 0.01


# branches -------------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Three branches joined along the channels, the last of two of them."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.three = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 8, 1),
            nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 3, padding=1)),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 4, 1))
        self.block = _Joined(self)

    def forward(self, images):
        return self.block(self.stem(images))


class _Joined(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.one, self.three, self.pool = of.one, of.three, of.pool

    def forward(self, maps):
        return torch.cat([self.one(maps), self.three(maps), self.pool(maps)], 1)


def test_branches_are_found_from_what_modules_give():
    torch.manual_seed(0)
    network = Block()
    found = branches.branches(network, describe_tap(network, "block", (3, 16, 16)), (3, 16, 16))
    assert [(of.path, of.start, of.stop) for of in found] == [("one", 0, 8), ("three", 8, 20), ("pool", 20, 24)]
    assert branches.branches(network, describe_tap(network, "stem", (3, 16, 16)), (3, 16, 16)) == []
    assert not network.block._forward_hooks


def test_a_family_in_one_branch_has_the_hypergeometric_chance():
    found = [branches.Branch("one", 0, 8), branches.Branch("three", 8, 20), branches.Branch("pool", 20, 24)]
    rows = branches.branch_rows(found, [8, 9, 10, 11, 12], np.arange(23)).set_index("branch")
    assert rows["n_units"].tolist() == [8, 12, 3] and rows["n_detectors"].tolist() == [0, 5, 0]
    # All five of 23 drawn from the twelve.
    expected = np.prod([(12 - k) / (23 - k) for k in range(5)])
    assert rows.loc["three", "p"] == pytest.approx(expected) == pytest.approx(hypergeom.pmf(5, 23, 5, 12))
    assert rows.loc["one", "p"] == 1.0 and rows["share_expected"].sum() == pytest.approx(1.0)


# cases ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4])
def test_planted_clusters_are_counted(count):
    rng = RNG(count)
    middles, of = rng.standard_normal((count, 40)), np.arange(48) % count
    found = cases.clusters(middles[of] + 0.3 * rng.standard_normal((48, 40)))
    assert found.count == count and found.index < found.index_null_5
    # The same points together, whatever the clusters are called.
    assert len(set(zip(of.tolist(), found.label.tolist(), strict=True))) == count
    assert (np.diff(np.bincount(found.label)) <= 0).all()


def test_one_gaussian_is_one_case():
    scale = np.r_[3.0, 2.0, np.ones(28)]
    p = [cases.clusters(RNG(k).standard_normal((40, 30)) * scale, k, draws=99).p for k in range(30)]
    assert np.mean(np.array(p) <= 0.05) <= 0.1
    same = cases.clusters(np.ones((25, 4)))
    assert same.count == 1 and np.isnan(same.p)
    with pytest.raises(MeasureError, match="5 points are too few for clusters, expected 20 or more"):
        cases.clusters(np.ones((5, 2)))


def test_exclusion_is_mutual():
    left, right = np.array([[1.0], [0], [-1], [0]]), np.array([[-1.0], [0], [1], [0]])
    assert cases.exclusion(left, right) == pytest.approx(0.5**0.5)
    # One inhibits the other, which does not mind.
    assert cases.exclusion(left, np.array([[0.0], [0], [1], [0]])) == pytest.approx(0.0)
    assert cases.exclusion(left, left) < 0
    assert np.isnan(cases.exclusion(left, np.zeros((4, 1))))


def test_units_between_that_are_the_same_in_both_cases_do_not_meet():
    case = np.arange(40) % 2 == 0
    apart = np.stack([case, ~case], axis=1).astype(float)
    assert cases.meeting([1.0, 1.0], apart, case) == pytest.approx(0.5)
    assert cases.meeting([1.0, -1.0], apart, case) == 0.0  # one of them does not excite the unit
    assert cases.meeting([1.0, 1.0], np.ones((40, 2)), case) == 0.0


def dog(mutual, apart=True, noise=12):
    """Sources 0, 1 are a head to the left, 2, 3 one to the right, the rest noise; two units between add up to the unit.

    mutual : whether each unit between is inhibited by the other side
    apart : whether the unit between has a case of its own; without, both sides excite both, and there is one case
    """
    rng = RNG(7)
    middle = 0.02 * rng.standard_normal((8, 4 + noise, 1, 1))
    other = -1.0 if mutual else 0.0
    middle[0, :4, 0, 0], middle[1, :4, 0, 0] = (
        ([1, 1, other, other], [other, other, 1, 1]) if apart else ([1, 1, 1, 1], [1, 1, 1, 1])
    )
    last = 0.02 * np.abs(rng.standard_normal((1, 8, 1, 1)))
    last[0, :2] = 1.0
    network = (
        nn.Sequential(
            nn.Conv2d(4 + noise, 4 + noise, 1, bias=False),
            nn.Conv2d(4 + noise, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, 1, 1),
            nn.ReLU(),
        )
        .eval()
        .requires_grad_(False)
    )
    network[1].weight.data, network[3].weight.data = (torch.tensor(of, dtype=torch.float32) for of in (middle, last))
    network[0].weight.data[:, :, 0, 0] = torch.eye(4 + noise)
    network[1].bias.data[:] = -0.1
    network[3].bias.data[:] = 0
    return network


def heads(count, noise=12):
    """Images of one pixel a source: a head on one side, and noise."""
    rng = RNG(3)
    images = np.abs(0.3 * rng.standard_normal((count, 4 + noise, 1, 1)))
    images[np.arange(count), 2 * (np.arange(count) % 2)] += 1.0
    images[np.arange(count), 2 * (np.arange(count) % 2) + 1] += 1.0
    return images.astype(np.float32)


def dog_table(network, count=120, order=None):
    """The table of cases; `order`: the sources are seen in a basis that exchanges them."""
    images = heads(count)
    size = images.shape[1:]
    taps = [describe_tap(network, path, size) for path in ("0", "2", "4")]
    maps = [network[: int(tap.name) + 1](torch.tensor(images)).double().numpy()[:, :, 0, 0] for tap in taps]
    far, near, top = (
        Layer(LayerRef("dog", None, tap, "", {}), of, np.arange(count) % 2, np.arange(count), {})
        for tap, of in zip(taps, maps, strict=True)
    )

    if order is not None:
        exchanged = orthonormal("exchanged", np.eye(far.natural.shape[1])[:, order])
        far = replace(far, natural=exchanged.seen(far.natural), basis=exchanged)

    def weights(a, b, directions, at=None):
        return weights_into(network, a, b, directions, size, "dog", at)

    def gradients(a, b, directions, numbers):
        for number in numbers:
            yield weights(a, b, directions, images[[number]])

    detector = {"family": Units(np.array([0]), np.array([0.0]))}
    own, carried = (Ends(of, top, weights, (weights,), {}, detector) for of in (far, near))
    rows = motifs.case_table(far, carried, own, gradients, CircuitPlan(("family",), 0))
    return motifs.finished("cases", rows)


@cache
def planted(mutual=True, apart=True):
    return dog_table(dog(mutual, apart))


def test_the_dog_head_is_found_where_it_is():
    rows = planted()
    assert rows["verdict"].tolist() == ["excluding_cases_that_meet"] * 2 and rows["n_cases"].tolist() == [2, 2]
    assert (
        rows["exclusion"].iloc[0] > rows["exclusion_null_95"].iloc[0]
        and rows["meeting"].iloc[0] > 3 * rows["meeting_null_95"].iloc[0]
    )
    # Each case is excited by its side and inhibited by the other.
    for sources, weights in zip(rows["sources"], rows["source_weights"], strict=True):
        sign = dict(zip(sources.astype(int), np.sign(weights), strict=True))
        assert {sign[0], sign[1]} == {sign[0]} and {sign[2], sign[3]} == {-sign[0]}


def units_of(rows):
    """The units of the dog's network: its head, which is no detector of another family, and two units of the tap before."""
    units = pd.DataFrame(
        [("dog", -1, "4", "family", 0), ("dog", -1, "4", "other", 0), ("dog", -1, "2", "family", 0), ("dog", -1, "2", "family", 1)],
        columns=["model", "seed", "tap", "family", "unit"],
    )  # fmt: skip
    ratios = pd.DataFrame([("dog", "2", 1, 0.5, 0.25)], columns=motifs.RATIOS)
    return units, motifs.finished("units_motifs", motifs.unit_table(units, ratios, rows))


def test_images_of_a_case_are_those_that_were_planted():
    rows, network = planted(), dog(mutual=True)
    answers = network(torch.tensor(heads(120)))[:, 0, 0, 0].double().numpy()
    sides = [set(images.astype(int) % 2) for images in rows["images"]]
    assert sides in ([{0}, {1}], [{1}, {0}])  # every second image has its head to the right
    shown = np.concatenate(rows["images"].tolist()).astype(int)
    assert set(shown) == set(np.argsort(-answers, kind="stable")[: motifs.CASE_IMAGES])
    for _, row in rows.iterrows():
        own = answers[row["images"].astype(int)]
        assert len(own) == row["n_images"] and (np.diff(own) <= 0).all()
        np.testing.assert_allclose(row["answers_sigma"], own / answers.std())


def test_units_have_their_cases_beside_them(tmp_path):
    rows = planted()
    units, found = units_of(rows)
    assert list(found) == MOTIF_TABLES["units_motifs"].names and len(found) == len(units)
    np.testing.assert_array_equal(found["n_cases"], [2, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(found["n_case_images"], [rows["n_shown"].iloc[0], np.nan, np.nan, np.nan])
    assert found["q_cases"][0] == rows["q"].iloc[0] <= 0.05 and found["case_index"][0] < found["case_index_null_5"][0]
    np.testing.assert_array_equal(found["participation_ratio"], [np.nan, np.nan, np.nan, 0.5])
    np.testing.assert_array_equal(found["participation_ratio_random"], [np.nan, np.nan, np.nan, 0.25])
    one = units_of(planted(apart=False))[1]
    assert one["n_cases"][0] == 1 and one["n_case_images"][0] == motifs.CASE_IMAGES
    # A run offers them with its units; the twin's were not asked for.
    twin = units.assign(seed=0)
    tables = {"units": pd.concat([twin, units], ignore_index=True), "units_motifs": found}
    record = {"tables": {f"{name}.parquet": "" for name in tables}}
    offered = Run(tmp_path, record, tables=tables).units
    assert offered["n_cases"].isna().tolist() == [True] * 4 + [False] + [True] * 3 and len(offered) == 8
    assert list(Run(tmp_path, {"tables": {"units.parquet": ""}}, tables=tables).units) == list(units)


def test_cases_are_the_same_in_a_basis_that_exchanges_the_sources():
    order = RNG(1).permutation(16)
    units, seen = planted(), dog_table(dog(mutual=True), order=order)
    for a, b in zip(units.to_dict("records"), seen.to_dict("records"), strict=True):
        assert b["verdict"] == a["verdict"] and b["images"].tolist() == a["images"].tolist()
        # Source k of the basis is the unit order[k].
        assert set(order[b["sources"][:4].astype(int)]) == set(a["sources"][:4].astype(int)) == {0, 1, 2, 3}


def test_a_union_without_inhibition_and_a_unit_of_one_case_are_no_dog_heads():
    union = planted(mutual=False)
    assert not (union["verdict"] == "excluding_cases_that_meet").any() and not (union["exclusion"] > 0.05).any()
    one = planted(apart=False)
    assert one["verdict"].tolist() == ["one_case"]


def test_too_few_images_are_said():
    (row,) = cases.case_rows(np.zeros((30, 4, 1)), None)
    assert row["n_cases"] == 0 and row["n_silent"] == 30


# of a layer -----------------------------------------------------------------------------------------------------------


def wired_ends(seed, order=True):
    """Thirty-two sources and sixteen targets whose weights follow the cosine of the difference of their angles, or not."""
    rng = RNG(seed)
    sources, targets = np.tile(np.arange(8) * 45.0, 4), np.tile(np.arange(8) * 45.0, 2)
    values = 0.5 * rng.standard_normal((16, 40, 3, 3))
    if order:
        values[:, :32] += np.cos(np.deg2rad(sources[None] - targets[:, None]))[:, :, None, None]
    weights = field(values)
    answers = rng.standard_normal((200, 40))
    tap = describe_tap(nn.Sequential(nn.Conv2d(3, 40, 1)), "0", (3, 8, 8))
    layer, top = (
        Layer(LayerRef("m", None, tap, "", {}), of, np.arange(200) % 2, np.arange(200), {})
        for of in (answers, answers[:, :16])
    )

    def mixed(_, __, directions):
        return xr.DataArray(
            np.tensordot(directions, weights.values, 1),
            dims=weights.dims,
            coords={n: weights[n] for n in ("unit_a", "dy", "dx")} | {"unit_b": np.arange(len(directions))},
        )

    return Ends(
        layer, top, mixed, (mixed,), {"curve": Units(np.arange(32), sources)}, {"curve": Units(np.arange(16), targets)}
    )


def test_tables_of_a_layer_say_what_was_planted():
    found = motifs.weight_tables(wired_ends(0), [wired_ends(1, order=False)], CircuitPlan(("curve",), 0))
    assert {name: list(of) for name, of in found.items()} == {
        name: [c for c in MOTIF_TABLES[name].names if c not in LATER[name]] for name in ("layouts", "equivariance", "superposition", "edges")
    } | {"ratios": motifs.RATIOS}  # fmt: skip
    # Every source beside all others, by hand.
    ends, ratios = wired_ends(0), found["ratios"]
    outgoing = np.square(rms(ends.of_units(np.arange(16))).values.astype(float)).sum(axis=(2, 3))
    expected = outgoing.sum(axis=0) ** 2 / np.square(outgoing).sum(axis=0) / 16
    np.testing.assert_allclose(ratios["participation_ratio"].astype(float), expected, rtol=1e-6)
    np.testing.assert_allclose(
        ratios["participation_ratio_random"].astype(float),
        [np.delete(expected, k).mean() for k in range(40)],
        rtol=1e-6,
    )
    (spread,) = found["superposition"].to_dict("records")
    assert ratios["participation_ratio"][:32].mean() == pytest.approx(spread["ratio"])
    (share,) = motifs.finished("equivariance", found["equivariance"]).to_dict("records")
    assert share["share"] > 0.9 > share["share_permuted_95"] and share["share_untrained"] < 0.3 and share["q"] < 0.01
    rows = motifs.finished("layouts", found["layouts"])
    family = rows[(rows["unit"] == -1) & rows["difference_deg"].notna()].set_index("difference_deg")
    assert (
        family.loc[0.0, "weight"] > family.loc[0.0, "weight_null_high"]
        and family.loc[180.0, "weight"] < family.loc[180.0, "weight_null_low"]
    )
    assert family["n_sources"].tolist() == [32] * 8 and (rows["unit"] >= 0).sum() == 16
    edges = found["edges"]
    best = edges[edges["rank"] == 1]
    turn = np.abs((best["source_deg"] - best["unit"] % 8 * 45.0 + 180) % 360 - 180)
    assert len(best) == 16 and (np.where(best["weight"] > 0, turn, 180 - turn) <= 45).mean() > 0.9
    assert (best["weight"].abs() > best["untrained_95"]).mean() > 0.8


# of a run -------------------------------------------------------------------------------------------------------------


def test_tables_of_a_run_hold_together(whole):
    tables = {name: whole.table(name) for name in MOTIF_TABLES}
    assert all(list(of) == MOTIF_TABLES[name].names for name, of in tables.items())
    assert tables["branches"].empty  # nothing is joined along the channels
    for name in ("p_weight", "q_weight", "p_asymmetry", "asymmetry"):
        assert tables["layouts"][name].dropna().between(0, 1).all()
    assert (tables["cases"]["n_shown"] + tables["cases"]["n_silent"] <= motifs.CASE_IMAGES).all()
    assert set(tables["cases"]["verdict"]) <= set(cases.VERDICTS)


def test_sentences_count_and_say_the_null():
    rows = pd.DataFrame(
        {
            "source_family": "curve",
            "p_share": [0.01] * 6 + [0.5] * 2,
            "share": 0.6,
            "share_permuted": 0.1,
            "share_untrained": 0.12,
        }
    )
    said = motif_sentences.equivariance_sentence(rows, "curve")
    assert (
        "in 6 of 8 (75 %, 95 % interval 41 to 93 %; chance 5 %)" in said.text
        and "a share of 0.60 (median; angles exchanged 0.10, untrained twins 0.12)" in said.text
    )
    assert said.standing == "above"
    assert motif_sentences.equivariance_sentence(rows.assign(p_share=0.4), "curve").standing == "null"
    assert motif_sentences.equivariance_sentence(rows.assign(share_untrained=0.7), "curve").standing == "mixed"
    of = pd.DataFrame({"case": 0, "verdict": ["one_case"] * 8 + ["excluding_cases_that_meet", "too_few_images"]})
    said = motif_sentences.cases_sentence(of, "curve")
    assert (
        "gradients of 1 of 9 detectors" in said.text
        and "1 have cases that exclude one another, and 1 have" in said.text
        and "1 more answer" in said.text
    )
    branch = {
        "model": "m/a",
        "tap": "t",
        "branch": "branch2",
        "n_detectors": 18,
        "n_family": 22,
        "share": 18 / 22,
        "share_expected": 0.42,
        "q": 0.001,
    }
    (said,) = motif_sentences.branch_sentences(
        pd.DataFrame([branch, branch | {"branch": "branch1", "q": 1.0}]), "curve"
    )
    assert "lie in branch2: 18 of 22 (82 %; of all units 42 %" in said.text and said.standing == "above"
    (said,) = motif_sentences.branch_sentences(pd.DataFrame([branch | {"q": 0.3}]), "curve")
    assert said.standing == "null"


def test_false_discovery_rates_are_within_groups_and_leave_gaps():
    rows = pd.DataFrame({"model": list("aabb"), "p": [0.01, 0.04, np.nan, 0.5]})
    np.testing.assert_allclose(false_discovery(rows, ["model"]), [0.02, 0.04, np.nan, 0.5])
