"""Narrow AlexNet, VGG, InceptionV1 and ResNet for 64 px images.

Every network keeps the structure and the module names of the full one in torchvision or timm, so
that a tap means the same place: ``features.3`` is AlexNet's second convolution, ``inception3a`` the
first mixed layer, ``layer1.0`` the first residual block. None has BatchNorm: the articles' AlexNet,
VGG and InceptionV1 had none either, and narrow networks with it reached the same accuracy with far
fewer units tuned to curves. What differs from the full networks, besides width:

=========== ========================== ========================================================
network     names follow               departures
=========== ========================== ========================================================
alexnet     torchvision ``alexnet``    first convolution 7x7 stride 2 instead of 11x11 stride 4;
                                       second pooling with stride 1, so that the maps from
                                       ``features.6`` on are 13x13 as in the full network
vgg         torchvision ``vgg11``      1, 1, 4 and 2 convolutions in four stages, the third as
                                       in VGG19; one hidden linear layer
inceptionv1 torchvision ``googlenet``  true 5x5 kernels in the third branch, as in the article
                                       (torchvision has 3x3); ``maxpool2`` keeps its resolution;
                                       3a, 3b, 4a, 4b and 5a only; no auxiliary heads
resnet      timm ``resnet18``          1, 2, 1 and 1 blocks; ``layer2`` keeps its resolution,
                                       max-pooling instead of strides before ``layer3`` and
                                       ``layer4``; a gain and a bias per channel in BatchNorm's
                                       place
=========== ========================== ========================================================
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Neither timm nor torchvision, which take seconds to import: whoever compares pocket networks alone needs none of them.


class ConvolutionalThenLinear(nn.Module):
    """The plan of AlexNet and VGG: ``features``, ``avgpool``, ``classifier``.

    Parameters
    ----------
    features : nn.Sequential
        Convolutions, activations and poolings.
    pooled_px : int
        Side of the map that ``avgpool`` hands to the classifier.
    classifier : nn.Sequential
        Linear layers on the flattened map.
    """

    def __init__(self, features: nn.Sequential, pooled_px: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(pooled_px)
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits (image, class) of images (image, channel, y, x)."""
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))


class Convolution(nn.Module):
    """Convolution with bias, then ReLU; the weights are named ``conv`` as in torchvision."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel_size, stride, padding)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (image, n_out, y, x)."""
        return self.relu(self.conv(maps))


class ChannelAffine(nn.Module):
    """Gain and bias per channel where BatchNorm would stand, without any statistics."""

    def __init__(
        self,
        n_channels: int,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(n_channels, device=device, dtype=dtype))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (image, channel, y, x)."""
        return maps * self.weight[:, None, None] + self.bias[:, None, None]


class Mixed(nn.Module):
    """Mixed layer of InceptionV1: four branches, joined along the channels."""

    def __init__(
        self, n_in: int, n_1x1: int, n_3x3_in: int, n_3x3: int, n_5x5_in: int, n_5x5: int, n_pool: int
    ) -> None:
        super().__init__()
        self.branch1 = Convolution(n_in, n_1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            Convolution(n_in, n_3x3_in, kernel_size=1), Convolution(n_3x3_in, n_3x3, kernel_size=3, padding=1)
        )
        self.branch3 = nn.Sequential(
            Convolution(n_in, n_5x5_in, kernel_size=1), Convolution(n_5x5_in, n_5x5, kernel_size=3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), Convolution(n_in, n_pool, kernel_size=1)
        )
        # Torchvision's 3x3 kernel is drawn and replaced, because the untrained twins' weights follow the order of all draws.
        self.branch3[1] = Convolution(n_5x5_in, n_5x5, kernel_size=5, padding=2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (image, n_1x1 + n_3x3 + n_5x5 + n_pool, y, x)."""
        return torch.cat([self.branch1(maps), self.branch2(maps), self.branch3(maps), self.branch4(maps)], 1)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the channels change."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, bias=False), ChannelAffine(n_out)) if n_in != n_out else None
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.bn1 = ChannelAffine(n_out)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = ChannelAffine(n_out)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (image, n_out, y, x)."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        branch = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(maps)))))
        branch += shortcut
        return self.act2(branch)


class InceptionV1(nn.Module):
    """GoogLeNet with true 5x5 kernels, narrow, with the module names of torchvision's."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1 = Convolution(3, 24, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = Convolution(24, 24, kernel_size=1)
        self.conv3 = Convolution(24, 48, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=1, padding=1)
        self.inception3a = Mixed(48, 16, 24, 32, 8, 16, 16)
        self.inception3b = Mixed(80, 24, 32, 48, 8, 24, 16)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, padding=1)
        self.inception4a = Mixed(112, 32, 32, 64, 12, 24, 24)
        self.inception4b = Mixed(144, 32, 32, 64, 12, 24, 24)
        self.maxpool4 = nn.MaxPool2d(2, stride=2)
        self.inception5a = Mixed(144, 48, 40, 80, 12, 32, 32)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(192, n_classes)
        _he_initialisation(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (image, class) of images (image, channel, y, x)."""
        x = self.maxpool1(self.conv1(images))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.maxpool4(self.inception4b(self.inception4a(x)))
        return self.fc(torch.flatten(self.avgpool(self.inception5a(x)), 1))


class ResNet(nn.Module):
    """Residual network of basic blocks, narrow, with the module names of timm's ResNet."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 7, stride=2, padding=3, bias=False)
        self.bn1 = ChannelAffine(24)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Residual(24, 32))
        self.layer2 = nn.Sequential(Residual(32, 56), Residual(56, 56))
        self.maxpool2 = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer3 = nn.Sequential(Residual(56, 64))
        self.maxpool3 = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer4 = nn.Sequential(Residual(64, 80))
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(80, n_classes)
        _he_initialisation(self)
        # Halves the branches' share, or the variance would double with every block.
        for module in self.modules():
            if isinstance(module, Residual):
                nn.init.constant_(module.get_parameter("bn2.weight"), 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (image, class) of images (image, channel, y, x)."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        x = self.maxpool2(self.layer2(self.layer1(x)))
        x = self.layer4(self.maxpool3(self.layer3(x)))
        return self.fc(torch.flatten(self.global_pool(x), 1))


def build(architecture: str, n_classes: int) -> nn.Module:
    """Freshly initialised network, drawn from Torch's global generator.

    Parameters
    ----------
    architecture : {"alexnet", "vgg", "inceptionv1", "resnet"}
        Which network.
    n_classes : int
        Number of outputs.

    Returns
    -------
    nn.Module
        In training mode; takes (image, 3, 64, 64) and returns logits (image, n_classes).

    Raises
    ------
    ValueError
        If the architecture is unknown.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture is {architecture!r}, expected one of {known}")
    return ARCHITECTURES[architecture](n_classes)


def _alexnet(n_classes: int) -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 24, 7, stride=2, padding=3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(24, 48, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=1),
        nn.Conv2d(48, 64, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 48, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
    )
    classifier = nn.Sequential(
        nn.Dropout(0.1),
        nn.Linear(48 * 6 * 6, 64),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Linear(64, 64),
        nn.ReLU(inplace=True),
        nn.Linear(64, n_classes),
    )
    network = ConvolutionalThenLinear(features, 6, classifier)
    _he_initialisation(network)
    return network


def _vgg(n_classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    n_in = 3
    for n_out, pooled in ((16, 1), (32, 1), (48, 0), (48, 0), (64, 0), (64, 1), (64, 0), (64, 1)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(inplace=True), *[nn.MaxPool2d(2, stride=2)] * pooled]
        n_in = n_out
    classifier = nn.Sequential(
        nn.Linear(64 * 4 * 4, 64),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Linear(64, n_classes),
    )
    network = ConvolutionalThenLinear(nn.Sequential(*layers), 4, classifier)
    _he_initialisation(network)
    return network


def _he_initialisation(network: nn.Module) -> None:
    """He's normal initialisation keeps the variance of activations through ReLU layers.

    Linear layers keep Torch's smaller default: with He's, the narrow heads can die at high rates.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "alexnet": _alexnet,
    "vgg": _vgg,
    "inceptionv1": InceptionV1,
    "resnet": ResNet,
}
"""Builders by name; each takes the number of classes."""
