"""What models, nulls and numbers are called wherever people read them: the command line, the report, figures."""

from __future__ import annotations

HAAR_NAME = "random basis (Haar)"
"""What the null of a rotated layer is called, everywhere."""


def short(model: str) -> str:
    """Return a model's name without its source."""
    return model.split("/", 1)[-1]


def number(value: float, digits: int = 2) -> str:
    """Return a number with so many digits behind the point; 0.00 has no sign, and NaN is said in words.

    Examples
    --------
    >>> number(-0.0004), number(-0.5, 1), number(float("nan"))
    ('0.00', '-0.5', 'not defined')
    """
    if value != value:
        return "not defined"
    # Adding 0.0 takes the sign from a rounded -0.0.
    return f"{round(float(value), digits) + 0.0:.{digits}f}"
