"""BatchNorm joined to the convolution before it: the same values wherever somebody reads, and left alone where they would change."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tapped import recorded, tap_at
from torch import nn

from universality.models import hooks
from universality.models.folding import folded

SIZE_PX = 32


def lively(network, seed=0):
    """Give every BatchNorm statistics and weights of its own, without which nothing would be seen of it."""
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.copy_(torch.randn(module.num_features, generator=draw))
            module.running_var.copy_(torch.rand(module.num_features, generator=draw) + 0.5)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 2.0)
                nn.init.uniform_(module.bias, -1.0, 1.0)
    return network.eval()


def norms(network):
    return [path for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


def stop(*_):
    raise hooks.StopForward


def images(size=SIZE_PX, count=3):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def same(network, joined, taps, size=SIZE_PX):
    before, after = (recorded(each, taps, images(size)) for each in (network, joined))
    # Rounding of float32 through up to 30 layers of drawn weights, five times below what `folded` itself lets pass.
    return all((after[name] - values).abs().max() <= 2e-4 * values.abs().max() for name, values in before.items())


class Line(nn.Module):
    """Two convolutions with BatchNorm; the first one's output may have a second reader."""

    def __init__(self, *, twice=False, grouped=False, affine=True, bias=True):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, stride=2, bias=bias)
        self.bn1 = nn.BatchNorm2d(4, affine=affine)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, groups=4 if grouped else 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4, eps=0.1)
        self.end = nn.Identity()
        self.twice = twice

    def forward(self, x):
        first = self.conv1(x)
        also = first * 0.1 if self.twice else 0.0
        second = self.bn2(self.conv2(self.relu1(self.bn1(first))))
        return self.end(second + (also[:, :, 1:-1, 1:-1] if self.twice else 0.0))


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 1000))
@settings(max_examples=12, deadline=None)
def test_values_are_those_of_the_network(grouped, affine, bias, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = lively(Line(grouped=grouped, affine=affine, bias=bias), seed)
    taps = [tap_at("bn1"), tap_at("relu1"), tap_at("end")]
    joined = folded(network, taps, SIZE_PX)
    assert norms(joined) == [] and norms(network) == ["bn1", "bn2"]
    assert same(network, joined, taps)


def test_the_given_network_is_not_changed_and_what_is_not_joined_is_shared():
    network = lively(Line())
    before = copy.deepcopy(network.state_dict())
    joined = folded(network, [tap_at("relu1")], SIZE_PX)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    # Behind the deepest tap nothing runs, so nothing is joined.
    assert norms(joined) == ["bn2"]
    assert joined.conv2.weight.data_ptr() == network.conv2.weight.data_ptr()


def test_a_convolution_that_is_read_keeps_its_output():
    network, taps = lively(Line()), [tap_at("conv1"), tap_at("end")]
    joined = folded(network, taps, SIZE_PX)
    assert norms(joined) == ["bn1"] and same(network, joined, taps)


def test_a_batchnorm_whose_input_is_read_keeps_it():
    network, taps = lively(Line()), [tap_at("bn2", side="input"), tap_at("end")]
    joined = folded(network, taps, SIZE_PX)
    assert norms(joined) == ["bn2"] and same(network, joined, taps)


def test_a_second_reader_of_a_convolution_is_noticed():
    network = lively(Line(twice=True))
    assert folded(network, [tap_at("end")], SIZE_PX) is network


def test_a_module_that_is_called_twice_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.other(self.conv(self.bn(self.conv(x))))

    network = lively(Twice())
    assert folded(network, [tap_at("other", channels=3)], SIZE_PX) is network


def test_without_batchnorm_it_is_the_network_itself():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    assert folded(network, [tap_at("1")], SIZE_PX) is network


@pytest.mark.parametrize(
    ("name", "path", "stay"),
    [
        ("tf_efficientnet_lite0", "blocks.4.1.bn2", 0),  # nonlinearity within the BatchNorm, padding of TensorFlow
        ("resnet18", "layer3.0", 0),
        ("densenet121", "features.denseblock2", 19),  # BatchNorm before the convolution in 18 layers and a transition
        ("regnety_002", "s3.b1", 0),
    ],
)
def test_architectures(name, path, stay):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = lively(timm.create_model(name))
    taps, size = [tap_at(path)], 64
    joined = folded(network, taps, size)
    assert same(network, joined, taps, size)
    ran = []
    for module in joined.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, *_: ran.append(module))
    with torch.inference_mode(), hooks.watching(joined, taps, stop):
        hooks.forward(joined, images(size))
    assert len(ran) == stay


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("size", [(3, 20, 20), (3, 21, 21), (3, 20, 21)])
def test_depthwise_convolutions_pad_alike_on_both_sides(kernel, size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        same_padding = timm.layers.Conv2dSame(6, 6, kernel, stride=2, groups=6, bias=False)
        network = lively(nn.Sequential(nn.Conv2d(3, 6, 1), same_padding, nn.BatchNorm2d(6)))
    joined = folded(network, [tap_at("2")], size)
    assert not any(isinstance(module, timm.layers.Conv2dSame) for module in joined.modules())
    shown = torch.randn(4, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(joined(shown), network(shown), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("stride", "dilation", "wide"), [(3, 1, 1), ((1, 2), 1, 2), (2, 2, 1)])
def test_depthwise_convolutions_of_other_strides_dilations_and_widths(stride, dilation, wide):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        same_padding = timm.layers.Conv2dSame(6, 6 * wide, 3, stride=stride, dilation=dilation, groups=6)
        network = lively(nn.Sequential(nn.Conv2d(3, 6, 1), same_padding, nn.BatchNorm2d(6 * wide)))
    joined = folded(network, [tap_at("2")], (3, 17, 23))
    assert any(isinstance(module, timm.layers.Conv2dSame) for module in joined.modules()) == (dilation > 1)
    shown = torch.randn(4, 3, 17, 23, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(joined(shown), network(shown), rtol=1e-5, atol=1e-5)
