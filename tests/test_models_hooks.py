"""Hooks: the right module, call and side, and never one left behind."""

import pytest
import torch
from tapped import recorded, tap_at
from torch import nn

from universality.base.errors import TapError
from universality.models import hooks


class Doubling(nn.Module):
    """Calls one module three times: after call k its output is the input times 2 to the k + 1."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(1, 1, 1, bias=False)
        self.unused = nn.Conv2d(1, 1, 1)
        self.late = nn.Identity()
        nn.init.constant_(self.twice.weight, 2.0)

    def forward(self, x):
        return self.late(self.twice(self.twice(self.twice(x))))


@pytest.fixture
def network():
    return Doubling().eval()


@pytest.fixture
def image():
    return torch.ones(1, 1, 2, 2)


def hook_count(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.mark.parametrize("call", [0, 1, 2])
@pytest.mark.parametrize("side", ["input", "output"])
def test_call_index_and_side_pick_the_right_tensor(network, image, call, side):
    found = recorded(network, [tap_at("twice", call=call, calls=3, side=side)], image)
    expected = 2.0 ** (call + (side == "output"))
    torch.testing.assert_close(found["twice"], image * expected)


def test_all_calls_and_sides_in_one_pass(network, image):
    taps = [
        tap_at("twice", name=f"{side}{call}", call=call, calls=3, side=side)
        for call in range(3)
        for side in ("output", "input")
    ]
    found = recorded(network, taps, image)
    assert {name: float(maps[0, 0, 0, 0]) for name, maps in found.items()} == {
        "input0": 1.0,
        "output0": 2.0,
        "input1": 2.0,
        "output1": 4.0,
        "input2": 4.0,
        "output2": 8.0,
    }


def test_calls_are_counted_over_passes_until_cleared(network, image):
    taps, seen = [tap_at("twice", call=1, calls=3), tap_at("unused")], []
    with hooks.watching(network, taps, lambda tap, _: seen.append(tap.name)) as calls:
        network(image)
        assert calls == {"twice": 3}
        network(image)
        assert calls == {"twice": 6}
        assert seen == ["twice"], "a pass without clear() began with an old count"
        calls.clear()
        network(image)
        assert calls == {"twice": 3}
    assert seen == ["twice", "twice"]


def test_the_sink_gets_the_tensor_before_it_is_overwritten():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True)).eval()
    nn.init.constant_(network[0].weight, -1.0)
    nn.init.zeros_(network[0].bias)
    image, kept = torch.ones(1, 1, 2, 2), []
    with (
        torch.inference_mode(),
        hooks.watching(network, [tap_at("0")], lambda _, maps: kept.append((maps, maps.clone()))),
    ):
        network(image)
    ((aliased, copied),) = kept
    assert copied.max() == -1.0
    assert aliased.min() == 0.0, "the module no longer works in place: this test shows nothing"


def test_hooks_are_gone_after_normal_end(network, image):
    with hooks.watching(network, [tap_at("twice"), tap_at("late")], lambda *_: None):
        assert hook_count(network) == 4
        network(image)
    assert hook_count(network) == 0


def test_hooks_are_gone_after_an_error_in_the_sink(network, image):
    def fail(tap, maps):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), hooks.watching(network, [tap_at("twice")], fail):
        network(image)
    assert hook_count(network) == 0


def test_hooks_are_gone_after_an_error_in_the_block(network):
    with pytest.raises(KeyboardInterrupt), hooks.watching(network, [tap_at("twice")], lambda *_: None):
        raise KeyboardInterrupt
    assert hook_count(network) == 0


def test_no_hook_is_set_when_one_path_is_unknown(network):
    with (
        pytest.raises(TapError, match="no module 'twicce'; did you mean 'twice'"),
        hooks.watching(network, [tap_at("late"), tap_at("twicce")], lambda *_: None),
    ):
        pytest.fail("the block ran with an unknown path")
    assert hook_count(network) == 0


def test_hooks_of_others_stay(network, image):
    seen = []
    network.twice.register_forward_hook(lambda *_: seen.append(1))
    with hooks.watching(network, [tap_at("twice")], lambda *_: None):
        network(image)
    network(image)
    assert len(seen) == 6


def test_module_at():
    network = nn.Sequential(nn.Sequential(nn.ReLU()))
    assert hooks.module_at(network, "0.0") is network[0][0]
    with pytest.raises(TapError, match=r"network Sequential has no module '0\.1'"):
        hooks.module_at(network, "0.1")


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, _):
        return self.value


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (torch.zeros(2, 3), "a tensor of 2 dimensions"),
        (torch.zeros(2, 3, 4), "a tensor of 3 dimensions"),
        (torch.zeros(1, 2, 3, 4, 5), "a tensor of 5 dimensions"),
        ({"maps": torch.zeros(1, 1, 1, 1)}, "dict"),
        ((), "tuple"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_feature_map_is_refused(value, came, image):
    network = nn.Sequential(Returns(value))
    with (
        pytest.raises(TapError, match=f"tap '0' gives {came}, expected feature maps"),
        hooks.watching(network, [tap_at("0")], lambda *_: None),
    ):
        network(image)


def test_the_first_of_several_tensors_is_taken(image):
    first, second = torch.full((1, 1, 1, 1), 1.0), torch.full((1, 1, 1, 1), 2.0)
    found = recorded(nn.Sequential(Returns(([first, second], second))), [tap_at("0")], image)
    assert found["0"].item() == 1.0


def test_forward_ends_at_stop_and_hands_on_other_errors(network, image):
    ran = []
    network.late.register_forward_hook(lambda *_: ran.append("late"))

    def stop(*_):
        raise hooks.StopForward

    with hooks.watching(network, [tap_at("twice", call=2, calls=3)], stop):
        hooks.forward(network, image)
    assert ran == []
    with pytest.raises(RuntimeError):
        hooks.forward(network, torch.ones(1, 7, 2, 2))


def test_weight_calls_count_convolutions_and_linear_layers_only():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    count, remove = hooks.weight_calls(network)
    network(torch.ones(1, 1, 2, 2))
    network(torch.ones(1, 1, 2, 2))
    assert count() == 4
    remove()
    network(torch.ones(1, 1, 2, 2))
    assert count() == 4
    assert hook_count(network) == 0


def test_device_of():
    assert hooks.device_of(nn.ReLU()) == torch.device("cpu")
    assert hooks.device_of(nn.Conv2d(1, 1, 1, device="meta")) == torch.device("meta")
