"""Transplants where the answer is known: a permuted and rescaled copy has the same roles, noise has none."""

import numpy as np
import pandas as pd
import pytest
import torch
from tapped import tap_at
from torch import nn

from universality.causes.passes import Passes, maps_at
from universality.causes.plan import MEASURES, CausePlan
from universality.causes.transplants import Experiment, Fitting, Replaced, Sources, halves, judged, partners, recovery

UNITS, N = 6, 40
PLAN = CausePlan(N, (), 0)


class Planted(nn.Module):
    """Six units, a next tap, a read-out; the first four units decide the answer."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.units = nn.Sequential(nn.Conv2d(3, UNITS, 3, padding=1), nn.ReLU())
        self.next = nn.Sequential(nn.Conv2d(UNITS, 5, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(5, 4)
        with torch.no_grad():
            self.next[0].weight[:, 4:] = 0
            self.head.weight *= 10

    def forward(self, x):
        return self.head(self.next(self.units(x)).mean((2, 3)))


TAP, NEXT = tap_at("units", channels=UNITS, size=8), tap_at("next", channels=5, size=8)
ORDER = np.array([2, 0, 3, 1, 5, 4])


@pytest.fixture(scope="module")
def planted():
    """The network, its maps at all images, and an experiment with a permuted, rescaled copy's maps at half the size."""
    network = Planted().eval()
    rng = np.random.default_rng(0)
    images = (rng.standard_normal((N, 3, 8, 8)) + 2 * rng.standard_normal((N, 3, 1, 1))).astype(np.float32)
    fit, test = halves(N, 0)
    maps = maps_at(network, TAP, images)
    passes = Passes(network, TAP, NEXT, images[test])
    return network, images, maps, Fitting(maps, fit, test), passes, passes.intact.choice


def experiment(planted, of, **others):
    _, _, _, fitting, passes, labels = planted
    r = fitting.correlations(fitting.sized(of))
    return Experiment(passes, fitting, Sources(of, **others), partners(r, {}), labels, seed=0)


def layer(units=UNITS):
    return [Replaced("layer", "", np.arange(units))]


def rows_of(made, sets):
    """Rows by base and measure; without the loss, which an edit may lower where the labels are the network's own answers."""
    rows = pd.DataFrame(made.rows(sets, PLAN))
    return rows[rows["measure"] != "loss"].assign(verdict=lambda of: judged(of)).set_index(["base", "measure"])


def test_a_permuted_and_rescaled_copy_recovers_all_of_it(planted):
    maps = planted[2]
    scales = torch.tensor([0.5, 2.0, 3.0, 1.0, 10.0, 0.1])[None, :, None, None]
    made = experiment(planted, (maps * scales - 7)[:, ORDER])
    np.testing.assert_array_equal(ORDER[made.partner], np.arange(UNITS))
    rows = rows_of(made, [*layer(), Replaced("unit", "f", np.array([0]))])
    known = rows[rows["what"] == "layer"]
    np.testing.assert_allclose(known["recovery"], 1, atol=1e-4)
    assert (known["verdict"] == "same_role").all() and (known["ablated_low"] > 0).all()
    np.testing.assert_allclose(rows["r"], 1, atol=1e-6)
    # Removing by the mean is what two scalars fall back to where nothing is alike.
    by_mean = known.loc["mean"]
    assert (by_mean["recovery_shuffled"] < 0.1).all() and (by_mean["recovery_unmatched"] < 0.9).all()


def test_what_is_independent_recovers_nothing_beyond_the_mean(planted):
    noise = torch.randn(N, UNITS, 8, 8, generator=torch.Generator().manual_seed(5))
    rows = rows_of(experiment(planted, noise), layer())
    assert (rows.loc["mean"]["recovery"].abs() < 0.05).all() and (rows["verdict"] != "same_role").all()


def test_units_that_nothing_takes_have_no_recovery(planted):
    made = experiment(planted, planted[2])
    rows = rows_of(made, [Replaced("unit", "f", np.array([4]))])
    assert rows["recovery"].isna().all() and (rows["ablated"] == 0).all() and (rows["verdict"] == "undecided").all()


def test_recovery_is_recomputed_from_edited_passes(planted):
    network, images, maps, *_ = planted
    other = maps_at(Planted(3).eval(), TAP, images)
    made = experiment(planted, other)
    row = rows_of(made, [Replaced("unit", "f", np.array([1]))]).loc["mean", "kl"]
    fit, test = halves(N, 0)
    y, x = maps[:, 1].double().numpy(), other[:, made.partner[1]].double().numpy()
    slope, offset = np.polyfit(x[fit].ravel(), y[fit].ravel(), 1)

    def divergence(standing):
        with torch.no_grad():
            hidden = network.units(torch.from_numpy(images[test]))
            intact = network.head(network.next(hidden).mean((2, 3))).log_softmax(1)
            hidden[:, 1] = torch.from_numpy(np.broadcast_to(standing, hidden[:, 1].shape).astype(np.float32))
            edited = network.head(network.next(hidden).mean((2, 3))).log_softmax(1)
            return nn.functional.kl_div(edited, intact, log_target=True, reduction="batchmean").item()

    removed, replaced = divergence(y[fit].mean()), divergence(slope * x[test] + offset)
    np.testing.assert_allclose(row["recovery"], 1 - replaced / removed, atol=1e-3)
    np.testing.assert_allclose(row["ablated"], removed, rtol=1e-4)


def test_ceilings_and_untrained_partners_have_columns_of_their_own(planted):
    maps = planted[2]
    noise = torch.randn(N, UNITS, 8, 8, generator=torch.Generator().manual_seed(5))
    rows = rows_of(experiment(planted, noise, untrained=[noise], seeds=[maps[:, ORDER]], copies=[maps]), layer())
    np.testing.assert_allclose(rows[["recovery_seed", "recovery_copy"]], 1, atol=1e-4)
    assert (rows.loc["mean"]["recovery_untrained"].abs() < 0.1).all()
    assert (rows.loc["mean"]["verdict"] == "other_role").all()


def test_maps_of_other_sizes_are_resized_and_known_partners_stay(planted):
    maps, fitting = planted[2], planted[3]
    coarse = nn.functional.avg_pool2d(maps, 2)
    rows = rows_of(experiment(planted, coarse), layer())
    assert (rows["recovery"] > 0.1).all() and (rows["recovery"] < 1).all()
    r = fitting.correlations(maps)
    found = partners(r, {0: 5})
    assert found[0] == 5 and sorted(found.tolist()) == list(range(UNITS))
    assert (partners(r[:, :2], {}) >= 0).sum() == 2


def test_recovery_by_hand():
    weights = np.full((3, 2), 0.5)
    cost = {"mean": {m: np.array([1.0, 3.0]) for m in MEASURES}, "matched": {m: np.array([0.5, 0.5]) for m in MEASURES},
            "shuffled": {m: np.array([4.0, 0.0]) for m in MEASURES}}  # fmt: skip
    found = recovery(cost, "mean", "kl", weights)
    assert found["recovery"] == 0.75 and found["recovery_shuffled"] == 0 and np.isnan(found["recovery_copy"])
    assert found["ablated"] == 2 and found["detectable"] == 0
