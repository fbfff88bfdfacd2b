"""Noisy copies: as alike as asked, deterministic, and of the weights alone."""

import numpy as np
import pytest
import torch
from torch import nn

from universality.base.errors import WeightsError
from universality.models import copies
from universality.models.card import Tap


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU()).eval()


def tap(path, channels, size):
    return Tap(
        path=path,
        activation="post",
        channels=channels,
        size=size,
        rf_px=3,
        stride_px=1,
        rf_start_px=-1.0,
        relative_depth=0.5,
    )


TAPS = (tap("1", 8, 10), tap("3", 12, 8))


def images(seed=0, count=64):
    return [np.random.default_rng(seed).standard_normal((count, 3, 12, 12)).astype(np.float32)]


def middles(model, batches):
    """Middle positions after both nonlinearities, by a plain forward pass."""
    with torch.inference_mode():
        first = model[:2](torch.from_numpy(batches[0]))
        second = model[2:](first)
    return [x[:, :, x.shape[2] // 2, x.shape[3] // 2].numpy().astype(float) for x in (first, second)]


@pytest.mark.parametrize("r", [0.93, 0.84, 0.67])
def test_units_correlate_with_their_originals_as_asked(r):
    original, shown = network(), images(count=256)
    copy = copies.noisy(original, TAPS, r, 0, shown)
    alike = [
        np.median(
            [
                np.corrcoef(x[:, u], y[:, u])[0, 1] if x[:, u].std() and y[:, u].std() else 0.0
                for u in range(x.shape[1])
                if x[:, u].std()
            ]
        )
        for x, y in zip(middles(original, shown), middles(copy, shown), strict=True)
    ]
    assert np.mean(alike) == pytest.approx(r, abs=0.03)


def test_original_stays_and_only_weights_get_noise():
    original = network()
    before = {name: value.clone() for name, value in original.state_dict().items()}
    copy = copies.noisy(original, TAPS, 0.8, 0, images()).state_dict()
    for name, value in original.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(value, copy[name]) == name.endswith("bias")


def test_weight_of_one_number_gets_no_noise():
    original = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 4, 3)).eval()
    copy = copies.noisy(original, [tap("2", 4, 8)], 0.8, 0, images())
    assert torch.equal(copy[1].weight, original[1].weight)
    moved = (copy[2].weight - original[2].weight).detach()
    assert torch.isfinite(moved).all() and moved.std() > 0


def test_network_without_weights_is_one_sentence():
    with pytest.raises(WeightsError, match=r"no weights that could get noise, expected .*; name the networks to be"):
        copies.noisy(nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)).eval(), [tap("1", 3, 6)], 0.8, 0, images())


def test_seed_decides_the_noise():
    made = [copies.noisy(network(), TAPS, 0.8, seed, images()).state_dict()["0.weight"] for seed in (1, 1, 2)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_less_alike_means_more_noise_in_one_direction():
    original = network()
    near, far = (copies.noisy(original, TAPS, r, 0, images()) for r in (0.9, 0.6))
    moved = [(copy[0].weight - original[0].weight).detach().flatten() for copy in (near, far)]
    assert moved[0].norm() < moved[1].norm()
    assert nn.functional.cosine_similarity(*moved, dim=0) > 0.999
