"""A network and stimuli in; stored, labelled activations out, each under the key of what decides its values."""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The package as the function of its name: `universality.activations(model, images)` is called, and imported from."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        from universality.activations.in_hand import activations

        return activations(*arguments, **named)


# Importing any module of this package binds the name to the package, whatever else was bound to it before.
sys.modules[__name__].__class__ = _Room
