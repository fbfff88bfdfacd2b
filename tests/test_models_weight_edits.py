"""Edited weights: the right ones, in a copy that every key tells from the original."""

import numpy as np
import pytest
import torch
from torch import nn

import universality
from universality.base.errors import TapError
from universality.models import zoo
from universality.models.weight_edits import edited_weights


class Branches(nn.Module):
    """Two branches joined, then a layer that takes both: units of the second are its inputs from 3 on."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(5, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        joined = self.pool(self.act(torch.cat([self.one(x), self.two(x)], 1)))
        return self.norm(self.last(joined)).mean((2, 3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Branches().eval()


ACTIONS = {
    "remove": (None, lambda w: 0 * w),
    "remove_positive": (None, lambda w: np.minimum(w, 0)),
    "remove_negative": (None, lambda w: np.maximum(w, 0)),
    "swap": (None, lambda w: w[::-1]),
    "scale": (0.5, lambda w: 0.5 * w),
    "set": (0.25, lambda w: 0 * w + 0.25),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_weights_between_two_units_and_no_others_change(network, action):
    value, expected = ACTIONS[action]
    made = edited_weights(network, "two", "norm", ([1], [0, 3]), action, value, size=8)
    before, after = network.last.weight.detach().numpy(), made.last.weight.detach().numpy()
    wanted = before.copy()
    wanted[[0, 3], 4] = expected(before[[0, 3], 4])
    np.testing.assert_array_equal(after, wanted)
    assert [name for name, w in made.state_dict().items() if not torch.equal(w, network.state_dict()[name])] == [
        "last.weight"
    ]
    assert "two to norm (last; units 1 to 0, 3)" in made.weight_edits[0] and not hasattr(network, "weight_edits")


def test_a_function_edits_and_edits_add_up(network):
    once = edited_weights(network, "one", "last", (None, [2]), lambda w: w.abs(), size=8)
    twice = edited_weights(once, "two", "last", (None, [2]), size=8)
    assert bool((twice.last.weight[2, :3] >= 0).all()) and bool((twice.last.weight[2, 3:] == 0).all())
    assert len(twice.weight_edits) == 2


def test_what_is_computed_of_the_copy_has_keys_of_its_own(network):
    made = edited_weights(network, "one", "norm", ([0], None), size=8)
    assert zoo.state_dict_sha256(made.state_dict()) != zoo.state_dict_sha256(network.state_dict())
    images = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    found, original = (universality.activations(of, images, ["last"]) for of in (made, network))
    assert found.attrs["weights"] != original.attrs["weights"] and not found.equals(original)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("one", "two"), "weight layers between 'one' and 'two': 1 .*expected one that takes the units of the first"),
        (("last", "norm"), "between 'last' and 'norm': none"),
        (("one", "norm", ([3], None)), "units 3 of 'one', expected whole numbers from 0 to 2"),
        (("one", "norm", (None, [0, 1, 2]), "swap"), "swap exchanges the inputs of two units of tap B, came 3"),
        (("one", "norm", (None, None), "removes"), "did you mean 'remove'"),
        (("one", "norm", (None, None), "scale"), "the action 'scale' needs a value"),
        (("one", "norm", (None, None), "scale", float("inf")), "made NaN or infinite weights"),
        (("one", "norm", (None, None), lambda w: w[0]), "expected .* \\(unit of B, unit of A, ky, kx\\)"),
        (("one", "nrom"), "has no module 'nrom'"),
    ],
)
def test_an_edit_of_weights_that_cannot_be_is_one_sentence(network, asked, said):
    with pytest.raises(TapError, match=said):
        edited_weights(network, *asked, size=8)


def test_a_module_in_hand_needs_a_size(network):
    with pytest.raises(TapError, match="give size="):
        edited_weights(network, "one", "norm")
