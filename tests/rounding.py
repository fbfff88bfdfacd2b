"""How far two float32 computations of the same sum may lie apart on any processor."""

import numpy as np

UNIT_ROUNDOFF = 2.0**-24
"""Of float32, round to nearest."""


def float32_slack(values, terms: int) -> float:
    """Largest difference that the order of summation explains, in units of `values`.

    Another processor, number of threads or library adds the same terms in another order, fused or not. A sum of n terms is
    then off by at most n u sum|terms| with u = 2^-24 (Higham 2002, Accuracy and Stability of Numerical Algorithms, eq. 4.4).
    Terms of both signs add up to far less than sum|terms|; the largest value of the map stands for their size here, and n
    counts the terms of all layers up to it. For the second layer of AlexNet that is 1.2e-4 of the largest value; a result off by
    0.1 % is still found.
    """
    return terms * UNIT_ROUNDOFF * float(np.abs(np.asarray(values)).max())
