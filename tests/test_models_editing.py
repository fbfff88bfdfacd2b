"""Edits: at the right place, what was asked, nothing else, and no hook left behind."""

import numpy as np
import pytest
import torch
from tapped import tap_at
from torch import nn

import universality
from universality.base.errors import UniversalityError
from universality.models import editing, points
from universality.models.editing import Edit, cache, exchanged, resized
from universality.models.pocket import networks


class Small(nn.Module):
    """An in-place nonlinearity that is called twice, a sum, a concatenation, and a read-out."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(8, 5)
        self.unused = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        one = self.act(self.first(x))
        two = self.act(self.second(one) + one)
        return self.head(torch.cat([one, two], 1).mean((2, 3)))


class Tokens(nn.Module):
    """A class token before four tokens of a grid."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.block = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([torch.ones_like(tokens[:, :1]), tokens], 1))
        return self.head(tokens[:, 0] + tokens[:, 1:].sum(1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def hook_count(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.mark.parametrize("architecture", [*networks.ARCHITECTURES, "small"])
def test_an_edit_that_changes_nothing_changes_no_bit_at_any_module_call(architecture, network):
    torch.manual_seed(0)
    net = network if architecture == "small" else networks.build(architecture, 12).eval()
    images = torch.randn(2, 3, 64, 64)
    found = points.listed(net, 64)
    assert {p.point.path for p in found} == {name for name, _ in net.named_modules()} - {"unused"}
    edits = [Edit(p.point, action=lambda maps: maps) for p in found if p.units]
    assert len(edits) >= 5
    with torch.no_grad():
        expected = net(images)
    with editing.editing(net, edits) as trace:
        assert torch.equal(trace.run(images).edited["output"], expected)
    assert hook_count(net) == 0


VALUE = np.array([2.0, -3.0])
ACTIONS = {
    "zero": (None, lambda x: 0 * x),
    "set": (VALUE, lambda x: 0 * x + torch.tensor(VALUE)[None, :, None, None]),
    "scale": (0.5, lambda x: 0.5 * x),
    "add": (VALUE, lambda x: x + torch.tensor(VALUE)[None, :, None, None]),
    "mean": (None, lambda x: x.mean((0, 2, 3), keepdim=True).expand_as(x)),
    "resample": (None, lambda x: x[exchanged(len(x), len(x))]),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_do_to_the_chosen_units_what_they_say_and_nothing_to_others(network, images, action):
    value, expected = ACTIONS[action]
    with editing.editing(network, Edit("first", [1, 3], action=action, value=value), ["first"]) as trace:
        found = trace.run(images)
    before, after = found.intact["first"], found.edited["first"]
    torch.testing.assert_close(after[:, [1, 3]], expected(before[:, [1, 3]].double()).float())
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    # The in-place nonlinearity behind it overwrites neither what is read nor what is edited.
    assert (before < 0).any()
    assert not torch.equal(found.edited["output"], found.intact["output"])


def test_the_output_is_that_of_the_rest_of_the_network(network, images):
    with editing.editing(network, Edit("act#1", [2], action="zero")) as trace:
        found = trace.run(images).edited["output"]
    with torch.no_grad():
        one = network.act(network.first(images))
        two = network.act(network.second(one) + one)
        two[:, 2] = 0
        expected = network.head(torch.cat([one, two], 1).mean((2, 3)))
    torch.testing.assert_close(found, expected)


def test_a_direction_is_edited_and_what_lies_across_it_stays(network, images):
    direction = torch.tensor([1.0, 2.0, 0.0, -1.0])
    with editing.editing(network, Edit("second", direction=5 * direction, action="zero"), ["second"]) as trace:
        found = trace.run(images)
    unit = direction / direction.norm()
    along = torch.einsum("nuyx,u->nyx", found.intact["second"], unit)
    torch.testing.assert_close(
        found.edited["second"], found.intact["second"] - along[:, None] * unit[None, :, None, None]
    )


def test_positions_alone_are_edited(network, images):
    with editing.editing(
        network, Edit("first", [0], positions=[(0, 1), (7, 7)], action="set", value=9.0), ["first"]
    ) as trace:
        found = trace.run(images)
    moved = (found.edited["first"] != found.intact["first"]).any(0).nonzero().tolist()
    assert moved == [[0, 0, 1], [0, 7, 7]] and bool((found.edited["first"][:, 0, 0, 1] == 9).all())


def test_edits_within_one_another_act_in_order(network, images):
    with editing.editing(network, Edit("first", [0], action="add", value=1.0)):
        with editing.editing(network, Edit("first", [0], action="scale", value=2.0), ["first"]) as inner:
            with torch.no_grad():
                network(images)
            twice = inner.edited["first"]
        with torch.no_grad():
            network(images)
    assert hook_count(network) == 0
    torch.testing.assert_close(twice[:, 0], 2 * (cache(network, images, ["first"])["first"][:, 0] + 1))


def test_other_code_that_calls_the_network_is_edited_and_the_mode_comes_back(network, images):
    network.train()
    with editing.editing(network, Edit("first", action="zero"), ["second"]) as trace:
        assert not network.training
        with torch.no_grad():
            came = network(images)
        assert torch.equal(trace.edited["output"], came)
    assert network.training


def test_reference_images_give_maps_that_do_not_depend_on_the_batch(network, images):
    reference = images[:3]
    with editing.editing(network, Edit("first", [0], action="mean"), ["first"], reference=reference) as trace:
        alone, together = trace.run(images[4:5]), trace.run(images)
    expected = cache(network, reference, ["first"])["first"][:, 0].mean()
    assert torch.equal(alone.edited["first"][:, 0], together.edited["first"][4:5, 0])
    torch.testing.assert_close(alone.edited["first"][0, 0, 0, 0], expected)


def test_another_networks_map_can_stand_for_a_unit(network, images):
    other = cache(Small().eval(), images[:, :, ::2, ::2], ["first"])["first"][:, [3]]
    assert torch.equal(resized(other, 4, 4), other)
    with editing.editing(network, Edit("first", [1], action="replace", value=resized(other, 8, 8)), ["first"]) as trace:
        assert torch.equal(trace.run(images).edited["first"][:, [1]], resized(other, 8, 8))


def test_gradients_flow_through_an_edit(network, images):
    with editing.editing(network, Edit("first", [0], action="scale", value=3.0), ["first"]) as trace:
        found = trace.run(images, gradients=True).edited["output"]
        found.sum().backward()
        assert not trace.run(images).edited["output"].requires_grad
    edited = network.first.weight.grad.clone()
    network.zero_grad()
    network(images).sum().backward()
    assert not torch.allclose(edited[0], network.first.weight.grad[0])
    with pytest.raises(UniversalityError, match="the block of edits is over"):
        trace.run(images)


def test_a_pass_ends_behind_the_last_tap_where_no_output_is_wanted(network, images):
    reached = []
    handle = network.head.register_forward_hook(lambda *_: reached.append(1))
    with editing.editing(network, Edit("first", [0]), ["second"]) as trace:
        found = trace.run(images, output=False)
    handle.remove()
    assert not reached and set(found.edited) == {"second"}


def test_tokens_are_edited_on_their_grid_and_class_tokens_stay(images):
    torch.manual_seed(0)
    net = Tokens().eval()
    tap = tap_at("block", kind="tokens", layout="channels_last", prefix=1, channels=6, size=2)
    with editing.editing(net, Edit(tap, [2], positions=[(1, 0)], action="set", value=7.0), ["block"]) as trace:
        found = trace.run(images)
    moved = (found.edited["block"] != found.intact["block"]).any(0).nonzero().tolist()
    assert moved == [[2, 3, 0]]  # the third token of the grid, behind the class token, as rows of tokens


def test_a_card_is_known_by_its_id_and_a_tap_by_its_name():
    images = np.zeros((2, 3, 64, 64), dtype=np.float32)
    with universality.editing(
        "pocket/alexnet-focus-s0", Edit("features.9", [0], action="add", value=1.0), ["features.11"]
    ) as trace:
        found = trace.run(images)
    assert found.edited["features.11"].shape == (2, 48, 13, 13) and found.edited["output"].shape == (2, 12)


def test_a_cache_holds_what_modules_give(network, images):
    found = universality.cache(network, images, batch_size=4)
    with torch.no_grad():
        first = network.first(images)
        assert torch.equal(found["first"], first) and torch.equal(found["output"], network(images))
    assert set(found) == {"first", "act", "second", "head", "output"}
    assert set(cache(network, images, "*st")) == {"first", "output"}


BAD = {
    "never": (Edit("unused"), [], "edit 'resample' of 'unused' was never made: module 'unused' was called 0 time"),
    "call": (Edit("act#2"), [], "was called 2 time.* and the edit is of call 2"),
    "units": (Edit("first", [4]), [], r"names the units \[4\], expected whole numbers from 0 to 3"),
    "twice": (Edit("first", [1, 1]), [], "names units twice"),
    "no units": (Edit("first", []), [], "expected whole numbers"),
    "value": (
        Edit("first", [0], action="set", value=[1.0, 2.0]),
        [],
        r"has a value of shape \(2,\), expected a number or \(1,\)",
    ),
    "maps": (
        Edit("first", [0], action="replace", value=np.zeros((6, 1, 4, 4))),
        [],
        r"gives maps of shape .*expected \(6, 1, 8, 8\).*resize",
    ),
    "function": (Edit("first", [0], action=lambda maps: maps[:2]), [], "expected"),
    "positions": (
        Edit("first", positions=[(8, 0)]),
        [],
        r"names the positions \[\[8, 0\]\], expected \(row, column\) within 8 x 8",
    ),
    "nan": (Edit("first", [2], action="scale", value=float("nan")), [], "made NaN or infinite values at unit 2"),
    "overflow": (Edit("second", action="set", value=3e38), [], "made the network's output infinite or NaN"),
    "direction": (Edit("first", direction=[0.0] * 4), [], "has a direction that is 0"),
    "direction's length": (Edit("first", direction=[1.0]), [], r"direction of shape \(1,\), expected \(4,\)"),
    "before": (Edit("second", [0]), ["first"], "tap 'first' is read before the edit of 'second' is made"),
    "module": (Edit("thrid"), [], "has no module 'thrid'"),
    "name": (Edit("first[0"), [], r"point 'first\[0' is malformed"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_edit_that_cannot_be_is_one_sentence(network, images, case):
    edit, taps, said = BAD[case]
    with pytest.raises(UniversalityError, match=said) as caught, editing.editing(network, edit, taps) as trace:
        trace.run(images)
    assert "\n" not in str(caught.value) and hook_count(network) == 0


def test_one_image_has_no_other_to_take_maps_of(network, images):
    with (
        editing.editing(network, Edit("first")) as trace,
        pytest.raises(UniversalityError, match="takes maps of other images and the batch has one"),
    ):
        trace.run(images[:1])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"action": "zeros"}, "has the action 'zeros'; did you mean 'zero'"),
        ({"action": "set"}, "the action 'set' needs value"),
        ({"action": "zero", "value": 1.0}, "the action 'zero' takes no value"),
        ({"units": [0], "direction": [1.0]}, "names units and a direction"),
    ],
)
def test_an_edit_that_contradicts_itself_is_refused_where_it_is_written(asked, said):
    with pytest.raises(UniversalityError, match=said):
        Edit("first", **asked)
