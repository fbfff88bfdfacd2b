"""Taps of networks made for a test, and what is seen at them by hooks."""

import torch

from universality.models import hooks
from universality.models.card import Tap


def tap_at(path, **facts):
    """A tap of one unit and one position, where `facts` do not say otherwise."""
    stated = {
        "path": path, "activation": "post", "channels": 1, "size": 1, "rf_px": 1, "stride_px": 1, "rf_start_px": 0.0,
        "relative_depth": 1.0,
    }  # fmt: skip
    return Tap.model_validate({**stated, **facts})


def recorded(network, taps, images):
    """The maps at taps, by name, of one forward pass."""
    found = {}
    with (
        torch.inference_mode(),
        hooks.watching(network, taps, lambda tap, maps: found.update({tap.name: maps.clone()})),
    ):
        hooks.forward(network, images)
    return found
