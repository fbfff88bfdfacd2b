"""Tuning on natural images: rotate crops through a full turn and compare with the tuning for drawings.

A natural crop does not say which orientation it has, so absolute angles cannot be compared crop by crop: rotating a
unit's own top crops shows the shape of its tuning only, with the peak near no rotation by selection. Between the units
of one family absolute angles can be compared. A crop that is rotated by a passes the preferred angles of all units, and
unit v answers most at a = (preferred angle of v) - (orientation of the crop). What the other units say about the crop's
orientation, by their preferences for drawings, predicts where v has to peak.

Angles are clockwise with y pointing down, in degrees, as those of the drawings: a drawing of orientation t, rotated by
a, is the drawing of orientation t + a. Responses below 0 count as 0.

References
----------
N. Cammarata et al., Curve Detectors, Distill 2020 (section on joint tuning). Departures: the article shows curves, here
are numbers; the orientation of a crop is not judged by eye but estimated from the rest of the family.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from universality.base.errors import MeasureError
from universality.features.tuning import Array, align_tuning, circular_difference, tuning_statistics

_CUBIC = 3


@dataclass(frozen=True)
class JointTuning:
    """Tuning for rotated natural crops beside the tuning for drawings, (unit,); NaN for a unit that answers to neither.

    Attributes
    ----------
    r_joint : correlation of both tuning curves at their best rotation, -1 to 1
    r1, fwhm_deg : of the natural tuning: 1 and narrow for a single peak (see `TuningStatistics`)
    fwhm_drawn_deg : of the tuning for drawings
    """

    r_joint: Array
    r1: Array
    fwhm_deg: Array
    fwhm_drawn_deg: Array


@dataclass(frozen=True)
class FamilyPreference:
    """Preferred angles by natural crops, (unit,); NaN for a unit without an answer.

    Attributes
    ----------
    natural_deg : preferred angle by natural crops, their orientations judged by the other units, degrees, 0 to 360
    difference_deg : natural minus drawn preference, degrees, -180 < d <= 180
    """

    natural_deg: Array
    difference_deg: Array


@dataclass(frozen=True)
class RotationSlope:
    """How the family follows a rotating crop, (crop,); NaN for a crop to which fewer than three rotations get an answer.

    Attributes
    ----------
    slope : turns of the winning unit's preferred angle for one turn of the crop: 1 if the family follows it
    locking : |mean exp(i (preferred angle of the winner - rotation))|, 0 to 1: 1 if it follows with no deviation
    """

    slope: Array
    locking: Array


def top_crops(natural: ArrayLike, count: int) -> NDArray[np.int64]:
    """Return the rows of the `count` images with the largest activations, the largest first.

    Parameters
    ----------
    natural : array_like, (image, unit)

    Returns
    -------
    (unit, count)
        Ties go to the earlier image.
    """
    activations = np.asarray(natural, dtype=np.float64)
    if activations.ndim != 2 or not 1 <= count <= len(activations):
        raise MeasureError(
            f"natural activations have shape {activations.shape} for {count} top crops, expected (image, unit) with at "
            "least so many images; show more images"
        )
    return np.argsort(-activations, axis=0, kind="stable")[:count].T


def rotated(images: ArrayLike, angles_deg: ArrayLike) -> NDArray[np.float32]:
    """Rotate square images about their middle, clockwise.

    What lies outside the inscribed disc leaves and enters the image while it turns, so all of that is replaced by the
    image's mean colour over the disc, with a border one tenth of the side wide in which the image fades out.

    Parameters
    ----------
    images : array_like, (image, channel, y, x)
    angles_deg : array_like, (angle,)

    Returns
    -------
    (image, angle, channel, y, x)
        Cubic interpolation; not below the least or above the largest value of the image.
    """
    pictures = np.asarray(images, dtype=np.float64)
    if pictures.ndim != 4 or pictures.shape[2] != pictures.shape[3]:
        raise MeasureError(f"images have shape {pictures.shape}, expected square ones (image, channel, y, x)")
    turns = np.deg2rad(np.asarray(angles_deg, dtype=np.float64))
    places, disc = _turned_places(turns, pictures.shape[2])
    out = np.empty((len(pictures), len(turns), *pictures.shape[1:]), dtype=np.float32)
    for picture, into in zip(pictures, out, strict=True):
        for channel, plane in enumerate(picture):
            mean = np.average(plane, weights=disc)
            turned = ndimage.map_coordinates(plane, places, order=_CUBIC, mode="nearest")
            into[:, channel] = mean + disc * (np.clip(turned, plane.min(), plane.max()) - mean)
    return out


def _turned_places(turns: Array, size: int) -> tuple[Array, Array]:
    """Return where each pixel of a rotated image comes from, (2, angle, y, x): y, x, px; and the disc (y, x)."""
    middle = (size - 1) / 2
    axis = np.arange(size) - middle
    x, y = axis[None, :], axis[:, None]
    cos, sin = np.cos(turns)[:, None, None], np.sin(turns)[:, None, None]
    # The source of a pixel is found by turning back.
    places = np.stack([-x * sin + y * cos, x * cos + y * sin]) + middle
    disc = np.clip((size / 2 - np.hypot(x, y)) / (size / 10), 0.0, 1.0)
    return places, disc


def joint_tuning(rotations: ArrayLike, drawn: ArrayLike, angles_deg: ArrayLike) -> JointTuning:
    """Compare each unit's tuning over the rotation of its own top crops with its tuning for drawings.

    Parameters
    ----------
    rotations : array_like, (unit, crop, angle)
        Response of the unit to its crop, rotated.
    drawn : array_like, (unit, angle)
        Tuning curves for drawings.
    angles_deg : array_like, (angle,)
        Evenly spaced over the full circle, for both.

    Returns
    -------
    JointTuning
        The natural tuning is the mean over crops, each scaled to a peak of 1 and turned to where it resembles the tuning
        for drawings most: that lifts the correlation of random curves too, so compare with units that are no detectors.
        A crop with a constant answer does not count. Absolute angles say nothing here: see `family_preference`.
    """
    natural, curves, angles = _checked_rotations(rotations, drawn, angles_deg)
    n_crops, n_angles = natural.shape[1:]
    each = natural.reshape(-1, n_angles)
    turn = align_tuning(each, np.repeat(curves, n_crops, axis=0), angles).shift_deg
    counts = np.isfinite(turn)[:, None]
    steps = np.nan_to_num(np.round(turn / (360.0 / n_angles))).astype(np.int64)
    turned = np.take_along_axis(each, (np.arange(n_angles) - steps[:, None]) % n_angles, axis=1)
    scaled = np.divide(turned, each.max(axis=1, keepdims=True), out=np.zeros_like(each), where=counts)
    # The sum over crops has the shape of their mean.
    mean = scaled.reshape(natural.shape).sum(axis=1)
    together, of_drawn = tuning_statistics(mean, angles), tuning_statistics(curves, angles)
    r_joint = align_tuning(mean, curves, angles).r_aligned
    return JointTuning(r_joint, together.r1, together.fwhm_deg, of_drawn.fwhm_deg)


def family_preference(
    rotations: ArrayLike, preferred_deg: ArrayLike, angles_deg: ArrayLike, members: ArrayLike | None = None
) -> FamilyPreference:
    """Estimate each unit's preferred angle from rotated natural crops, by the rest of its family.

    Parameters
    ----------
    rotations : array_like, (crop, angle, unit)
        Responses of all units of a family to the same crops; sigma, so that units weigh alike.
    preferred_deg : array_like, (unit,)
        Preferred angles for drawings, degrees.
    angles_deg : array_like, (angle,)
        Rotations, evenly spaced over the full circle.
    members : array_like, (unit,), optional
        Which units vote; all without it. Preferences of the others are estimated too.

    Returns
    -------
    FamilyPreference
        Every unit's resultant over the rotations of a crop, turned by its preference for drawings, votes on the crop's
        orientation; the unit's own vote is left out of what it is compared with. Crops are averaged with the product of
        both resultants as weight.
    """
    answers, preferred, angles = _checked_family(rotations, preferred_deg, angles_deg)
    resultant = np.einsum("cau,a->cu", answers, np.exp(1j * np.deg2rad(angles)))
    votes = np.exp(1j * np.deg2rad(preferred)) * np.conj(resultant)  # direction: preference minus rotation at the peak
    votes = votes * (np.ones(preferred.size) if members is None else np.asarray(members, dtype=np.float64))
    others = votes.sum(axis=1, keepdims=True) - votes
    # Preference = rotation at the peak + orientation of the crop.
    total = (resultant * others).sum(axis=0)
    scale = (answers.sum(axis=1) * (answers.sum(axis=(1, 2))[:, None] - answers.sum(axis=1))).sum(axis=0)
    natural = np.where(np.abs(total) > 1e-9 * scale, np.rad2deg(np.angle(total)) % 360.0, np.nan)
    return FamilyPreference(natural, circular_difference(natural, preferred))


def family_rotation_slope(rotations: ArrayLike, preferred_deg: ArrayLike, angles_deg: ArrayLike) -> RotationSlope:
    """Return how the preferred angle of the unit with the largest response advances while a crop rotates.

    Parameters
    ----------
    rotations : array_like, (crop, angle, unit)
        Responses of all units of a family, sigma.
    preferred_deg : array_like, (unit,)
        Preferred angles for drawings, degrees.
    angles_deg : array_like, (angle,)
        Rotations, evenly spaced over the full circle.

    Returns
    -------
    RotationSlope
        The slope over a closed turn is a whole number: steps of the winner's preferred angle, each taken the short way
        round, add up to whole turns. Rotations without an answer are passed over.
    """
    answers, preferred, angles = _checked_family(rotations, preferred_deg, angles_deg)
    heard = answers.max(axis=2) > 0
    winner = preferred[answers.argmax(axis=2)]
    slope, locking = np.full((2, len(answers)), np.nan)
    for crop, here in enumerate(heard):
        if here.sum() >= 3:
            path = winner[crop, here]
            slope[crop] = np.round(circular_difference(np.roll(path, -1), path).sum() / 360.0)
            locking[crop] = np.abs(np.exp(1j * np.deg2rad(path - angles[here])).mean())
    return RotationSlope(slope, np.minimum(locking, 1.0))


def _checked_rotations(rotations: ArrayLike, drawn: ArrayLike, angles_deg: ArrayLike) -> tuple[Array, Array, Array]:
    natural, curves, angles = (np.asarray(values, dtype=np.float64) for values in (rotations, drawn, angles_deg))
    if natural.ndim != 3 or curves.shape != (natural.shape[0], natural.shape[2]):
        raise MeasureError(
            f"rotations have shape {natural.shape} and drawn tuning {curves.shape}, expected (unit, crop, angle) and "
            "(unit, angle); resample the tuning at the rotations"
        )
    return np.maximum(natural, 0.0), np.maximum(curves, 0.0), angles


def _checked_family(
    rotations: ArrayLike, preferred_deg: ArrayLike, angles_deg: ArrayLike
) -> tuple[Array, Array, Array]:
    answers, preferred, angles = (np.asarray(v, dtype=np.float64) for v in (rotations, preferred_deg, angles_deg))
    if answers.ndim != 3 or answers.shape[1:] != (angles.size, preferred.size):
        raise MeasureError(
            f"rotations have shape {answers.shape} for {angles.size} angles and {preferred.size} units, expected (crop, "
            "angle, unit); transpose them"
        )
    if not np.isfinite(answers).all() or not np.isfinite(preferred).all():
        raise MeasureError("responses or preferred angles have NaN or infinite values; drop units without a preference")
    step = 360.0 / angles.size
    if not np.allclose(np.diff(angles), step, rtol=0, atol=1e-6 * step):
        raise MeasureError(f"rotations are not evenly spaced by {step:g} degrees over the circle; rotate evenly")
    return np.maximum(answers, 0.0), preferred, angles
