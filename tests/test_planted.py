"""Planted truth: networks written by hand, whose units the definitions find one by one, with their orientations."""

import numpy as np
import planted
import pytest
import torch

from universality import stimuli
from universality.detectors.joint import family_preference, family_rotation_slope, joint_tuning, rotated, top_crops
from universality.spec import CurveStimuli, HighLowStimuli, NaturalStimuli, StimuliSpec
from universality.tuning import best_shift_correlation, circular_difference, coverage, largest_gap, rayleigh

SPEC = StimuliSpec(
    natural=NaturalStimuli(crops=150, shapes=150), high_low=HighLowStimuli(orientations=24, base_cpi=(10.0, 14.0, 19.0))
)
FEW = StimuliSpec(
    natural=NaturalStimuli(crops=50, shapes=50),
    curves=CurveStimuli(orientations=24),
    high_low=HighLowStimuli(orientations=24),
)
FAMILY = {"arc": "curve", "boundary": "high_low_frequency"}
PLANS = {"arc": planted.arc_plan, "boundary": planted.boundary_plan}
TAPS = pytest.mark.parametrize("tap", ["pre", "post"])
KINDS = pytest.mark.parametrize("kind", ["arc", "boundary"])


@pytest.fixture(scope="module")
def networks():
    return {kind: planted.Planted(plan()) for kind, plan in PLANS.items()}


@pytest.fixture(scope="module")
def layers(networks):
    return {kind: planted.layers(network, FAMILY[kind], SPEC) for kind, network in networks.items()}


@pytest.fixture(scope="module")
def tables(layers):
    return {kind: {tap: layer.units(FAMILY[kind]) for tap, layer in of.items()} for kind, of in layers.items()}


def table_of(plan, kind, tap="post", spec=FEW):
    """A planted network and its table of units."""
    network = planted.Planted(plan)
    return network, planted.layers(network, FAMILY[kind], spec, (tap,))[tap].units(FAMILY[kind])


def is_planted(network):
    return np.isfinite(network.expected_deg)


def error_deg(network, table):
    return np.abs(circular_difference(table["preferred_deg"], network.expected_deg))


# Recovery


@KINDS
@TAPS
def test_every_planted_unit_is_found_and_nothing_else(networks, tables, kind, tap):
    np.testing.assert_array_equal(tables[kind][tap]["detector"], is_planted(networks[kind]))


@KINDS
@TAPS
def test_orientations_are_those_planted(networks, tables, kind, tap):
    network = networks[kind]
    assert error_deg(network, tables[kind][tap])[is_planted(network)].max() < 5.0


@pytest.mark.parametrize(("kind", "count"), [("arc", 16), ("boundary", 12)])
def test_families_cover_the_circle(networks, layers, tables, kind, count):
    found = tables[kind]["post"].query("detector")["preferred_deg"]
    assert len(found) == count
    assert largest_gap(found) < 360 / count + 5
    assert coverage(found, 12) == 1.0
    assert rayleigh(found).p > 0.99
    responses = layers[kind]["post"].responses(FAMILY[kind])
    assert best_shift_correlation(responses.tuning[is_planted(networks[kind])], responses.grid.angles_deg) > 0.95


@TAPS
@pytest.mark.parametrize(
    ("kind", "unit", "reasons"),
    [
        ("arc", "edge", {"invariance", "deviation_deg", "echo"}),
        ("arc", "line", {"r1", "curve_over_line", "echo"}),
        ("arc", "either arc", {"r1", "echo"}),
        ("arc", "mixture", {"curve_over_line", "echo"}),
        ("boundary", "luminance edge", {"over_luminance_edge"}),
        ("boundary", "contrast edge", {"over_contrast_edge"}),
        ("boundary", "texture", {"over_full_field", "over_same_frequency"}),
        ("boundary", "coarse texture", {"over_full_field", "over_same_frequency"}),
    ],
)
def test_controls_fail_for_their_own_reason(networks, tables, tap, kind, unit, reasons):
    row = tables[kind][tap].iloc[networks[kind].names.index(unit)]
    assert row["live"]
    assert reasons <= set(row["failed"].split(", "))


@KINDS
def test_dead_unit_is_masked(networks, tables, kind):
    row = tables[kind]["post"].iloc[networks[kind].names.index("dead")]
    assert not row[["live", "detector", "naive_detector"]].any()


@pytest.mark.parametrize("turn", [37.0])
def test_units_planted_elsewhere_are_found_elsewhere(turn):
    """The match of planted and found is not one of two equal grids."""
    drawn = {f"arc {angle + turn:g}": planted.arc_detector(angle + turn) for angle in (0.0, 90.0, 200.0)}
    plan = planted.arc_plan()
    plan = planted.replace(plan, drawn=drawn, planted_deg={name: float(name.split()[1]) for name in drawn})
    network, table = table_of(plan, "arc")
    assert table["detector"].all()
    assert error_deg(network, table).max() < 5.0


# Taps


@KINDS
def test_real_gradient_of_the_centre_unit_fills_the_computed_field(networks, kind):
    network = networks[kind]
    tap, size = network.tap("pre"), network.preprocessing.size_px
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    maps = network.units(network.complex(network.rectified(network.simple(image))))
    middle = tap.center_index(size)
    (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].square().sum(), image)
    rows, columns = (torch.nonzero((gradient[0] != 0).any(0).any(axis)).ravel() for axis in (1, 0))
    half = (tap.rf_px - 1) / 2
    centre = tap.rf_start_px + tap.stride_px * middle
    assert centre == (size - 1) / 2
    assert [int(rows[0]), int(rows[-1])] == [int(columns[0]), int(columns[-1])] == [centre - half, centre + half]


# Scrambled versions


@pytest.mark.parametrize("seed", [0, 2])
def test_no_arc_is_found_when_both_layers_are_scrambled(seed):
    _, table = table_of(planted.arc_plan().scrambled(seed), "arc")
    assert not table["detector"].any()
