"""How units are named on the command line and in Python."""

from __future__ import annotations

from universality.base.errors import RunError


def parse_unit(text: str) -> tuple[str, str, int]:
    """Return (model, tap, unit) of ``MODEL:TAP:INDEX``.

    Raises
    ------
    RunError
        The text has another form.

    Examples
    --------
    >>> parse_unit("pocket/vgg-focus-s0:features.13:7")
    ('pocket/vgg-focus-s0', 'features.13', 7)
    """
    model, _, rest = text.partition(":")
    tap, _, unit = rest.rpartition(":")  # the name of a tap may hold a colon: layer2.0.relu:1, features.13:pre
    if not (model and tap and unit.isdigit()):
        raise RunError(f"'{text}' names no unit, expected MODEL:TAP:INDEX such as pocket/vgg-focus-s0:features.13:7")
    return model, tap, int(unit)
