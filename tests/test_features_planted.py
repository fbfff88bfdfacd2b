"""Planted truth: networks written by hand, whose units the definitions find one by one, with their orientations."""

from dataclasses import replace

import numpy as np
import planted
import pytest
import torch

from universality.features import answers
from universality.features.natural import family_preference, family_rotation_slope, joint_tuning, rotated, top_crops
from universality.features.tuning import best_shift_correlation, circular_difference, largest_gap, rayleigh
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.high_low import HighLowStimuli
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

SPEC = StimuliSpec(
    natural=NaturalStimuli(crops=150, shapes=150),
    curves=CurveStimuli(orientations=24),
    high_low=HighLowStimuli(orientations=24),
)
FEW = SPEC.model_copy(update={"natural": NaturalStimuli(crops=50, shapes=50)})
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
    return {kind: {tap: answers.units(layer, FAMILY[kind]) for tap, layer in of.items()} for kind, of in layers.items()}


def tables_of(plan, kind, taps=("post",), spec=FEW):
    """A planted network and its tables of units, one for each tap."""
    network = planted.Planted(plan)
    layers = planted.layers(network, FAMILY[kind], spec, taps)
    return network, [answers.units(layers[tap], FAMILY[kind]) for tap in taps]


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
    assert rayleigh(found).p > 0.99
    responses = answers.responses(layers[kind]["post"], FAMILY[kind])
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


def test_a_clipping_changes_no_tuning_and_every_tie(networks, layers, tables):
    """Behind ReLU6 with a gain so large that half of each detector's curve is clipped: tuning is that of the ReLU, in sigma the same at any gain."""
    layer, is_detector = layers["arc"]["post"], is_planted(networks["arc"])
    responses = answers.responses(layer, "curve")
    gain = 6 / np.median(0.3 * responses.tuning.max(axis=1) * responses.sigma.deviation)
    shown = {name: replace(of, activations=of.activations * gain) for name, of in layer.shown.items()}
    clipping = replace(layer, natural=layer.natural * gain, shown=shown, clip=6.0)
    found, handed_on = answers.units(clipping, "curve"), answers.units(clipping.handed_on, "curve")
    plain = tables["arc"]["post"]
    np.testing.assert_array_equal(found["detector"], plain["detector"])
    tuned = ["preferred_deg", "fwhm_deg", "score", "peak_sigma"]
    np.testing.assert_allclose(found.loc[is_detector, tuned], plain.loc[is_detector, tuned], rtol=1e-9)
    # Counted are the images that the nonlinearity makes alike.
    counts = (clipping.natural >= 6).sum(axis=0)
    np.testing.assert_array_equal(found["ties"][counts > 0], counts[counts > 0])
    np.testing.assert_array_equal(handed_on["ties"], found["ties"])
    assert (handed_on["fwhm_deg"] > plain["fwhm_deg"] + 5)[is_detector].all(), "the clipping made no plateau"


@pytest.mark.parametrize("turn", [37.0])
def test_units_planted_elsewhere_are_found_elsewhere(turn):
    """The match of planted and found is not one of two equal grids."""
    drawn = {f"arc {angle + turn:g}": planted.arc_detector(angle + turn) for angle in (0.0, 90.0, 200.0)}
    plan = planted.arc_plan()
    plan = planted.replace(plan, drawn=drawn, planted_deg={name: float(name.split()[1]) for name in drawn})
    network, (table,) = tables_of(plan, "arc")
    assert table["detector"].all()
    assert error_deg(network, table).max() < 5.0


def test_strong_inhibition_hides_arcs_before_the_nonlinearity():
    """Sigma counts how far natural images push a unit below 0: the same arcs lie within one sigma there, five after it."""
    plan = planted.arc_plan()
    drawn = {name: planted.arc_detector(angle, 0.25, 0.5) for name, angle in plan.planted_deg.items()}
    _, (pre, post) = tables_of(planted.replace(plan, drawn=drawn), "arc", ("pre", "post"))
    assert pre["failed"].str.startswith("peak_sigma").all()
    # One unit is silent for all natural images but a few.
    assert (post["detector"] | (post["failed"] == "relative_sigma")).all()
    assert post["detector"].mean() > 0.9


# Taps


@KINDS
def test_real_gradient_of_the_centre_unit_fills_the_computed_field(networks, kind):
    network = networks[kind]
    tap, size = network.tap("pre"), network.preprocessing.size_px
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    maps = network.before(image)
    middle = tap.center_index(size)
    (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].square().sum(), image)
    rows, columns = (torch.nonzero((gradient[0] != 0).any(0).any(axis)).ravel() for axis in (1, 0))
    half = (tap.rf_px - 1) / 2
    centre = tap.rf_start_px + tap.stride_px * middle
    assert centre == (size - 1) / 2
    assert [int(rows[0]), int(rows[-1])] == [int(columns[0]), int(columns[-1])] == [centre - half, centre + half]


# Scrambled versions


def test_no_arc_is_found_when_both_layers_are_scrambled():
    _, (table,) = tables_of(planted.arc_plan().scrambled(0), "arc")
    assert not table["detector"].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_planted_arc_is_recovered_when_the_second_layer_is_scrambled(seed):
    """The rule alone lets a few through, but none at the orientation that was planted.

    A known weakness, with its number fixed here so that a change is noticed: the layer before is intact, and some random kernels are tuned
    for one direction whatever the polarity, about symmetrically, and prefer an arc to its thirds, to corners and to lines.
    """
    network, tables = tables_of(planted.arc_plan().scrambled(seed, ("second",)), "arc", ("pre", "post"))
    for table in tables:
        assert not (table["detector"] & (error_deg(network, table) < 5)).any()
    assert tables[1]["detector"].sum() <= 4


def test_boundaries_are_not_found_where_the_bands_are_mixed():
    """The same layout without a difference of frequencies is no high-low detector."""
    _, tables = tables_of(planted.without_bands(planted.boundary_plan()), "boundary", ("pre", "post"))
    for table in tables:
        assert not table["detector"].any()


def test_few_planted_boundaries_are_recovered_when_both_layers_are_scrambled():
    """Random phases keep what band a filter sees and that a kernel has two sides: this null is weak for boundaries."""
    recovered = 0
    for seed in range(2):
        network, (table,) = tables_of(planted.boundary_plan().scrambled(seed), "boundary")
        recovered += (table["detector"] & (error_deg(network, table) < 5)).sum()
    assert recovered <= 1


# Tuning on natural images

TURNS = np.arange(24) * 15.0


def rotated_top_crops(network, layer, chosen, count=5):
    """Answers (crop, angle, chosen unit), and which crops are the top ones of each chosen unit (unit, count)."""
    top = top_crops(layer.natural[:, chosen], count)
    used = np.unique(top)
    size = network.preprocessing.size_px
    turned = rotated(planted.images("natural", SPEC, size)[used], TURNS)
    answers = network.answers(turned.reshape(-1, 3, size, size), [network.tap("post")])["post"]
    return answers.reshape(len(used), TURNS.size, -1)[:, :, chosen], np.searchsorted(used, top)


def joint_of(network, layer, choose):
    """Joint tuning of the chosen units by themselves, and what a family of them says."""
    responses, table = answers.responses(layer, "curve"), answers.units(layer, "curve")
    chosen = np.flatnonzero(choose(table))
    turned, own = rotated_top_crops(network, layer, chosen)
    rotations = np.stack([turned[crops, :, unit] for unit, crops in enumerate(own)])
    sigma, preferred = turned / responses.sigma.deviation[chosen], table["preferred_deg"].to_numpy()[chosen]
    return joint_tuning(rotations, responses.tuning[chosen], TURNS), sigma, preferred


@pytest.fixture(scope="module")
def joint_arcs(networks, layers):
    return joint_of(networks["arc"], layers["arc"]["post"], lambda table: table["detector"])


def test_arcs_have_one_tuning_for_drawings_and_natural_crops(joint_arcs):
    joint = joint_arcs[0]
    assert np.median(joint.r_joint) > 0.9
    assert joint.r_joint.min() > 0.8
    assert joint.r1.min() > 0.5


def test_controls_have_no_single_peak_on_natural_crops(networks, layers):
    """Their curves may resemble those for drawings; what no control has is both that and one direction."""
    controls = ~is_planted(networks["arc"])
    joint, _, _ = joint_of(networks["arc"], layers["arc"]["post"], lambda table: controls & table["live"])
    assert len(joint.r1) == 4
    assert joint.r1.max() < 0.4


def test_natural_crops_and_drawings_agree_on_preferred_angles(joint_arcs):
    _, sigma, preferred = joint_arcs
    assert np.abs(family_preference(sigma, preferred, TURNS).difference_deg).max() < 5.0
    wrong = preferred + 40.0 * (np.arange(preferred.size) == 3)
    assert family_preference(sigma, wrong, TURNS).difference_deg[3] == pytest.approx(-40.0, abs=5.0)


def test_family_of_arcs_follows_a_rotating_crop(joint_arcs):
    _, sigma, preferred = joint_arcs
    slope = family_rotation_slope(sigma, preferred, TURNS)
    assert (slope.slope == 1).mean() > 0.9
    assert np.median(slope.locking) > 0.95
    shuffled = np.random.default_rng(0).permutation(preferred)
    assert np.median(family_rotation_slope(sigma, shuffled, TURNS).locking) < 0.6


@pytest.mark.parametrize("seed", [0, 1])
def test_what_passes_of_a_scrambled_layer_disagrees_on_natural_crops(seed):
    """Of units that the rule alone lets through, at most one in four prefers the same angle on natural crops within 5 degrees."""
    network = planted.Planted(planted.arc_plan().scrambled(seed, ("second",)))
    layer = planted.layers(network, "curve", SPEC, ("post",))["post"]
    _, sigma, preferred = joint_of(network, layer, lambda table: table["detector"])
    assert preferred.size > 0
    assert (np.abs(family_preference(sigma, preferred, TURNS).difference_deg) < 5.0).mean() <= 0.25
    assert (family_rotation_slope(sigma, preferred, TURNS).slope == 1).mean() < 0.6
