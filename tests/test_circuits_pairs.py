"""Whether matched units have the same circuit: planted networks whose circuits are known, and networks that were never trained."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from universality.activations.layer import Layer, LayerRef
from universality.base.arrays import haar_orthogonal
from universality.circuits import pairs
from universality.circuits.expanded import weights_into
from universality.circuits.pairs import LEAST_SOURCES, NULLS, Ends, circuit_rows, judged, matched_sources
from universality.circuits.plan import CircuitPlan
from universality.circuits.profiles import Units
from universality.correspondence.resampling import with_q
from universality.models.receptive_field import describe_tap
from universality.similarity.matching import correlations, hungarian

SIZE = 24
PLAN = CircuitPlan(("family",), 0)


def images(count=400):
    """Smooth noise of several scales: neighbouring pixels agree, as in photographs."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((count, 3, SIZE, SIZE))
    each = [gaussian_filter(noise, (0, 0, s, s)) for s in (0.7, 1.5, 3)]
    return torch.tensor(sum(one / one.std() for one in each), dtype=torch.float32)


IMAGES = images()


def network(first, second, rectified=True):
    """Two convolutions with the weights given."""
    convs = []
    for weights, stride in ((first, 2), (second, 1)):
        conv = nn.Conv2d(
            weights.shape[1], weights.shape[0], weights.shape[2], stride, weights.shape[2] // 2, bias=False
        )
        conv.weight.data = torch.tensor(weights, dtype=torch.float32)
        convs.append(conv)
    middle = nn.ReLU() if rectified else nn.Identity()
    return (
        nn.Sequential(convs[0], middle, convs[1], nn.ReLU() if rectified else nn.Identity())
        .eval()
        .requires_grad_(False)
    )


def random_network(seed, sources=32, targets=16):
    rng = np.random.default_rng(seed)
    return network(rng.standard_normal((sources, 3, 5, 5)), rng.standard_normal((targets, sources, 3, 3)) / 10)


def ends(name, net, angles=None, kind="linear"):
    """One network's part: what its two layers answer at the middle, and its weights; `angles` of sources and of targets."""
    taps = [describe_tap(net, path, (3, SIZE, SIZE)) for path in ("1", "3")]
    first = net[:2](IMAGES)
    maps = [first, net[2:](first)]
    fold = np.arange(len(IMAGES)) % 2
    layers = []
    for tap, of in zip(taps, maps, strict=True):
        middle = tap.index_at((SIZE - 1) / 2, of.shape[2])
        values = of[:, :, middle, middle].double().numpy()
        layers.append(Layer(LayerRef(name, None, tap, "", {}), values, fold, np.arange(len(values)), {}))

    def weights(a, b, directions, images=None):
        return weights_into(net, a, b, directions, (3, SIZE, SIZE), name, images)

    def gradients(a, b, directions, some=slice(None)):
        return weights(a, b, directions, IMAGES[:16][some].numpy())

    labels = [
        {} if angles is None else {"family": Units(np.arange(len(of)), np.asarray(of, float))}
        for of in (angles or (0, 0))
    ]
    if kind == "linear":
        return Ends(*layers, weights, (gradients,), *labels)
    halves = tuple(partial(gradients, some=slice(k, None, 2)) for k in (0, 1))
    return Ends(*layers, gradients, halves, *labels)


def matched(a, b, order):
    """Rows of correspondence: unit k of A is unit order[k] of B."""
    r = [np.corrcoef(a.targets.natural[:, k], b.targets.natural[:, j])[0, 1] for k, j in enumerate(order)]
    return pd.DataFrame({
        "family": "family", "method": "hungarian", "unit_a": np.arange(len(order)), "unit_b": order, "r_natural": r, "verdict": "same_feature",
        "detector_a": True, "detector_b": True,
    })  # fmt: skip


def found(a, b, order, twins=((), ())):
    rows = pd.DataFrame(circuit_rows(a, b, *twins, matched(a, b, order), 1, PLAN))
    rows = with_q(rows)
    return rows.assign(verdict=judged(rows))


def permuted(net, seed=1):
    """The same network with its units in another order; where each went."""
    rng = np.random.default_rng(seed)
    first, second = net[0].weight.numpy(), net[2].weight.numpy()
    orders = [rng.permutation(len(of)) for of in (first, second)]
    return network(first[orders[0]], second[orders[1]][:, orders[0]]), [np.argsort(order) for order in orders]


def by_responses(a, b):
    """Which unit of B each unit of A is matched to."""
    return hungarian(correlations(a.targets.halves().decide, b.targets.halves().decide))[:, 1]


def test_a_permuted_copy_has_the_same_circuits():
    net = random_network(0)
    copy, (sources, targets) = permuted(net)
    a, b = ends("a", net), ends("b", copy)
    i, j = matched_sources(a.sources, b.sources)
    np.testing.assert_array_equal(sources[i], j)
    rows = found(a, b, targets)
    assert len(rows) == 16 and set(rows["sources"]) == {"match"}
    np.testing.assert_allclose(rows[["s_w", "s_w_low", "s_w_high"]], 1.0, atol=1e-4)
    np.testing.assert_allclose(rows["s_w_ceiling"], 1.0, atol=0.02)
    assert (rows["verdict"] == "same_circuit").all()
    assert (rows[[f"s_w_{name}" for name in NULLS if name not in ("untrained", "unmatched")]] < 0.95).all(axis=None)


def test_the_same_responses_through_other_sources_are_another_circuit():
    """Sources u, v and u + v without rectification: one network reads u and v, the other their sum."""
    rng = np.random.default_rng(3)
    u, v = rng.standard_normal((2, 12, 3, 5, 5))
    first, weights = np.concatenate([u, v, u + v]), rng.standard_normal((16, 12, 3, 3))
    none = 0 * weights
    a = ends("a", network(first, np.concatenate([weights, weights, none], axis=1), rectified=False))
    b = ends("b", network(first, np.concatenate([none, none, weights], axis=1), rectified=False))
    np.testing.assert_allclose(a.targets.natural, b.targets.natural, atol=1e-2)
    rows = found(a, b, np.arange(16))
    assert rows["r_natural"].min() > 0.999
    np.testing.assert_allclose(rows["fidelity"], 1.0, atol=1e-4)
    assert (rows["verdict"] == "same_response_other_circuit").all()
    # One of three sources that carry the same is what the other network reads; a mixture of least length has 0.58 of that.
    assert rows["s_w"].abs().max() < 0.15 and rows["s_w_ceiling"].between(0.5, 0.8).all()


def test_by_mean_gradients_a_permuted_copy_has_the_same_circuits_too():
    net = random_network(0)
    copy, (_, targets) = permuted(net)
    a, b = (ends(name, of, kind="mean_gradient") for name, of in (("a", net), ("b", copy)))
    rows = found(a, b, targets)
    np.testing.assert_allclose(rows["s_w"], 1.0, atol=1e-4)
    assert (rows["verdict"] == "same_circuit").all() and rows["fidelity"].between(0.5, 1.0).all()
    # Between the taps lies one convolution: its gradients are its weights wherever the unit is active at all.
    linear = found(ends("a", net), ends("b", copy), targets).set_index("unit_a").loc[rows["unit_a"]]
    np.testing.assert_allclose(rows["s_w_readout"], linear["s_w_readout"], atol=1e-4)
    # A unit that is silent at the middle of all images has no gradient, and no row.
    silent = np.abs(a.of_units(np.arange(16)).values).max(axis=(1, 2, 3)) == 0
    assert sorted(rows["unit_a"]) == np.flatnonzero(~silent).tolist() and silent.sum() == 1


def test_where_weights_cancel_mean_gradients_tell_the_circuit():
    """Each target is |x| of a sum of sources, made of two rectified halves: linear weights are 0 throughout."""
    rng = np.random.default_rng(6)
    first, second = rng.standard_normal((32, 3, 5, 5)), rng.standard_normal((16, 32, 3, 3)) / 10
    base = network(first, np.concatenate([second, -second]))
    join = nn.Conv2d(32, 16, 1, bias=False).requires_grad_(False)
    join.weight.data = torch.tensor(np.concatenate([np.eye(16), np.eye(16)], axis=1), dtype=torch.float32)[
        ..., None, None
    ]
    net = nn.Sequential(base[0], base[1], nn.Sequential(base[2], base[3], join), nn.Identity()).eval()
    linear, gradients = (ends("a", net, kind=kind) for kind in ("linear", "mean_gradient"))
    units = np.arange(16)
    assert (
        linear.of_units(units).size == 0 < gradients.of_units(units).size
    )  # offsets at which no weight is are cut away
    assert np.isnan(linear.fidelity(units, 4.0)).all()
    # Spearman and Brown, by hand: the halves' correlation, stepped up to all images.
    at = [
        weights_into(net, *(of.ref.tap for of in (gradients.sources, gradients.targets)), np.eye(16), (3, SIZE, SIZE), "a", IMAGES[:16][k::2].numpy())
        for k in (0, 1)
    ]  # fmt: skip
    halves = [(of.values * gradients.deviation[None, :, None, None]).reshape(16, -1) for of in at]
    live = np.all([np.abs(of).max(axis=1) > 0 for of in halves], axis=0)  # a sum may be above 0 as often as below
    r = np.array([np.corrcoef(one, other)[0, 1] for one, other in zip(*(of[live] for of in halves), strict=True)])
    # A kernel of 3 x 3 at stride 2 fills the nine squares of two strides place by place.
    np.testing.assert_allclose(
        gradients.fidelity(units, 4.0)[live], np.where(r > 0, 2 * r / (1 + np.abs(r)), r), atol=1e-3
    )
    assert live.sum() > 8


def test_a_layer_in_a_random_basis_has_not_the_same_circuits():
    net = random_network(0)
    first, second = (net[k].weight.numpy() for k in (0, 2))
    a = ends("a", network(first, second, rectified=False))
    scale = 1 / a.targets.natural.std(axis=0)
    turned = np.einsum(
        "ij,jcyx->icyx", haar_orthogonal(16, np.random.default_rng(9)), second * scale[:, None, None, None]
    )
    b = ends("b", network(first, turned, rectified=False))
    rows = found(a, b, by_responses(a, b))
    # Their weights are mixtures of the same weights: far from chance, and no more alike than another basis offers.
    assert rows["s_w"].mean() > 0.2
    assert not (rows["verdict"] == "same_circuit").any()


def test_networks_that_were_never_trained_have_not_the_same_circuits():
    rows = []
    for seed in range(4):
        a, b = (ends(name, random_network(100 * seed + k, targets=48)) for k, name in enumerate("ab", start=1))
        rows.append(found(a, b, by_responses(a, b)))
    rows = pd.concat(rows)
    assert len(rows) == 192
    assert not (rows["verdict"] == "same_circuit").any()
    # Chance is what exchanged sources say that it is.
    assert 0.01 < (rows["p"] <= 0.05).mean() < 0.15
    assert abs(rows["s_w_permuted"]).max() < 0.02


def test_a_twin_that_answers_alike_is_a_null_of_its_own():
    net = random_network(0)
    a, b = ends("a", net), ends("b", permuted(net)[0])
    twins = [ends("twin", random_network(50 + k)) for k in range(2)]
    rows = found(a, b, permuted(net)[1][1], ((), twins))
    assert rows["s_w_untrained"].between(-0.3, 0.3).all()
    # A twin that is the network itself leaves nothing above it.
    rows = found(a, b, permuted(net)[1][1], ((), [b]))
    np.testing.assert_allclose(rows["s_w_untrained"], 1.0, atol=1e-6)
    assert not (rows["verdict"] == "same_circuit").any()


def test_noise_on_the_weights_lowers_s_w_as_it_should():
    net = random_network(0)
    first, second = (net[k].weight.numpy() for k in (0, 2))
    noise = np.random.default_rng(4).standard_normal(second.shape) * second.std()
    rows = found(ends("a", net), ends("b", network(first, second + noise)), np.arange(16))
    # Equal parts of the same and of noise: r is 1 / sqrt(2).
    assert rows["s_w"].mean() == pytest.approx(0.5**0.5, abs=0.05)
    assert (rows["s_w_low"] < 0.5**0.5).mean() > 0.8 and (rows["s_w_high"] > 0.5**0.5).mean() > 0.8


def angled(seed=0, noise=0.1):
    """A network whose targets are wired to sources by the cosine of their angles' difference, and the angles of both layers."""
    rng = np.random.default_rng(seed)
    sources, targets = np.tile(np.arange(8) * 45.0, 4), np.tile(np.arange(8) * 45.0, 2)
    cosine = np.cos(np.deg2rad(sources[None] - targets[:, None]))
    second = cosine[:, :, None, None] * np.ones((1, 1, 3, 3)) / 10 + noise / 10 * rng.standard_normal((16, 32, 3, 3))
    return network(rng.standard_normal((32, 3, 5, 5)), second), (sources, targets)


def test_by_angle_families_that_are_wired_alike_are_found_though_no_source_is_the_same():
    (one, angles), (other, _) = angled(0), angled(1)
    rows = found(ends("a", one, angles), ends("b", other, angles), np.arange(16))
    by_angle = rows[rows["sources"] == "angle"]
    assert len(by_angle) == 16
    assert by_angle["s_w"].min() > 0.8 and (by_angle["q"] <= 0.05).all()
    # All of the family are wired so, each in its own frame: so are others, but for the squares that a turned grid falls into.
    assert by_angle["s_w_unmatched"].min() > 0.6 and by_angle["s_w_ceiling"].min() > 0.6
    assert by_angle["s_w_permuted_95"].max() < by_angle["s_w"].min()


def test_too_few_sources_that_are_the_same_give_no_row():
    a, b = (ends(name, random_network(k, sources=8)) for k, name in enumerate("ab"))
    assert circuit_rows(a, b, (), (), matched(a, b, np.arange(16)), 1, PLAN) == []


def few(of, count):
    """Labels of the first sources alone."""
    return {"family": Units(of["family"].unit[:count], of["family"].angle_deg[:count])}


def test_by_angle_too_few_detectors_among_the_sources_give_no_row():
    (one, angles), (other, _) = angled(0), angled(1)
    a, b = ends("a", one, angles), ends("b", other, angles)
    for count, rows in ((LEAST_SOURCES - 1, 0), (LEAST_SOURCES, 16)):
        some = replace(a, labels=few(a.labels, count))
        found = circuit_rows(some, b, (), (), matched(a, b, np.arange(16)), 1, PLAN, ways=("angle",))
        assert len(found) == rows and {row["n_sources"] for row in found} <= {LEAST_SOURCES}


def test_bases_are_drawn_once_for_all_families(monkeypatch):
    (one, angles), (other, _) = angled(0), angled(1)
    a, b = ends("a", one, angles), ends("b", other, angles)
    drawn = []
    haars = pairs.haars
    monkeypatch.setattr(pairs, "haars", lambda *given: drawn.append(given) or haars(*given))
    rows = pd.DataFrame(circuit_rows(a, b, (), (), matched(a, b, np.arange(16)), 1, PLAN))
    assert set(rows["sources"]) == {"match", "angle"} or set(rows["sources"]) == {"angle"}
    assert len(drawn) == 2  # one for either network


def test_weights_beyond_the_squares_are_counted_as_not_compared():
    """A kernel of 3 x 3 at stride 2 lies within nine squares of two strides; of one of 9 x 9 seven positions a side do."""
    for size, least, most in ((3, 1.0, 1.0), (9, 0.5, 0.7)):
        rng = np.random.default_rng(0)
        net = network(rng.standard_normal((32, 3, 5, 5)), rng.standard_normal((16, 32, size, size)) / 10)
        rows = found(ends("a", net), ends("b", net), np.arange(16))
        assert rows["share_within"].between(least - 1e-9, most + 1e-9).all()


def test_rows_do_not_depend_on_which_others_are_asked_for():
    net = random_network(0)
    a, b = ends("a", net), ends("b", random_network(1))
    every = pd.DataFrame(circuit_rows(a, b, (), (), matched(a, b, np.arange(16)), 1, PLAN)).set_index("unit_a")
    some = pd.DataFrame(circuit_rows(a, b, (), (), matched(a, b, np.arange(16)).iloc[[3, 5]], 1, PLAN)).set_index(
        "unit_a"
    )
    numbers = every.select_dtypes("number").columns
    np.testing.assert_allclose(some[numbers], every.loc[[3, 5], numbers], rtol=1e-6, atol=1e-8)


def test_layers_whose_weights_are_not_kept_give_the_same(monkeypatch):
    net, (other, angles) = random_network(0), angled(1)
    kept = found(ends("a", net, angles), ends("b", other, angles), np.arange(16))
    monkeypatch.setattr("universality.circuits.pairs.MOST_WHOLE_BYTES", 0)
    monkeypatch.setattr("universality.circuits.pairs.BLOCK", 5)
    asked = found(ends("a", net, angles), ends("b", other, angles), np.arange(16))
    numbers = kept.select_dtypes("number").columns
    np.testing.assert_allclose(asked[numbers], kept[numbers], atol=1e-5)
