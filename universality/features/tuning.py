"""Tuning curves over a circular parameter and their statistics. Arrays in, arrays out.

Angles are in degrees over the full circle. Curves are (units, angles), evenly spaced or not; where a statistic needs
even spacing, it says so. Responses below 0 carry no meaning for selectivity and are cut at 0.

References
----------
N. Cammarata et al., Curve Detectors, Distill 2020. K. V. Mardia and P. E. Jupp, Directional Statistics, 2000.
G. M. Cordeiro and S. L. de Paula Ferrari, A modified score test statistic having chi-squared distribution to order
1/n, Biometrika 78, 1991.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from universality.base.errors import MeasureError
from universality.base.inputs import Form, given
from universality.base.schema import ANGLE, UNIT

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
CURVES = Form(
    (UNIT, ANGLE),
    "(units, angles)",
    "responses",
    "units",
    {
        0: "a single number is no curve",
        1: "one curve is curves[None, :]",
        3: "take one curve of each unit, or their mean",
    },
    least=0,
)
ANGLES = Form((ANGLE,), "(angles,)", "angles", "angles", {})
_PAIRS_AT_ONCE = 1 << 22
"""Correlations, one for each pair and shift, that `best_shift_correlation` holds at once: 32 MB, its spectra as much."""


@dataclass(frozen=True)
class TuningStatistics:
    """Statistics of tuning curves, one value per unit (units,); NaN for a curve that is nowhere above 0.

    Attributes
    ----------
    preferred_deg : angle of the largest response, degrees, 0 to the period
    circular_mean_deg : direction of the resultant, degrees, 0 to the period; NaN where there is none (r1 below 1e-9)
    r1 : |sum r exp(i phi)| / sum r with phi = 2 pi theta / period, 0 (untuned) to 1 (one angle)
    r2 : the same with 2 phi: 1 for two angles half a period apart
    fwhm_deg : width of the stretch around the peak that stays at or above half the peak, degrees; the period if it never
        falls
    echo : largest response within a twelfth of the period (30 degrees of a full circle) of half a period from the peak /
        peak, 0 to 1
    peak : largest response, in the curve's units
    """

    preferred_deg: Array
    circular_mean_deg: Array
    r1: Array
    r2: Array
    fwhm_deg: Array
    echo: Array
    peak: Array

    def table(self) -> pd.DataFrame:
        """Return one row per unit, numbered from 0 in the column ``unit``."""
        return _one_row_per_unit(self)


@dataclass(frozen=True)
class Alignment:
    """Result of `align_tuning`, (units,): correlation not shifted, best correlation, and the shift that reaches it."""

    r_tuning: Array
    r_aligned: Array
    shift_deg: Array

    def table(self) -> pd.DataFrame:
        """Return one row per unit, numbered from 0 in the column ``unit``."""
        return _one_row_per_unit(self)


def _one_row_per_unit(found: TuningStatistics | Alignment) -> pd.DataFrame:
    import pandas as pd

    columns = {each.name: getattr(found, each.name) for each in fields(found)}
    return pd.DataFrame({UNIT: np.arange(len(next(iter(columns.values())))), **columns})


def tuning_statistics(curves: Any, angles_deg: Any, period_deg: float = 360.0) -> TuningStatistics:
    """Return the statistics of tuning curves.

    Parameters
    ----------
    curves : array_like, (units, angles)
        Responses, sigma or a.u.; negative ones count as 0. Anything that the page "Compare your own arrays" lists; of xarray
        arrays the dimensions ``unit`` and ``angle`` in any order, whose coordinate ``angle`` has to be `angles_deg`.
    angles_deg : array_like, (angles,)
        Increasing, within one period, evenly spaced over it.
    period_deg : float
        After so many degrees everything is as before: 360 for directions and hues, 180 for orientations. With 180, r1 is
        the usual orientation selectivity |sum r exp(2 i theta)| / sum r, one minus the circular variance.

    Raises
    ------
    MeasureError
        If the shapes do not fit, angles are not evenly spaced over the period, or values are not real, finite numbers.

    Examples
    --------
    A unit that answers to directions around 90 degrees:

    >>> angles = np.arange(0.0, 360.0, 30.0)
    >>> curve = np.exp(2 * np.cos(np.deg2rad(angles - 90)))
    >>> found = tuning_statistics([curve], angles)
    >>> float(found.preferred_deg[0]), round(float(found.r1[0]), 2)
    (90.0, 0.7)
    """
    responses, angles = _checked(curves, angles_deg, period_deg)
    turned = angles * (360.0 / period_deg)
    positive = np.maximum(responses, 0.0)
    peak = positive.max(axis=1)
    tuned = peak > 0
    scaled = np.divide(positive, peak[:, None], out=np.full_like(positive, np.nan), where=tuned[:, None])
    first, second = (_resultant(scaled, turned, harmonic) for harmonic in (1, 2))
    argmax = positive.argmax(axis=1)
    return TuningStatistics(
        preferred_deg=np.where(tuned, angles[argmax], np.nan),
        # A resultant of rounding size has no direction.
        circular_mean_deg=np.where(np.abs(first) > 1e-9, _degrees(first, period_deg), np.nan),
        r1=np.minimum(np.abs(first), 1.0),  # rounding may exceed 1 by an ulp
        r2=np.minimum(np.abs(second), 1.0),
        fwhm_deg=np.where(tuned, _fwhm(positive, argmax, period_deg), np.nan),
        echo=_echo(scaled, argmax, turned),
        peak=peak,
    )


def _degrees(resultant: NDArray[Any], period_deg: float) -> Array:
    """Return the angle of a resultant of the first harmonic, degrees, 0 to the period."""
    return np.asarray(np.rad2deg(np.angle(resultant)) % 360.0 * (period_deg / 360.0))


def _resultant(scaled: Array, angles_deg: Array, harmonic: int) -> NDArray[np.complex128]:
    turns = np.exp(1j * harmonic * np.deg2rad(angles_deg))
    # einsum carries the NaN of an untuned unit through silently, where a BLAS product would raise a warning.
    shares = scaled / scaled.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("ua,a->u", shares, turns))


def _fwhm(positive: Array, argmax: NDArray[np.int64], period_deg: float) -> Array:
    """Contiguous full width at half maximum, degrees, linear between samples."""
    n_angles = positive.shape[1]
    turned = np.take_along_axis(positive, (argmax[:, None] + np.arange(n_angles)) % n_angles, axis=1)
    half = turned[:, 0] / 2
    to_right = _first_crossing(turned, half)
    to_left = _first_crossing(np.concatenate([turned[:, :1], turned[:, :0:-1]], axis=1), half)
    return np.asarray(np.minimum((to_right + to_left) * (period_deg / n_angles), period_deg))


def _first_crossing(turned: Array, half: Array) -> Array:
    """Count steps from the peak (column 0) to where the curve first falls below `half`; half a turn if it never does."""
    n_angles = turned.shape[1]
    below = turned < half[:, None]
    found = below.any(axis=1)
    first = np.where(found, below.argmax(axis=1), 1)
    rows = np.arange(len(turned))
    before, after = turned[rows, first - 1], turned[rows, first]
    fraction = np.divide(before - half, before - after, out=np.zeros_like(half), where=before > after)
    return np.asarray(np.where(found, first - 1 + fraction, n_angles / 2))


def _echo(scaled: Array, argmax: NDArray[np.int64], angles_deg: Array) -> Array:
    """Largest response within 30 degrees of the opposite, of curves scaled to a peak of 1."""
    from_opposite = circular_difference(angles_deg[None, :], angles_deg[argmax][:, None] + 180.0)
    # The margin of 1e-9 degrees is for angles that are not exact in binary, such as 360 / 7.
    near = np.where(np.abs(from_opposite) <= 30.0 + 1e-9, scaled, 0.0 * scaled)
    return np.asarray(near.max(axis=1))


def align_tuning(a: Any, b: Any, angles_deg: Any, period_deg: float = 360.0) -> Alignment:
    """Return how well tuning curves agree as they are, and after the best rotation.

    Parameters
    ----------
    a, b : array_like, (units, angles)
        As in `tuning_statistics`. Row u of `a` is compared with row u of `b`, whatever labels the units carry.
    angles_deg : array_like, (angles,)
        Evenly spaced over the period.
    period_deg : float
        As in `tuning_statistics`.

    Returns
    -------
    Alignment
        Pearson correlations, -1 to 1, and the shift in degrees, above minus half a period to half a period: `a` rotated by the shift towards
        larger angles resembles `b` most. NaN where a curve is constant.

    Raises
    ------
    MeasureError
        As `tuning_statistics`, and if `a` and `b` have other shapes.

    Examples
    --------
    The same curve, 60 degrees further round:

    >>> angles = np.arange(0.0, 360.0, 30.0)
    >>> one = np.exp(2 * np.cos(np.deg2rad(angles - 90)))
    >>> found = align_tuning([one], [np.roll(one, 2)], angles)
    >>> round(float(found.r_aligned[0]), 6), float(found.shift_deg[0])
    (1.0, 60.0)
    >>> bool(found.r_tuning[0] < 0.5)
    True
    """
    (a, angles), (b, _) = (_checked(curves, angles_deg, period_deg, name) for curves, name in ((a, "a"), (b, "b")))
    if a.shape != b.shape:
        raise MeasureError(f"curves have shapes {a.shape} and {b.shape}, expected equal ones; match the units first")
    unit_a, unit_b = _unit_length(a), _unit_length(b)
    spectrum = np.conj(np.fft.rfft(unit_a, axis=1)) * np.fft.rfft(unit_b, axis=1)
    correlation = np.clip(np.fft.irfft(spectrum, n=angles.size, axis=1), -1.0, 1.0)
    # Shifts that differ by rounding only are ties: the smallest rotation stands for them.
    ties = np.isclose(correlation, correlation.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
    shifts = circular_difference(np.arange(angles.size) * (period_deg / angles.size), 0.0, period_deg)
    best = np.where(ties, np.abs(shifts), np.inf).argmin(axis=1)
    defined = np.isfinite(correlation[:, 0])
    return Alignment(
        r_tuning=correlation[:, 0],
        r_aligned=np.where(defined, np.take_along_axis(correlation, best[:, None], axis=1)[:, 0], np.nan),
        shift_deg=np.where(defined, shifts[best], np.nan),
    )


def _unit_length(curves: Array) -> Array:
    centred = curves - curves.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    # Rounding leaves about 1e-16 of a constant curve's level; that is no tuning.
    varies = norm > 1e-13 * np.abs(curves).max(axis=1, keepdims=True) * np.sqrt(curves.shape[1])
    return np.asarray(np.divide(centred, norm, out=np.full_like(centred, np.nan), where=varies))


def best_shift_correlation(curves: Any, angles_deg: Any, period_deg: float = 360.0) -> float:
    """Return how alike the tuning curves of a family are in shape, whatever their preferred angles.

    The mean over pairs of units of the largest circular cross-correlation: 1 where every curve is another one, rotated.
    Published for curve families of InceptionV1 as .96 (3b), .88 (2d2), .85 (3a), .66 (4a).

    Parameters
    ----------
    curves : array_like, (units, angles)
        Responses, sigma or a.u.; unlike the statistics of one curve, negative ones count as they are.
    angles_deg : array_like, (angles,)
        Evenly spaced over the period.
    period_deg : float
        As in `tuning_statistics`.

    Returns
    -------
    float
        0 to 1 (the mean over all shifts is 0, so the best of them is not below); NaN for fewer than two units, or where
        a curve is constant: its correlations are not defined.

    Notes
    -----
    Shifts are whole steps of the angles. Time grows with units squared; memory is bounded by blocks of units.
    """
    responses, angles = _checked(curves, angles_deg, period_deg)
    n_units = len(responses)
    if n_units < 2:
        return float("nan")
    spectra = np.fft.rfft(_unit_length(responses), axis=1)
    block = max(1, _PAIRS_AT_ONCE // (n_units * angles.size))
    total = 0.0
    for start in range(0, n_units, block):
        products = np.conj(spectra[start : start + block, None]) * spectra
        best = np.fft.irfft(products, n=angles.size, axis=2).max(axis=2)
        later = np.arange(n_units) > np.arange(start, start + len(best))[:, None]
        total += best.sum(where=later)
    return float(np.clip(total / (n_units * (n_units - 1) / 2), -1.0, 1.0))


def circular_difference(a_deg: ArrayLike, b_deg: ArrayLike, period_deg: float = 360.0) -> Array:
    """Return ``a - b`` in degrees, wrapped to above minus half a period and at most half a period.

    Examples
    --------
    >>> circular_difference([10.0, 350.0, 180.0], [350.0, 10.0, 0.0]).tolist()
    [20.0, -20.0, 180.0]
    >>> circular_difference(175.0, 5.0, 180.0).tolist()  # orientations
    -10.0
    """
    half = period_deg / 2
    return np.asarray(half - np.mod(half - (np.asarray(a_deg) - np.asarray(b_deg)), period_deg), dtype=np.float64)


def largest_gap(preferred_deg: ArrayLike, period_deg: float = 360.0) -> float:
    """Return the largest gap between neighbouring preferred angles, degrees; the period for fewer than two.

    Examples
    --------
    >>> largest_gap([0.0, 90.0, 100.0])
    260.0
    """
    angles = np.sort(np.mod(np.asarray(preferred_deg, dtype=np.float64), period_deg))
    if angles.size < 2:
        return period_deg
    return float(np.diff(np.append(angles, angles[0] + period_deg)).max())


def coverage(preferred_deg: ArrayLike, bins: int = 12, period_deg: float = 360.0) -> float:
    """Return the share of `bins` equal bins of the period that hold a preferred angle, 0 to 1."""
    angles = np.mod(np.asarray(preferred_deg, dtype=np.float64), period_deg)
    return float(np.unique(np.floor(angles / (period_deg / bins)).astype(int) % bins).size / bins)


@dataclass(frozen=True)
class Rayleigh:
    """Result of `rayleigh`: 2 n R^2 (R: length of the mean direction), 0 to 2 n, and the p of a uniform circle."""

    statistic: float
    p: float


def rayleigh(preferred_deg: ArrayLike) -> Rayleigh:
    """Test whether preferred angles are uniform on the circle against the alternative of one common direction.

    Parameters
    ----------
    preferred_deg : array_like, (units,)
        Degrees.

    Returns
    -------
    Rayleigh
        A small p: the family prefers one side of the circle. Angles in opposite pairs have R = 0 and p = 1, so a large p
        is no proof of coverage: see `largest_gap`. NaN for fewer than two angles, whose R says nothing, or where an angle
        is not finite.

    Notes
    -----
    The p is that of the modified statistic (1 - 1 / 2n) 2 n R^2 + n R^4 / 2, which is chi-squared with 2 degrees of
    freedom up to terms of 1 / n^2 (Cordeiro and Ferrari 1991; Mardia and Jupp 2000, section 6.3).

    Examples
    --------
    >>> rayleigh([0.0, 90.0, 180.0, 270.0]).p
    1.0
    """
    angles = np.asarray(preferred_deg, dtype=np.float64)
    n = angles.size
    if n < 2 or not np.isfinite(angles).all():
        return Rayleigh(float("nan"), float("nan"))
    r2 = float(np.minimum(np.abs(np.exp(1j * np.deg2rad(angles)).mean()), 1.0) ** 2)
    modified = (1 - 1 / (2 * n)) * 2 * n * r2 + n * r2**2 / 2
    return Rayleigh(2 * n * r2, float(np.exp(-modified / 2)))


def least_pairwise_correlation(curves: ArrayLike) -> Array:
    """Return the smallest correlation over pairs of a unit's curves: (units, variants, angles) -> (units,).

    NaN where one of the curves is constant; with a single variant there is no pair, and the result is 1.
    """
    return np.asarray(_pairwise_correlations(curves).min(axis=1))


def largest_deviation(curves: ArrayLike, angles_deg: ArrayLike, period_deg: float = 360.0) -> Array:
    """Return how far the preferred angle of any of a unit's curves lies from that of their mean, degrees, 0 to half a period.

    (units, variants, angles) -> (units,). Directions are circular means; NaN where one of the curves has none.
    """
    positive = np.maximum(np.asarray(curves, dtype=np.float64), 0.0)
    each, together = (
        _direction(values, angles_deg, period_deg) for values in (positive, positive.mean(axis=1, keepdims=True))
    )
    return np.asarray(np.abs(circular_difference(each, together, period_deg)).max(axis=1))


def _direction(curves: Array, angles_deg: ArrayLike, period_deg: float) -> Array:
    """Return the direction of the resultant of (..., angles), degrees; NaN where it is of rounding size."""
    turns = np.exp(1j * np.deg2rad(np.asarray(angles_deg, dtype=np.float64) * (360.0 / period_deg)))
    resultant = curves @ turns
    defined = np.abs(resultant) > 1e-9 * curves.sum(axis=-1)
    return np.where(defined, _degrees(np.asarray(resultant), period_deg), np.nan)


def mirror_symmetry(curves: ArrayLike, angles_deg: ArrayLike) -> Array:
    """Return how far a unit's curves are their own mirror images about the preferred direction, -1 to 1.

    Parameters
    ----------
    curves : array_like, (units, curves, angles)
        Responses to several stimuli of one family, sigma or a.u.; all are mirrored about the circular mean of their mean.
    angles_deg : array_like, (angles,)
        Evenly spaced over the full circle, from 0.

    Returns
    -------
    (units,)
        Correlation of the curves with their mirror images, each about its own mean, all curves of a unit together. NaN
        where the mean curve has no direction.

    Notes
    -----
    Turned to the axis, the even part of a curve is the real part of its Fourier coefficients c_k and the odd part the
    imaginary one, so the correlation is sum (Re^2 - Im^2) / sum |c_k|^2 over k other than 0: exact between samples too.
    """
    stacked = np.asarray(curves, dtype=np.float64)
    n_angles = stacked.shape[-1]
    axis = _direction(np.maximum(stacked.mean(axis=1, keepdims=True), 0.0), angles_deg, 360.0)
    spectrum = np.fft.rfft(stacked, axis=-1)[..., 1:]
    harmonics = np.arange(1, spectrum.shape[-1] + 1)
    # Every harmonic stands for itself and its conjugate, but for the last one of an even number of angles.
    weights = np.where(2 * harmonics == n_angles, 1.0, 2.0)
    turned = spectrum * np.exp(1j * harmonics * np.deg2rad(axis)[..., None])
    power = (weights * np.abs(turned) ** 2).sum(axis=(1, 2))
    even = (weights * (turned.real**2 - turned.imag**2)).sum(axis=(1, 2))
    varies = power > 1e-26 * (np.abs(stacked) ** 2).sum(axis=(1, 2)) * n_angles
    symmetry = np.divide(even, power, out=np.full_like(even, np.nan), where=varies & np.isfinite(even))
    return np.asarray(np.clip(symmetry, -1.0, 1.0))


def _pairwise_correlations(curves: ArrayLike) -> Array:
    """Return (units, pairs); one pair of correlation 1 where there is a single variant."""
    stacked = np.asarray(curves, dtype=np.float64)
    n_units, n_variants, n_angles = stacked.shape
    if n_variants == 1:
        return np.ones((n_units, 1))
    flat = _unit_length(stacked.reshape(-1, n_angles)).reshape(stacked.shape)
    r = np.clip(np.einsum("uva,uwa->uvw", flat, flat), -1.0, 1.0)  # rounding may exceed 1 by an ulp
    rows, columns = np.triu_indices(n_variants, 1)
    return np.asarray(r[:, rows, columns])


def _checked(
    curves: Any, angles_deg: Any, period_deg: float, label: str = "the array of curves"
) -> tuple[Array, Array]:
    """Return curves (units, angles) and their angles in float64, or raise `MeasureError`."""
    came, at = given(label, curves, CURVES), given("the array of angles", angles_deg, ANGLES)
    if came.p != at.n or at.n < 4:
        raise MeasureError(
            f"{label} has shape {came.shape} and that of angles {at.shape}, expected (units, angles) and (angles,) with at "
            "least 4 angles; reshape them"
        )
    responses, angles = came.whole(), at.whole()
    step = period_deg / angles.size
    if not np.allclose(np.diff(angles), step, rtol=0, atol=1e-6 * step):
        period = "the circle" if period_deg == 360.0 else f"{period_deg:g} degrees"
        raise MeasureError(f"angles are not evenly spaced by {step:g} degrees over {period}; resample the curves")
    if came.columns is not None and not np.array_equal(came.columns, angles):
        # Rounded labels are no other angles; labels that are no numbers are other ones.
        labels = given(f"the coordinate '{ANGLE}' of {label}", came.columns, ANGLES).whole()
        if not np.allclose(labels, angles, rtol=0, atol=1e-6 * step):
            raise MeasureError(
                f"{label} has other angles as its coordinate '{ANGLE}' ({labels[0]:g} to {labels[-1]:g}) than the argument "
                f"({angles[0]:g} to {angles[-1]:g}), expected the same; pass its coordinate"
            )
    return responses, angles
