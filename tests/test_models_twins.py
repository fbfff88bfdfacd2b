"""Whether an untrained twin is a null, on planted blocks whose effect is known."""

import numpy as np
import pytest
import torch
from torch import nn

from universality.models.twins import HANDED_ON, examined

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)


class Residual(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.branch, self.scale = (
            nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, 1, 1)),
            scale,
        )
        for conv in (self.branch[0], self.branch[2]):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)

    def forward(self, x):
        return x + self.scale * self.branch(x.clone())


class Gate(nn.Module):
    """Half of its input: no null is lost by it, although input and output are fully correlated."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8))
        nn.init.zeros_(self.inner[0].weight)
        nn.init.zeros_(self.inner[0].bias)

    def forward(self, x):
        return x * self.inner(x.mean((2, 3))).sigmoid()[:, :, None, None]


def network(*parts):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), *(part() for part in parts), nn.Conv2d(8, 2, 1)).eval()


def effects(made):
    return {block.path: block for block in examined(made, IMAGES).blocks}


def test_change_and_correlation_are_those_of_the_formulas():
    made = network(lambda: Residual(1.0))
    seen = {}
    made[1].register_forward_hook(lambda _, args, out: seen.update(x=args[0].numpy(), y=out.numpy()))
    found = effects(made)["1"]
    x, y = (np.moveaxis(seen[name], 1, 0).reshape(8, -1).astype(np.float64) for name in "xy")
    assert found.change == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-5)
    each = [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
    assert found.correlation == pytest.approx(
        np.sort(each)[3], abs=1e-6
    )  # Torch's median: the lower one of an even number


@pytest.mark.parametrize(("scale", "handed_on"), [(0.0, True), (1e-6, True), (1e-3, True), (0.1, False), (1.0, False)])
def test_a_planted_identity_is_found_and_an_ordinary_block_is_not(scale, handed_on):
    made = network(lambda: Residual(scale))
    assert effects(made)["1"].handed_on == handed_on
    said = examined(made, IMAGES).void
    # 2 x 576 weights of the block beside 216 of the stem.
    expected = "Of an untrained twin 1 of 1 blocks (Residual) with 84% of the weights hand on their input"
    assert said.startswith(expected) if handed_on else said == ""


def test_an_ordinary_branch_leaves_a_correlation_of_about_the_root_of_one_half():
    """Variances of input and branch are equal at He's initialisation, so r = 1 / sqrt(2): far from the threshold."""
    assert 0.5 < effects(network(lambda: Residual(1.0)))["1"].correlation < 0.85 < HANDED_ON


def test_a_gate_is_no_identity():
    found = effects(network(Gate))["1"]
    assert found.correlation > HANDED_ON and found.change == pytest.approx(0.5, abs=1e-5)
    assert not found.handed_on


def test_the_innermost_blocks_are_counted():
    twin = examined(network(lambda: nn.Sequential(Residual(1e-6), Residual(1e-6)), lambda: Residual(1.0)), IMAGES)
    assert [block.path for block in twin.shut] == ["1.0", "1.1"]
    assert "2 of 3 blocks (Residual) with 63% of the weights hand on" in twin.void


def test_a_twin_is_void_where_half_of_its_weights_lie_idle():
    """All blocks have the same weights, and the stem has a fifth of one's: two of five are too few, three are enough."""
    shut, ordinary = (lambda: Residual(1e-6)), (lambda: Residual(1.0))
    assert not examined(network(shut, shut, ordinary, ordinary, ordinary), IMAGES).void
    assert examined(network(shut, shut, shut, ordinary, ordinary), IMAGES).void


def test_nothing_is_left_behind():
    made = network(lambda: Residual(1.0))
    examined(made, IMAGES)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in made.modules())
