"""Weights between two taps: composed kernels by hand, finite differences, and the sentences for what cannot be."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import universality
from universality.base.errors import TapError
from universality.circuits import expanded, kept


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = make()
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(norm.weight)
    return network.eval()


def composed(first, second):
    """The kernel of two convolutions one after the other, the second without stride: (out, in, y, x)."""
    a, b = (module.weight.detach().numpy().astype(float) for module in (first, second))
    size = a.shape[2] + b.shape[2] - 1
    out = np.zeros((len(b), a.shape[1], size, size))
    for o in range(len(b)):
        for m in range(len(a)):
            for i in range(a.shape[1]):
                for y in range(b.shape[2]):
                    for x in range(b.shape[3]):
                        out[o, i, y : y + a.shape[2], x : x + a.shape[3]] += b[o, m, y, x] * a[m, i]
    return out


def test_two_convolutions_are_their_composed_kernel():
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, 6, 3, padding=1),
        )
    )
    found = universality.expanded_weights(network, "0", "3", image_size=17)
    assert found.dims == ("unit_b", "unit_a", "dy", "dx")
    assert found["dy"].values.tolist() == found["dx"].values.tolist() == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(found.values, composed(network[1], network[3]), atol=1e-5)
    some = universality.expanded_weights(network, "0", "3", units=[4, 1], image_size=17)
    np.testing.assert_allclose(some.values, found.values[[4, 1]], atol=1e-6)
    assert some["unit_b"].values.tolist() == [4, 1]


def test_strides_are_offsets_in_the_image():
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2, padding=1), nn.ReLU()
        )
    )
    found = universality.expanded_weights(network, "1", "3", image_size=33)
    assert found["dx"].values.tolist() == [-2, 0, 2]
    np.testing.assert_allclose(found.values, network[2].weight.detach().numpy(), atol=1e-6)


def test_depthwise_then_pointwise():
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU6(), nn.Conv2d(4, 5, 1)
        )
    )
    found = universality.expanded_weights(network, "0", "3", image_size=9).values
    depth, point = network[1].weight.detach().numpy()[:, 0], network[3].weight.detach().numpy()[:, :, 0, 0]
    np.testing.assert_allclose(found, point[:, :, None, None] * depth[None], atol=1e-6)


def test_batchnorm_scales():
    network = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5), nn.SiLU())
    )
    found = universality.expanded_weights(network, "0", "3", image_size=9).values
    norm = network[2]
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().numpy()
    np.testing.assert_allclose(found, scale[:, None, None, None] * network[1].weight.detach().numpy(), atol=1e-5)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.GELU()

    def forward(self, x):
        x = self.stem(x)
        return self.act(self.conv(x)) + x


def test_a_residual_sum_adds_the_identity():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()
            self.out = nn.Conv2d(4, 3, 1)

        def forward(self, x):
            return self.out(self.block(x))

    network = seeded(Net)
    found = universality.expanded_weights(network, "block.stem", "block", image_size=9).values
    expected = network.block.conv.weight.detach().numpy().copy()
    expected[range(4), range(4), 1, 1] += 1
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Inception(nn.Module):
    """Branches of other sizes, joined; pooling as one of them; a classifier behind the mean."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.small, self.large, self.pooled = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 5, padding=2), nn.Conv2d(4, 2, 1)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.join = nn.ReLU()
        self.head = nn.Linear(7, 6)

    def forward(self, x):
        x = self.stem(x)
        x = self.join(torch.cat([self.small(x), self.large(x), self.pooled(self.pool(x))], 1))
        return self.head(x.mean((2, 3)))


def test_branches_are_joined_and_maxima_become_means():
    network = seeded(Inception)
    found = universality.expanded_weights(network, "stem", "join", image_size=15).values
    assert found.shape == (7, 4, 5, 5)
    np.testing.assert_allclose(found[:2, :, 2, 2], network.small.weight.detach().numpy()[:, :, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[2:5], network.large.weight.detach().numpy(), atol=1e-6)
    mean = np.zeros((5, 5))
    mean[1:4, 1:4] = 1 / 9
    np.testing.assert_allclose(found[5:], network.pooled.weight.detach().numpy()[:, :, :1, :1] * mean, atol=1e-6)


def test_class_weights_of_a_unit_are_those_of_the_classifier():
    network = seeded(Inception)
    found = universality.expanded_weights(network, "join", "head", image_size=15)
    assert found.shape == (6, 7, 15, 15)
    np.testing.assert_allclose(found.sum(("dy", "dx")).values, network.head.weight.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["mean_gradient", "case_gradients"])
def test_gradients_are_finite_differences_of_the_network_as_it_is(kind):
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 3, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(3, 2, 3, padding=1),
        )
    )
    images = np.random.default_rng(0).normal(size=(3, 3, 11, 11)).astype(np.float32)
    found = universality.expanded_weights(network, "0", "4", kind=kind, image_size=11, images=images)
    rest, step = network[1:], 1e-3
    cases = []
    for image in images:
        with torch.no_grad():
            maps = network[0](torch.from_numpy(image[None])).double()
            rest = rest.double()
            grads = np.zeros((2, 4, 5, 5))
            for j in range(4):
                for dy in range(5):
                    for dx in range(5):
                        ends = []
                        for sign in (1, -1):
                            moved = maps.clone()
                            moved[0, j, 3 + dy, 3 + dx] += sign * step
                            ends.append(rest(moved)[0, :, 5, 5].numpy())
                        grads[:, j, dy, dx] = (ends[0] - ends[1]) / (2 * step)
            cases.append(grads)
    expected = np.mean(cases, axis=0) if kind == "mean_gradient" else np.stack(cases)
    came = found.reindex(dy=np.arange(-2, 3), dx=np.arange(-2, 3), fill_value=0.0).values
    # A step across the corner of a rectifier is no derivative: few places.
    assert (np.abs(came - expected) < 1e-3).mean() > 0.98


def test_the_network_is_left_as_it_was():
    network = seeded(Inception).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    universality.expanded_weights(network, "stem", "join", image_size=15)
    assert network.training and not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_published_support_between_neighbouring_layers_of_inceptionv1():
    """3a and 3b of GoogLeNet: their branches reach 5 x 5 places, 256 and 480 channels (Voss et al. 2021)."""
    found = universality.expanded_weights("pocket/inceptionv1-focus-s0", "inception3a", "inception3b")
    assert len(found["dy"]) == len(found["dx"]) == 5


def test_a_card_gives_correlations_of_its_kernels():
    """Against the correlation of two kernels of a pocket network whose path is linear but for a rectifier."""
    from universality.models import catalogue, zoo

    network = zoo.pretrained(catalogue.card("pocket/vgg-focus-s0"))
    kinds = [
        (name, type(m)) for name, m in network.features.named_children() if isinstance(m, (nn.Conv2d, nn.MaxPool2d))
    ]
    # Two convolutions without a pool between them.
    names = next([a, b] for (a, one), (b, other) in itertools.pairwise(kinds) if one is other is nn.Conv2d)
    first, second = f"features.{names[0]}", f"features.{names[1]}"
    found = universality.expanded_weights("pocket/vgg-focus-s0", first, second, units=[0, 3])
    between = network.features[int(names[0]) + 1 : int(names[1]) + 1]
    with torch.no_grad():
        norms = [m for m in between if isinstance(m, nn.BatchNorm2d)]
        scale = 1.0 if not norms else (norms[0].weight / (norms[0].running_var + norms[0].eps).sqrt())[2]
        kernel = network.features[int(names[1])].weight[[0, 3], 2] * scale
    np.testing.assert_allclose(found.sel(unit_a=2).values, kernel.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ("head", "stem"),
            "tap 'stem' of 'Inception' does not depend on tap 'head': it comes before it, or lies on another branch",
        ),
        (("small", "large"), "tap 'large' of 'Inception' does not depend on tap 'small'"),
        (("stem", "joint"), "has no layer that fits 'joint'; did you mean 'join'"),
        (("stem", "join", [7]), "tap 'join' of 'Inception' has no unit 7, expected 0 to 6"),
        (
            ("stem", "join", None, "gradient"),
            "unknown kind of weights 'gradient', expected one of linear, mean_gradient, case_gradients",
        ),
        (("stem", "join", None, "mean_gradient"), "nothing says how they are made for this module; give images"),
    ],
)
def test_what_cannot_be_is_one_sentence(asked, said):
    with pytest.raises(TapError, match=said):
        universality.expanded_weights(seeded(Inception), *asked, **({} if len(asked) > 4 else {"image_size": 15}))


def test_weights_that_take_too_much_are_refused_before_they_are_computed(monkeypatch):
    monkeypatch.setattr("universality.circuits.expanded._gradients", lambda *_: pytest.fail("computed"))
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    with pytest.raises(
        TapError, match=r"into 4 units .* of '1' take up to 0.0 GB, more than max_bytes .*; ask for fewer units"
    ):
        universality.expanded_weights(net, "0", "1", image_size=16, max_bytes=1000)


class Attending(nn.Module):
    """Attention of three kinds behind a convolution, and a gated unit; what comes before them and after them is linear."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)
        self.how, self.heads = how, nn.MultiheadAttention(8, 2, batch_first=True)
        self.gate, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        if self.how == "module":
            x = self.heads(x, x, x)[0]
        elif self.how == "function":
            x = torch.nn.functional.scaled_dot_product_attention(x, x, x)
        elif self.how == "by hand":
            x = (x @ x.transpose(1, 2)).softmax(dim=-1) @ x
        else:
            x = x * self.gate(x)
        return self.out(self.after(x))


@pytest.mark.parametrize("how", ["module", "function", "by hand", "gated"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_tap_behind_attention_is_one_sentence(how, frozen):
    network = seeded(lambda: Attending(how)).requires_grad_(not frozen)
    with pytest.raises(
        TapError,
        match=r"depends on tap 'conv' through attention, or another product .*; choose taps without .* kind 'mean_gradient'",
    ):
        universality.expanded_weights(network, "conv", "out", image_size=16)
    # What comes before the earlier tap may attend.
    found = universality.expanded_weights(network, "after", "out", image_size=16).sum(("dy", "dx"))
    np.testing.assert_allclose(found.values, network.out.weight.detach().numpy(), atol=1e-6)
    images = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    assert (
        np.abs(
            universality.expanded_weights(network, "conv", "out", kind="mean_gradient", image_size=16, images=images)
        ).max()
        > 0
    )
    assert all(p.requires_grad is not frozen for p in network.parameters())


def test_a_module_is_shown_images_on_its_own_device(monkeypatch):
    """No second device is at hand: one that differs in name alone stands for it, and what was moved there carries a mark."""
    elsewhere = torch.device("cpu", 0)
    moved, to = [], torch.Tensor.to

    def marked(tensor, *args, **kwargs):
        found = to(tensor, *args, **kwargs)
        if args and isinstance(args[0], torch.device) and args[0].index == 0:
            found = found.clone()
            moved.append(found)
        return found

    network = seeded(Inception)
    shown = []
    network.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    describe = expanded.describe_tap

    def described(*args, **kwargs):
        found = describe(*args, **kwargs)
        shown.clear()
        return found

    monkeypatch.setattr(expanded, "describe_tap", described)
    monkeypatch.setattr("universality.models.hooks.device_of", lambda _: elsewhere)
    monkeypatch.setattr(torch.Tensor, "to", marked)
    universality.expanded_weights(network, "stem", "join", image_size=15)
    assert shown and all(any(image is one for one in moved) for image in shown)
    # The directions, too.
    assert any(one.shape == (7, 7) for one in moved)


def test_large_weights_are_kept_by_what_decides_them(monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "LEAST_BYTES", 1000)
    computed = []
    gradients = expanded._gradients
    monkeypatch.setattr(expanded, "_gradients", lambda *given: computed.append(1) or gradients(*given))
    network = seeded(Inception)

    def asked(taps=("stem", "join"), of=network, **given):
        return universality.expanded_weights(of, *taps, image_size=15, store=tmp_path, **given)

    first = asked()
    again = asked()
    assert len(computed) == 1 and again.chunks is not None
    xr.testing.assert_identical(first.compute(), again.compute())
    plain = universality.expanded_weights(network, "stem", "join", image_size=15)
    assert plain.chunks is None and len(computed) == 2
    xr.testing.assert_identical(again.compute(), plain)
    # Other units, another kind, other images, other weights: each is computed.
    images = np.random.default_rng(0).normal(size=(2, 3, 15, 15)).astype(np.float32)
    others = [
        asked(units=[0, 1]),
        asked(kind="case_gradients", images=images),
        asked(kind="case_gradients", images=images[::-1]),
    ]
    network.small.weight.data *= 2
    others.append(asked())
    assert len(computed) == 2 + 1 + 2 + 2 + 1
    assert others[1].dims == ("image", "unit_b", "unit_a", "dy", "dx")
    assert np.abs(others[1].compute().values - others[2].compute().values[::-1]).max() < 1e-6
    # A module in hand is kept nowhere unless a store is named.
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("harm", ["changed", "cut short", "deleted", "manifest"])
def test_kept_weights_that_were_damaged_are_made_again(harm, monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "LEAST_BYTES", 1000)
    network = seeded(Inception)
    ask = partial(universality.expanded_weights, network, "stem", "join", image_size=15, store=tmp_path)
    before = ask().compute()
    (folder,) = [path for path in tmp_path.iterdir() if len(path.name) == 32]
    piece = next(
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "/c/" in path.as_posix() and "weight" in path.as_posix()
    )
    content = piece.read_bytes()
    if harm == "changed":
        piece.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "cut short":
        piece.write_bytes(content[:-1])
    elif harm == "deleted":
        piece.unlink()
    else:
        (folder / "manifest.json").write_text("{}", encoding="utf-8")
    xr.testing.assert_identical(ask().compute(), before)
    assert [path.name for path in tmp_path.iterdir() if ".damaged-" in path.name]


def test_no_image_is_one_sentence():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    with pytest.raises(TapError, match="no image is given"):
        universality.expanded_weights(
            net, "0", "1", kind="mean_gradient", image_size=16, images=np.zeros((0, 3, 16, 16), np.float32)
        )


def test_taps_of_other_branches_of_a_frozen_network_are_one_sentence():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return torch.cat([self.one(x), self.two(x)], dim=1)

    for net in (Branches(), Branches().requires_grad_(False)):
        with pytest.raises(TapError, match="does not depend on tap 'one'"):
            universality.expanded_weights(net, "one", "two", image_size=16)
