"""Oriented edges and colour contrast: planted truth, periods of 180 degrees, stimuli, and the way through a job."""

from dataclasses import replace

import numpy as np
import pandas as pd
import planted
import pytest
from scipy import ndimage
from shown import drawn, redrawn

from universality.activations.nulls import NullPlan
from universality.base.errors import JobError, StimulusError
from universality.correspondence.search import Contender, MatchingPlan
from universality.correspondence.tables import correspondence_rows, family_rows
from universality.features import answers
from universality.features.families import FAMILIES, definition_of, family_of
from universality.features.tables import columns_of
from universality.features.tuning import align_tuning, circular_difference, coverage, largest_gap, tuning_statistics
from universality.stimuli import colour_contrast, contours, sets
from universality.stimuli.contours import ContourStimuli
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

SPEC = StimuliSpec(natural=NaturalStimuli(crops=100, shapes=100))
PLANS = {"oriented_edge": planted.edge_plan, "colour_contrast": planted.colour_plan}
KINDS = pytest.mark.parametrize("family", PLANS)


def table_of(plan, family, tap="post"):
    network = planted.Planted(plan)
    return network, answers.units(planted.layers(network, family, SPEC, (tap,))[tap], family)


# Planted truth


@KINDS
@pytest.mark.parametrize("tap", ["pre", "post"])
def test_every_planted_unit_is_found_with_its_angle_and_nothing_else(family, tap):
    network, table = table_of(PLANS[family](), family, tap)
    is_planted = np.isfinite(network.expected_deg)
    found = dict(zip(network.names, table["detector"], strict=True))
    assert found == dict(zip(network.names, is_planted.tolist(), strict=True)), table["failed"].tolist()
    error = np.abs(circular_difference(table["preferred_deg"], network.expected_deg, 180.0))[is_planted]
    assert error.max() < 5.0


@KINDS
@pytest.mark.parametrize("seed", range(3))
def test_scrambled_copies_hold_none(family, seed):
    _, table = table_of(planted.weights_scrambled(PLANS[family](), seed), family)
    assert not table["detector"].any()


def test_controls_fail_where_they_should():
    network, table = table_of(planted.edge_plan(), "oriented_edge")
    failed = dict(zip(network.names, table["failed"], strict=True))
    assert "r1" in failed["any"] and "r1" in failed["blob"] and "echo" in failed["cross"]
    network, table = table_of(planted.colour_plan(), "colour_contrast")
    failed = dict(zip(network.names, table["failed"], strict=True))
    assert "colour_over_grey" in failed["grey edge"] and "colour_over_grey" in failed["red edge"]
    assert "boundary_over_field" in failed["red field"]


@KINDS
def test_shuffled_angles_leave_none(family):
    network = planted.Planted(PLANS[family]())
    layer = planted.layers(network, family, SPEC, ("post",))["post"]
    rows = family_rows(family, layer, [layer], NullPlan(haar_rotations=1, shuffles=3, seed=0))
    assert rows["n_detectors"].item() == np.isfinite(network.expected_deg).sum()
    assert rows["share_shuffled"].item() == 0


# A period of 180 degrees

ANGLES = np.arange(18) * 10.0


def axial(preferred_deg, kappa=3.0):
    """Von Mises curves of the doubled angle."""
    return np.exp(kappa * (np.cos(2 * np.deg2rad(ANGLES - np.asarray(preferred_deg)[:, None])) - 1))


def test_statistics_of_axial_curves_are_those_of_the_doubled_angle():
    curves = axial([5.0, 90.0, 175.0])
    half = tuning_statistics(curves, ANGLES, 180.0)
    full = tuning_statistics(curves, 2 * ANGLES)
    for name in ("r1", "r2", "echo", "peak"):
        np.testing.assert_array_equal(getattr(half, name), getattr(full, name))
    for name in ("preferred_deg", "circular_mean_deg", "fwhm_deg"):
        np.testing.assert_allclose(getattr(half, name), getattr(full, name) / 2, rtol=1e-15)
    np.testing.assert_allclose(half.circular_mean_deg, [5.0, 90.0, 175.0], atol=1e-9)
    # cos(2 d) = 1 + ln(1/2) / kappa at half the peak, d from the peak.
    np.testing.assert_allclose(half.fwhm_deg[1], np.rad2deg(np.arccos(1 - np.log(2) / 3)), atol=0.6)


def test_orientations_of_175_and_5_degrees_are_neighbours():
    align = align_tuning(axial([175.0]), axial([5.0]), ANGLES, 180.0)
    assert align.shift_deg == pytest.approx([10.0]) and align.r_aligned > 0.999
    assert circular_difference(5.0, 175.0, 180.0) == 10.0
    assert largest_gap([5.0, 175.0], 180.0) == 170.0
    assert coverage([5.0, 35.0, 65.0, 95.0, 125.0, 155.0], 6, 180.0) == 1.0


def test_correspondence_of_orientations_wraps_at_180_degrees():
    """A layer against itself with every preference turned by 20 degrees, that of 165 over the seam."""
    network = planted.Planted(planted.edge_plan())
    layer = planted.layers(network, "oriented_edge", SPEC, ("post",))["post"]
    shown = drawn(layer, "oriented_edge")
    turned, grid = shown.copy(), answers.grid(layer, "oriented_edge")
    for rows in (grid.gratings, grid.lone):
        turned[np.roll(rows, 2, axis=-1)] = shown[rows]
    other = replace(layer, shown=redrawn(layer, "oriented_edge", turned))
    plan = MatchingPlan(("oriented_edge",), ("hungarian",), 100, 19, NullPlan(1, 1, 0))
    rows = correspondence_rows(Contender(other, [layer], plan), Contender(layer, [layer], plan))
    both = rows[rows["detector_a"] & rows["detector_b"]]
    assert len(both) == 12 and (both["unit_a"] == both["unit_b"]).all()
    np.testing.assert_allclose(both["delta_theta_deg"].abs(), 20.0, atol=1e-6)
    np.testing.assert_allclose(both["shift_deg"].abs(), 20.0, atol=1e-6)
    assert both["preferred_a_deg"].between(0, 180).all()


# Stimuli


def test_contours_of_one_orientation_are_parallel():
    """The direction in which an image varies most, from its structure tensor, is the stated orientation."""
    spec = StimuliSpec(contours=ContourStimuli(orientations=8, frequencies_cpi=(6.0,)))
    images = sets.render("contours", spec, 96)
    smooth = ndimage.gaussian_filter(images.values[:, 0].astype(np.float64), (0, 2, 2))
    middle = np.hypot(*np.mgrid[-47.5:48, -47.5:48]) < 32
    dy, dx = (values * middle for values in np.gradient(smooth, axis=(1, 2)))
    doubled = ((dx + 1j * dy) ** 2).sum(axis=(1, 2))
    came = np.rad2deg(np.angle(doubled)) % 360.0 / 2
    assert np.abs(circular_difference(came, images["orientation_deg"].values, 180.0)).max() < 1.0


def test_polarities_of_contours_mirror_one_another():
    images = sets.render("contours", StimuliSpec(), 64)
    by_kind = {kind: images.values[images["kind"].values == kind] for kind in contours.KINDS}
    np.testing.assert_allclose(by_kind["line_dark"] + by_kind["line_bright"], 1.0, atol=1e-6)
    np.testing.assert_allclose(by_kind["edge_ahead"] + by_kind["edge_behind"], 0.5, atol=1e-6)


def test_coloured_images_have_the_luminance_of_the_background_and_grey_ones_no_colour():
    images = sets.render("colour_contrast", StimuliSpec(), 64)
    grey = np.char.startswith(images["kind"].values.astype(str), "grey_")
    encoded = images.values[~grey].astype(np.float64)
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    luminance = np.einsum("icyx,c->iyx", linear, [0.2126, 0.7152, 0.0722])
    np.testing.assert_allclose(luminance, ((0.5 + 0.055) / 1.055) ** 2.4, atol=1e-6)
    assert np.ptp(images.values[grey], axis=1).max() == 0


def test_grey_controls_are_further_from_the_background_than_any_colour():
    images = sets.render("colour_contrast", StimuliSpec(), 64)
    kinds = images["kind"].values
    largest = np.linalg.norm(images.values - 0.5, axis=1).max(axis=(1, 2))
    assert largest[kinds == "grey_half"].min() > largest[np.isin(kinds, ["half", "opponent", "field"])].max()


@KINDS
def test_grids_read_stimuli_in_any_order_and_refuse_gaps(family):
    kind = FAMILIES[family]
    table = sets.parameters(kind.stimuli, StimuliSpec())
    order = np.random.default_rng(0).permutation(table.sizes["stimulus"])
    drawn = np.random.default_rng(1).random((order.size, 6))
    natural = np.random.default_rng(2).random((20, 6))
    plain, mixed = (
        kind.table(kind.responses(values, natural, kind.grid(rows)))
        for values, rows in ((drawn, table), (drawn[order], table.isel(stimulus=order)))
    )
    pd.testing.assert_frame_equal(plain, mixed)
    with pytest.raises(StimulusError, match=r"no full grid of .*; draw the whole set"):
        kind.grid(table.isel(stimulus=slice(1, None)))


def test_frequencies_that_an_image_cannot_show_are_refused():
    for name in ("contours", "colour_contrast"):
        with pytest.raises(StimulusError, match=rf"at least 60 px, came 50 px; lower stimuli.{name}.frequencies_cpi"):
            sets.render(name, StimuliSpec(), 50, slice(0, 1))


def test_modules_know_the_stimuli_of_one_another():
    assert contours.GRATING == "grating" and colour_contrast.GRATING == "grey_grating"
    assert set(contours.KINDS) == set(sets.parameters("contours", StimuliSpec())["kind"].values)


# Phases


def test_phase_modulation_tells_simple_from_complex_cells():
    """Half-wave rectified and squared-quadrature answers: F1 / F0 is pi / 2 for the first (many phases), 0 for the second."""
    spec = ContourStimuli(orientations=8, phases=32)
    table = contours.parameters(spec)
    kind = FAMILIES["oriented_edge"]
    phase = np.deg2rad(np.nan_to_num(table["phase_deg"].values))
    drawn = np.stack([np.maximum(np.cos(phase - 1.0), 0.0), np.ones_like(phase)], axis=1)
    grating = table["kind"].values == "grating"
    drawn[~grating] = 0.0
    units = kind.table(kind.responses(drawn, np.random.default_rng(0).random((20, 2)), kind.grid(table)))
    np.testing.assert_allclose(units["phase_modulation"], [np.pi / 2, 0.0], atol=0.01)


# Names


@KINDS
def test_every_criterion_is_a_column_of_the_table_of_units(family):
    rule = FAMILIES[family].rule
    for criterion in (*rule.criteria, *rule.strict):
        assert criterion.column in {column.name for column in columns_of(family)}


def test_an_unknown_family_is_named_with_its_neighbour():
    with pytest.raises(JobError, match=r"unknown family 'oriented_edges'.*oriented_edge"):
        family_of("oriented_edges")
    assert definition_of("colour_contrast").name == "equal_luminance"
