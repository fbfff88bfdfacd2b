"""Networks of cards without what no test of them looks at, and a record of what a network computes.

`zoo.build` draws each random number of a network: for VGG 138 million, of which seven in eight belong to a classifier behind every tap.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from universality.models import hooks, zoo
from universality.models.card import input_shape

CLASSIFIER = 10_000_000  # numbers in a tensor of weights: larger ones are those of VGG's and AlexNet's classifiers
KNOWN_BUFFERS = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}


def shell(card):
    """The card's network as `zoo.build` makes it, on no device: shapes, paths and operations are its own, values there are none."""
    with torch.device("meta"):
        return zoo.build(card)


def network(card, seed=0):
    """The card's network as `zoo.build` makes it, with other random weights, and zeros in a classifier of timm or torchvision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if card.library not in ("timm", "torchvision"):
            return zoo.build(card)
        built = shell(card).to_empty(device="cpu")
        for name, parameter in built.named_parameters():
            draw(parameter.data, name)
        for name, buffer in built.named_buffers():
            buffer.fill_(KNOWN_BUFFERS[name.rpartition(".")[2]])
    return built


def draw(weights, name):
    """As wide as keeps the variance behind a rectifier; normalisations change nothing."""
    if weights.numel() > CLASSIFIER or name.endswith("bias"):
        weights.fill_(0.0)
    elif weights.ndim == 1:
        weights.fill_(1.0)
    else:
        weights.normal_(0.0, (2 / weights[0].numel()) ** 0.5)


class Record(TorchDispatchMode):
    """Every operation in its order: its name, its numbers, and for each tensor which operation gave it, or its shape.

    Networks with equal records compute the same of their weights and images.
    """

    def __init__(self):
        super().__init__()
        self.steps = []
        self._given = {}  # by identity: the tensor itself, so that no other takes its identity, and its place

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        came = func(*args, **(kwargs or {}))
        self.steps.append((str(func), *map(self._told, args), *map(self._told, (kwargs or {}).items())))
        for part in came if isinstance(came, (tuple, list)) else (came,):
            self._given[id(part)] = part, len(self.steps)
        return came

    def _told(self, value):
        if isinstance(value, torch.Tensor):
            return self.place(value) or tuple(value.shape)
        return tuple(map(self._told, value)) if isinstance(value, (tuple, list)) else repr(value)

    def place(self, tensor):
        return self._given.get(id(tensor), (None, None))[1]


def computation(built, card):
    """What a shell computes of an image up to its taps, and where on the way each tap lies; to be compared, and to be a key."""
    places, record = {}, Record()
    with (
        torch.no_grad(),
        record,
        hooks.watching(
            built, card.taps, lambda tap, maps: places.update({tap.name: (record.place(maps), len(record.steps))})
        ),
    ):
        built(torch.zeros(1, *input_shape(card.preprocessing.shape), device="meta"))
    last = max(steps for _, steps in places.values())
    return tuple(record.steps[:last]), tuple(places.items()), card.preprocessing.shape
