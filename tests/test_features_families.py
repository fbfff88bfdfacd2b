"""Several families of detectors at once, from planted layers and from a small job on two pocket networks."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zoos
from shown import by_set
from shown import drawn as drawings_of
from silent_controls import CONTROLS, with_controls

import universality
from universality.activations import bases
from universality.activations.bases import haar, haars, orthonormal
from universality.activations.layer import Layer, LayerRef, load_layer
from universality.activations.nulls import NullPlan
from universality.base import schema
from universality.correspondence.search import Contender, MatchingPlan
from universality.correspondence.tables import correspondence_rows, family_rows, unit_rows
from universality.features import answers
from universality.features.definition import apply
from universality.features.families import FAMILIES, definition_of
from universality.features.natural_tuning import natural_rows
from universality.features.rules import within
from universality.features.tables import UNITS, columns_of, joined, own_name
from universality.jobs.trace import trace
from universality.models import catalogue
from universality.models.card import Tap
from universality.report import data
from universality.runs.layers import references
from universality.runs.networks import networks_of
from universality.runs.tables import TABLES
from universality.stimuli import curves, high_low
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.high_low import HighLowStimuli

CURVES = curves.parameters(CurveStimuli(orientations=36, curvatures=(0.0, 4.0, 8.0)))
HIGH_LOW = high_low.parameters(HighLowStimuli(orientations=24, base_cpi=(10.0, 14.0), phases=1))
PARAMETERS = {"curve": (CURVES, CONTROLS), "high_low_frequency": (HIGH_LOW,)}
PREFERRED = {"curve": np.arange(8) * 45.0, "high_low_frequency": np.arange(6) * 60.0 + 15.0}
CURVE_UNITS, BOUNDARY_UNITS, PLAIN_UNITS = range(8), range(8, 14), range(14, 18)
OF_FAMILY = {"curve": CURVE_UNITS, "high_low_frequency": BOUNDARY_UNITS}
PHOTOGRAPHS, CROPS_EACH = 16, 20
NULLS = NullPlan(haar_rotations=2, shuffles=3, seed=0)
PLAN = MatchingPlan(("curve", "high_low_frequency"), ("hungarian", "mutual_nearest"), 100, 19, NULLS)


def lobe(theta, mu, k=4.0):
    return np.where(np.isnan(theta), 0.0, np.exp(k * (np.cos(np.deg2rad(np.nan_to_num(theta) - mu)) - 1)))


def level(parameters, units, seed):
    """No tuning: positive noise."""
    return 2 + 0.3 * np.random.default_rng([1, seed]).standard_normal((parameters.sizes["stimulus"], units))


def drawn(turn=0.0, seed=0):
    """By family, (stimulus, unit): its own units are ideal detectors, all others answer without tuning."""
    by_family = {"curve": level(CURVES, 18, seed), "high_low_frequency": level(HIGH_LOW, 18, seed + 1)}
    curved = CURVES["curvature"].values > 0
    boundary = (HIGH_LOW["kind"].values == "high_low") & (HIGH_LOW["ratio"].values == 6.0)
    for unit, mu in zip(CURVE_UNITS, PREFERRED["curve"], strict=True):
        answer = 6.0 * lobe(CURVES["orientation_deg"].values, mu + turn)
        by_family["curve"][:, unit] = np.where(curved, answer, 0.5)
    for unit, mu in zip(BOUNDARY_UNITS, PREFERRED["high_low_frequency"], strict=True):
        answer = 6.0 * lobe(HIGH_LOW["orientation_deg"].values, mu + turn)
        by_family["high_low_frequency"][:, unit] = np.where(boundary, answer, 0.5)
    return by_family | {"curve": with_controls(by_family["curve"])}


def seen(seed=0):
    """Activations for crops (crop, unit), every unit with a sigma of 1."""
    rng = np.random.default_rng([2, seed])
    x = np.repeat(rng.standard_normal((PHOTOGRAPHS, 18)), CROPS_EACH, axis=0) / 2
    x = x + rng.standard_normal((PHOTOGRAPHS * CROPS_EACH, 18))
    return (x - x.mean(axis=0)) / x.std(axis=0)


def layer(natural, drawings, model="a/net", seed=None):
    photograph = np.repeat(np.arange(PHOTOGRAPHS), CROPS_EACH)
    tap = Tap(
        name="tap", path="tap", activation="pre", channels=18, size=7, rf_px=95, stride_px=8, rf_start_px=0.0,
        relative_depth=0.5,
    )  # fmt: skip
    shown = {
        name: of
        for family, values in drawings.items()
        for name, of in by_set(family, values, PARAMETERS[family]).items()
    }
    return Layer(LayerRef(model, seed, tap, "nowhere", {}), natural, photograph % 2, photograph, shown)


def planted(model="a/net"):
    return layer(seen(), drawn(), model)


def untrained():
    plain = {"curve": with_controls(level(CURVES, 18, 50)), "high_low_frequency": level(HIGH_LOW, 18, 51)}
    return layer(seen(9), plain, "b/net", 0)


def rows_of(made, twin):
    """The rows of both families, by family."""
    return pd.concat([family_rows(name, made, [twin], NULLS) for name in PARAMETERS]).set_index("family")


@pytest.fixture(scope="module")
def families():
    return rows_of(planted(), untrained())


@pytest.fixture(scope="module")
def pairs():
    """Layer B is A with its units in another order, all preferences turned by 60 degrees."""
    order = np.random.default_rng(3).permutation(18)
    turned = {family: values[:, order] for family, values in drawn(turn=60.0).items()}
    b = layer(seen()[:, order], turned, "b/net")
    return order, correspondence_rows(Contender(planted(), [untrained()], PLAN), Contender(b, [untrained()], PLAN))


def test_every_family_has_its_row(families):
    assert families.index.tolist() == list(PARAMETERS)
    assert families["rule"].tolist() == ["invariant", "boundary"]
    assert families["n_detectors"].tolist() == [8, 6]
    assert families["n_units"].tolist() == [18, 18]
    np.testing.assert_allclose(families["share"], [8 / 18, 6 / 18])
    np.testing.assert_allclose(families["largest_gap_deg"], [45, 60], atol=1e-6)


def test_nulls_of_both_families(families):
    assert (families["n_detectors_untrained"] == 0).all()
    assert (families["share_shuffled"] == 0).all()
    rotated = [planted().in_basis(basis) for basis in haars(NULLS.haar_rotations, NULLS.seed)]
    for name in PARAMETERS:
        shares = [unit["detector"].mean() for unit in (answers.units(made, name) for made in rotated)]
        assert families.loc[name, "share_haar"] == pytest.approx(np.mean(shares))


def test_a_family_alone_has_the_row_it_has_beside_another(families):
    for name in PARAMETERS:
        alone, twin = (
            replace(made, shown={one: made.shown[one] for one in FAMILIES[name].sets})
            for made in (planted(), untrained())
        )
        row = family_rows(name, alone, [twin], NULLS).set_index("family").loc[name]
        pd.testing.assert_series_equal(row, families.loc[name], check_exact=True)


def test_every_unit_has_a_row_for_each_family():
    of = {name: unit_rows(name, planted()) for name in PARAMETERS}
    rows = pd.concat([common for common, _ in of.values()])
    assert list(rows.columns) == UNITS.names
    assert rows.groupby("family", sort=False)["unit"].apply(list).to_dict() == {
        name: list(range(18)) for name in PARAMETERS
    }
    own = {"curve": "curve_over_line", "high_low_frequency": "over_luminance_edge"}
    for name, units in OF_FAMILY.items():
        of_family = rows[rows["family"] == name].set_index("unit")
        assert of_family.index[of_family["detector"]].tolist() == list(units)
        assert within(of_family.loc[list(units), "preferred_deg"].to_numpy(), PREFERRED[name], 1e-6).all()
        assert (of_family.loc[list(units), "failed"] == "").all()
        assert {len(curve) for curve in of_family["tuning_sigma"]} == {answers.grid(planted(), name).angles_deg.size}
        # The columns of one family alone are in its own table, unit by unit.
        alone = of[name][1]
        assert alone["unit"].tolist() == list(range(18)) and alone[own[name]].notna().any()
        assert list(joined(name, rows, alone)) == [column.name for column in columns_of(name)]


def test_every_unit_gets_its_own_row_of_a_family_in_whatever_order_the_rows_come():
    keys = itertools.product(("m/a", "m/b"), (-1, 0), ("t", "u"), range(3), ("x", "y"))
    units = pd.DataFrame(keys, columns=["model", "seed", "tap", "unit", "family"])
    own = units[units["family"] == "x"].drop(columns="family")
    own["code"] = [" ".join(map(str, row)) for row in own.itertuples(index=False)]
    units = units.sample(frac=1, random_state=0)
    found = joined("x", units, own.sample(frac=1, random_state=1))
    of_x = units[units["family"] == "x"]
    assert found["code"].tolist() == [f"{r.model} {r.seed} {r.tap} {r.unit}" for r in of_x.itertuples()]


@pytest.mark.parametrize("name", list(PARAMETERS))
@pytest.mark.parametrize("method", PLAN.methods)
def test_detectors_of_each_family_find_their_partners(pairs, name, method):
    order, table = pairs
    rows = table[(table["family"] == name) & (table["method"] == method)]
    assert sorted(rows["unit_a"]) == list(OF_FAMILY[name])
    assert (order[rows["unit_b"]] == rows["unit_a"]).all()
    assert rows[["detector_a", "detector_b", "mutual"]].all(axis=None)
    np.testing.assert_allclose(rows["shift_deg"], 60.0)
    np.testing.assert_allclose(rows["delta_theta_deg"], 60.0, atol=1e-6)
    np.testing.assert_allclose(rows[["r_natural", "r_aligned"]], 1.0, atol=1e-9)
    assert set(rows["family_rate_b"]) == {len(OF_FAMILY[name]) / 18}
    assert (rows["r_natural_haar"] < 0.95).all()
    assert rows["delta_log_curvature"].notna().all() == (name == "curve")


def test_pairs_of_both_families_fit_the_schema(pairs):
    table = pairs[1]
    pd.testing.assert_frame_equal(schema.as_table(schema.CORRESPONDENCE, table), table)
    assert table.groupby("family").size().to_dict() == {"curve": 16, "high_low_frequency": 12}


def test_rotated_layer_mixes_the_answers_of_every_family():
    made = planted()
    q = zoos.rotation(18, 0, 0)
    turned, back = made.in_basis(haar(0, 0)), orthonormal("back", q.T)
    np.testing.assert_allclose(turned.natural @ q.T, made.natural, atol=1e-12)
    for name in PARAMETERS:
        np.testing.assert_allclose(drawings_of(turned, name) @ q.T, drawings_of(made, name), atol=1e-12)
        # Other units now prefer other directions; turned back, as if these were units of their own, they are themselves again.
        as_units = replace(turned, basis=bases.UNITS, in_units=None)
        units, mixtures, again = (answers.units(one, name) for one in (made, turned, as_units.in_basis(back)))
        assert again["detector"].tolist() == units["detector"].tolist()
        assert mixtures["detector"].tolist() != units["detector"].tolist()


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_shuffled_grid_leaves_no_detector_and_the_layer_as_it_is(name):
    made = planted()
    shuffled = answers.grid(made, name).shuffled(np.random.default_rng(0))
    assert not answers.units(made, name, shuffled)["detector"].any()
    assert answers.units(made, name)["detector"].any()


def test_the_units_are_a_basis_too():
    made = planted()
    assert made.in_basis(bases.UNITS) is made


def test_a_grid_is_read_once_for_a_layer_and_its_bases_and_again_for_other_parameters():
    made = planted()
    assert answers.grid(made, "curve") is answers.grid(made.in_basis(haar(0, 0)), "curve")
    fewer = CONTROLS.isel(stimulus=CONTROLS["variant"].values == "thin_dark")
    controls = replace(made.shown["curve_controls"], parameters=fewer)
    other = replace(made, shown={**made.shown, "curve_controls": controls})
    assert answers.grid(other, "curve").control_variants == ("thin_dark",)
    assert answers.grid(made, "curve").control_variants != ("thin_dark",)


def test_dead_unit_counts_in_both_families():
    made = planted()
    natural = made.natural.copy()
    natural[:, [0, 8]] = 0.5
    natural[made.fold == 1, 9] = 0.5  # varies in one fold only: it cannot be matched
    table = rows_of(replace(made, natural=natural), untrained())
    assert table["n_dead"].tolist() == [3, 3]
    assert table["n_detectors"].tolist() == [7, 4]


# A small job, from networks to tables

JOB = """
name = "every"
question = "Do all families come through the whole path?"
seed = 3

[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.13"]

[[models]]
id = "pocket/resnet-focus-s0"
taps = ["layer2.1"]

[stimuli.natural]
crops = 8
shapes = 72

[stimuli.curves]
orientations = 8
curvatures = [0.0, 5.0]

[stimuli.high_low]
orientations = 8
base_cpi = [10.0, 14.0]
phases = 1

[stimuli.curve_controls]
orientations = 8
curvatures = [5.0]

[stimuli.contours]
orientations = 8
frequencies_cpi = [6.0]

[stimuli.colour_contrast]
hues = 8
frequencies_cpi = [6.0]

[extraction]
reduction = "center"

[comparison]
families = ["curve", "high_low_frequency", "oriented_edge", "colour_contrast"]
bootstraps = 100

[nulls]
calibration_crops = 32
haar_rotations = 2
shuffles = 2

[stages]
without = ["examples", "circuits", "recovery", "motifs", "atlas"]
"""


def test_job_gives_every_family_in_every_table(tmp_path):
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    run = universality.run(tmp_path / "job.toml", tmp_path / "run", store=tmp_path / "store")
    trained = run.units[run.units["seed"] == -1]
    assert set(trained["family"]) == set(run.units.loc[run.units["seed"] == 0, "family"]) == set(FAMILIES)
    assert run.families.groupby("model")["family"].apply(set).tolist() == [set(FAMILIES)] * 2
    for row in run.families.itertuples():
        units = trained[(trained["model"] == row.model) & (trained["family"] == row.family)]
        assert units["unit"].tolist() == list(range(row.n_units))
        assert units["detector"].sum() == row.n_detectors
        assert (units["detector"] == (units["failed"] == "")).all()
    # Every family that has a detector has pairs; both networks are known to hold high-low frequency detectors.
    assert set(run.correspondence["family"]) == set(trained.loc[trained["detector"], "family"])
    assert "high_low_frequency" in set(run.correspondence["family"])
    check_ranges(run)
    check_layers(run, trained)
    check_natural_tuning(run)
    check_tracing(run, trained)
    check_own_columns(run)
    check_page(run, trained)


def check_own_columns(run):
    """What a family's rule says of its units with their own columns is what the common table says of them."""
    assert {name for name in run.tables if name.startswith("units_")} == {own_name(name) for name in FAMILIES}
    for name in FAMILIES:
        units, common = run.units_of(name), run.units[run.units["family"] == name]
        pd.testing.assert_frame_equal(units[list(common)], common.reset_index(drop=True))
        applied = apply(definition_of(name), units)
        assert applied["failed"].tolist() == common["failed"].tolist()


def check_page(run, trained):
    """The page has one table of units, each with the columns of its family and nothing in those of others."""
    page = data.page_data(run)
    tables = page["tables"]
    assert "units" in tables and not any(name.startswith("units_") for name in tables)
    columns = {column["name"]: column for column in tables["units"]["columns"]}
    assert len(page["tuning"]) == tables["units"]["rows"] == len(trained)
    for name, family in FAMILIES.items():
        here, units = (trained["family"] == name).to_numpy(), run.units_of(name).query("seed == -1")
        for column in family.columns:
            values = np.array([np.nan if v is None else float(v) for v in columns[column.name]["values"]])
            np.testing.assert_allclose(values[here], units[column.name].to_numpy(np.float64), rtol=6e-4)
            assert np.isnan(values[~here]).all() and columns[column.name]["meaning"] == column.meaning


def check_tracing(run, trained):
    """A traced unit is held against the drawings of the family that it is a detector of, not of the first one."""
    families = trained[trained["detector"]].groupby(["model", "tap", "unit"], sort=False)["family"].agg(list)
    alone = families[[names == ["high_low_frequency"] for names in families]]
    (partner,) = trace(run, *alone.index[0]).to_dict("records")
    assert partner["family"] == "high_low_frequency" != run.job.comparison.families[0]
    held = trained.set_index(["model", "tap", "unit", "family"])["detector"]
    assert partner["detector"] == held[partner["model"], partner["tap"], partner["unit"], "high_low_frequency"]


def check_natural_tuning(run):
    """Every strong family has its rows, detectors prefer what they prefer among drawings, and other units do so less."""
    table = run.table("joint")
    seeds = {(row.model, row.seed) for row in table.itertuples()}
    one = next(n for n in networks_of(run.job) if (n.card.id, -1 if n.seed is None else n.seed) in seeds)
    seed = -1 if one.seed is None else one.seed
    refs = {ref.tap.name: ref for ref in references(run) if (ref.model, ref.seed) == (one.card.id, one.seed)}
    units = run.units[(run.units["model"] == one.card.id) & (run.units["seed"] == seed)]
    # Of one network: that it comes out the same shows on each.
    again = natural_rows(one, units, run.job.seed, lambda tap: load_layer(refs[tap.name]))
    assert len(again) > 0
    of_one = table[(table["model"] == one.card.id) & (table["seed"] == seed)]
    pd.testing.assert_frame_equal(of_one.reset_index(drop=True), again.reset_index(drop=True), check_exact=True)
    units = run.units.set_index(["model", "seed", "tap", "family", "unit"])
    keys = list(table[["model", "seed", "tap", "family", "unit"]].itertuples(index=False, name=None))
    np.testing.assert_array_equal(units.loc[keys, "detector"], table["detector"])
    np.testing.assert_allclose(units.loc[keys, "preferred_deg"], table["synthetic_deg"])
    shares = table.groupby("detector")["agrees"].mean()
    assert shares[True] > shares[False] + 0.2
    assert (table["agrees"] == within(table["joint_deg"], table["synthetic_deg"], 20.0)).all()


def check_ranges(run):
    """Every figure lies in the range that the schema states for it, but for rounding."""
    bounds = {"-1 to 1": (-1, 1), "0 to 1": (0, 1), ">= 0": (0, np.inf), "0 to 180": (0, 180), "0 to 360": (0, 360)}
    for name, table in {
        name: run.table(name) for name in ("units", *map(own_name, FAMILIES), "families", "correspondence")
    }.items():
        for column in TABLES[name].columns:
            if column.range in bounds and column.kind in ("int", "float"):
                low, high = bounds[column.range]
                assert table[column.name].dropna().between(low - 1e-12, high + 1e-12).all(), (name, column.name)


def check_layers(run, trained):
    """Layers read from the run's stores, where activations carry the coordinates of their units too, say the same."""
    for entry in run.record["job"]["models"]:
        model, tap = entry["id"], catalogue.card(entry["id"]).tap(entry["taps"][0])
        keys = {e["stimuli"]: e["key"] for e in run.record["stores"] if e["model"] == model and e["seed"] is None}
        made = load_layer(LayerRef(model, None, tap, run.store, keys))
        assert set(made.shown) == {one for family in FAMILIES.values() for one in family.sets}
        for name in FAMILIES:
            written = trained[(trained["model"] == model) & (trained["family"] == name)]
            assert answers.units(made, name)["failed"].tolist() == written["failed"].tolist()
