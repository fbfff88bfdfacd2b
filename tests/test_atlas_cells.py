"""The atlas and its cliques on tables whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from zoos import latents, layer, zoo

from universality import figures
from universality.atlas.cells import DATA_DRIVEN, atlas, clique_counts, cliques, data_driven_rows
from universality.base import schema
from universality.base.errors import RunError
from universality.correspondence.census import Census, count_links, joined
from universality.runs import sidecars
from universality.runs.provenance import provenance

MODELS = ("m/a", "m/b", "m/c", "m/d")
ANGLES = (0.0, 90.0, 200.0)


def units(models=MODELS, angles=ANGLES, twins=2):
    rows = []
    for model in models:
        for unit, angle in enumerate(angles):
            rows.append({"model": model, "seed": -1, "unit": unit, "preferred_deg": angle, "peak_sigma": 3.0 + unit})
        rows.append(
            {"model": model, "seed": -1, "unit": 99, "preferred_deg": 45.0, "peak_sigma": 9.0, "detector": False}
        )
        rows += [{"model": model, "seed": s, "unit": 0, "preferred_deg": 90.0, "detector": s == 0 and model == "m/a"}
                 for s in range(twins)]  # fmt: skip
    table = pd.DataFrame(rows)
    table["detector"] = table["detector"].astype("boolean").fillna(True).astype(bool)
    return table.assign(
        family="curve",
        tap="t",
        r1=0.8,
        tuning_sigma=[np.arange(12.0)] * len(table),
        peak_sigma=table["peak_sigma"].fillna(2.0),
    )


def pair(a, b, unit_a, unit_b, verdict="same_feature", r=0.6, low=0.1):
    return {
        "model_a": a, "tap_a": "t", "unit_a": unit_a, "model_b": b, "tap_b": "t", "unit_b": unit_b, "family": "curve",
        "verdict": verdict, "r_natural": r, "excess_low": low,
    }  # fmt: skip


def run_of(pairs, table=None, models=MODELS):
    families = pd.DataFrame(
        [{"family": "curve", "model": m, "tap": "t", "n_detectors": 3, "depth": 0.5, "n_twins": 2} for m in models]
        + [
            {"family": "curve", "model": m, "tap": "early", "n_detectors": 1, "depth": 0.2, "n_twins": 2}
            for m in models
        ]
    )
    columns = list(pair("", "", 0, 0))
    return SimpleNamespace(
        families=families,
        units=units() if table is None else table,
        correspondence=pd.DataFrame(pairs, columns=columns),
    )


def cell(table, model, angle):
    return table[(table["model"] == model) & (table["angle_deg"] == angle)].iloc[0]


def test_every_model_has_every_bin_once():
    table = atlas(run_of([]))
    assert list(table.columns) == schema.ATLAS.names
    assert len(table) == 4 * 12
    assert not table.duplicated(["family", "model", "angle_deg"]).any()
    assert set(table["tap"]) == {"t"}  # the tap with the most detectors
    assert table.groupby("model")["n_units"].sum().tolist() == [3] * 4


def test_cells_hold_detectors_of_their_bin_and_the_twins_beside_them():
    table = atlas(run_of([]))
    assert cell(table, "m/b", 90.0)["unit"] == 1
    assert cell(table, "m/b", 210.0)["unit"] == 2  # 200 degrees lies in the bin about 210
    empty = cell(table, "m/b", 30.0)  # holds unit 99 only, which is no detector
    assert (empty["unit"], empty["n_units"], empty["links"]) == (-1, 0, 0)
    assert cell(table, "m/a", 90.0)["n_untrained"] == 0.5
    assert cell(table, "m/b", 90.0)["n_untrained"] == 0.0


def test_bins_are_centred_and_wrap():
    near = units(angles=(346.0, 14.9, 15.1))
    table = atlas(run_of([], near))
    assert cell(table, "m/a", 0.0)["n_units"] == 2
    assert cell(table, "m/a", 30.0)["n_units"] == 1


def test_unit_with_the_most_links_stands_for_its_cell():
    table = units(angles=(0.0, 3.0, 200.0))
    made = atlas(
        run_of([pair("m/a", "m/b", 0, 0), pair("m/a", "m/c", 0, 2), pair("m/a", "m/d", 1, 1, "family_only")], table)
    )
    chosen = cell(made, "m/a", 0.0)
    assert (chosen["unit"], chosen["links"], chosen["linked"]) == (0, 2, "m/b, m/c")
    assert cell(made, "m/d", 0.0)["unit"] == 1  # no links: the strongest
    assert cell(made, "m/d", 0.0)["links"] == 0


@pytest.mark.parametrize("bin_deg", [0, -30, 70, 31])
def test_bins_that_do_not_divide_the_circle_are_refused(bin_deg):
    with pytest.raises(RunError, match="do not divide the circle"):
        atlas(run_of([]), bin_deg)


TRIANGLE = [pair("m/a", "m/b", 0, 0, r=0.7), pair("m/b", "m/c", 0, 2, r=0.5), pair("m/a", "m/c", 0, 2, low=0.05)]


def census_of(pairs, rematched=None):
    edges = pd.DataFrame(pairs).rename(columns={"r_natural": "r", "excess_low": "low", "family": "rule"})
    linked = edges.pop("verdict") == "same_feature"
    edges = edges.rename(columns={"low": "excess_low"}).assign(
        seed=-1, basis_a=-1, basis_b=-1, excess=0.2, linked=linked
    )
    rows = [
        {"seed": -1, "basis": -1, "model": m, "tap": "t", "unit": unit, "rule": "curve", "angle_deg": angle}
        for m in MODELS for unit, angle in enumerate(ANGLES)
    ]  # fmt: skip
    again = np.ones((len(pairs), 4), dtype=bool) if rematched is None else np.array(rematched)
    return Census(pd.DataFrame(rows), edges, again, again)


def test_clique_needs_every_pair():
    found = cliques(census_of(TRIANGLE))
    assert list(found.columns) == schema.CLIQUES.names
    assert list(zip(found["model"], found["unit"], strict=True)) == [("m/a", 0), ("m/b", 0), ("m/c", 2)]
    assert found["preferred_deg"].tolist() == [0.0, 0.0, 200.0]
    assert set(found["n_models"]) == {3}
    assert set(found["least_r"]) == {0.5}
    assert set(found["least_excess_low"]) == {0.05}
    assert cliques(census_of(TRIANGLE[:2])).empty  # a chain through m/b is no clique


def test_pairs_of_other_verdicts_make_no_clique():
    for verdict in ("correlated_only", "family_only", "unmatched"):
        assert cliques(census_of([*TRIANGLE[:2], pair("m/a", "m/c", 0, 2, verdict)])).empty


def test_larger_cliques_come_first_and_swallow_their_parts():
    four = [*TRIANGLE, *(pair(m, "m/d", u, 1) for m, u in (("m/a", 0), ("m/b", 0), ("m/c", 2)))]
    other = [pair("m/a", "m/b", 1, 1), pair("m/b", "m/c", 1, 1), pair("m/a", "m/c", 1, 1)]
    found = cliques(census_of(other + four))
    assert found.groupby("clique")["n_models"].first().tolist() == [4, 3]
    assert found.groupby("clique").size().tolist() == [4, 3]


def test_of_equal_cliques_that_share_a_unit_the_more_stable_stays_in_table_and_counts():
    other = [TRIANGLE[0], pair("m/b", "m/d", 0, 1), pair("m/a", "m/d", 0, 1)]
    again = [[True] * 4, [True, False] * 2, [True] * 4, [True] * 4, [True] * 4]
    counted = census_of([*TRIANGLE, *other[1:]], again)
    found, counts = cliques(counted), clique_counts(counted).iloc[0]
    assert list(zip(found["model"], found["unit"], strict=True)) == [("m/a", 0), ("m/b", 0), ("m/d", 1)]
    assert (counts["n_cliques"], counts["n_disjoint"], counts["stability"]) == (2, 1, 1.0)


def test_order_of_rows_and_sides_does_not_matter():
    renamed = [
        {
            f"{key[:-1]}{'b' if key[-1] == 'a' else 'a'}" if key[-2:] in ("_a", "_b") else key: v
            for key, v in row.items()
        }
        for row in TRIANGLE[::-1]
    ]
    plain, turned = cliques(census_of(TRIANGLE)), cliques(census_of(renamed))
    pd.testing.assert_frame_equal(plain, turned)


def test_picture_fills_linked_cells_and_states_their_counts():
    run = run_of(TRIANGLE)
    table = atlas(run)
    figure = figures.figure_of(figures.atlas_cells(table, run.units, "curve detectors"))
    axes = np.array(figure.axes).reshape(4, 12)
    assert axes[0, 0].get_xlabel() == "2 / 1"
    assert len(axes[0, 0].collections) == 1
    assert axes[3, 3].get_xlabel() == "0 / 1"
    assert len(axes[3, 3].collections) == 0
    assert not axes[0, 1].get_lines()


def test_stability_is_the_share_of_resamples_in_which_every_pair_is_matched_again():
    again = [[True, True, True, False], [True, False, True, True], [True, True, True, True]]
    assert set(cliques(census_of(TRIANGLE, again))["stability"]) == {0.5}


def test_unit_of_a_clique_states_its_mean_correlation_with_the_others():
    found = cliques(census_of(TRIANGLE)).set_index("model")["mean_r"]
    assert found.to_dict() == pytest.approx({"m/a": 0.65, "m/b": 0.6, "m/c": 0.55})


@pytest.fixture(scope="module")
def planted():
    """Four networks that share six units, beside twins that share none."""
    layers, places = zoo(MODELS, units=20, shared=6, noise=0.15)
    pairs = [(a, b) for k, a in enumerate(MODELS) for b in MODELS[k + 1 :]]
    twins = [layer(model, latents(20, [9, k]), seed=0) for k, model in enumerate(MODELS)]
    trained = count_links(layers, pairs, (), resamples=60)
    return joined([trained, count_links(twins, pairs, (), bases=0, resamples=60)]), places


def test_planted_units_are_cliques_and_nulls_hold_none(planted):
    counted, places = planted
    found = cliques(counted)
    assert set(found["family"]) == {DATA_DRIVEN}
    assert found.groupby("clique").size().tolist() == [4] * 6
    got = {tuple(rows.set_index("model").loc[list(MODELS), "unit"]) for _, rows in found.groupby("clique")}
    assert got == set(zip(*(places[model].tolist() for model in MODELS), strict=True))
    assert (found["stability"] > 0.95).all()
    counts = clique_counts(counted).set_index(["family", "networks"])
    assert counts.loc[("data-driven", "trained"), ["n_cliques", "n_disjoint", "n_stable", "largest"]].tolist() == [
        6,
        6,
        6,
        4,
    ]
    assert counts.loc[("data-driven", "untrained"), "replicates"] == 1
    assert counts.loc[("data-driven", "haar"), "replicates"] == 3
    assert (counts.loc[[("data-driven", "untrained"), ("data-driven", "haar")], "n_cliques"] == 0).all()
    assert counts.loc[("any_unit", "trained"), "n_units"] == 80


def test_detectors_are_in_no_data_driven_clique(planted):
    counted, places = planted
    detector = pd.DataFrame(
        [
            {
                "seed": -1,
                "basis": -1,
                "model": "m/b",
                "tap": "t",
                "unit": places["m/b"][2],
                "rule": "curve",
                "angle_deg": 3.0,
            }
        ]
    )
    marked = Census(
        pd.concat([counted.units, detector], ignore_index=True), counted.edges, counted.rematched, counted.kept
    )
    assert cliques(marked).query("family == @DATA_DRIVEN")["clique"].nunique() == 5
    counts = clique_counts(marked).set_index(["family", "networks"])["n_cliques"]
    assert (counts["data-driven", "trained"], counts["any_unit", "trained"]) == (5, 6)


def test_atlas_has_a_row_for_every_data_driven_clique_and_model(planted):
    counted, _ = planted
    rows = data_driven_rows(cliques(counted), clique_counts(counted), [*MODELS, "m/e"])
    assert len(rows) == 6 * 5
    assert (rows.loc[rows["model"] == "m/e", "unit"] == -1).all()
    assert (rows.loc[rows["model"] != "m/e", "links"] == 3).all()
    assert (rows["n_untrained"] == 0).all()
    images = {
        key: np.zeros((2, 3, 4, 4), np.float32)
        for key in rows[["model", "tap", "unit"]].itertuples(index=False, name=None)
    }
    figure = figures.figure_of(figures.clique_images(rows, images))
    assert len(figure.axes) == 6 * 4  # a model without any gets no column


def test_command_writes_tables_and_pictures(small, whole, tmp_path, capsys, monkeypatch):
    from universality import cli

    monkeypatch.setattr("sys.argv", ["universality", "atlas", str(small.out), "--out", str(tmp_path / "atlas")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "has no table 'atlas'" in capsys.readouterr().err
    run = whole
    monkeypatch.setattr("sys.argv", ["universality", "atlas", str(run.path), "--out", str(tmp_path / "atlas")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    assert "bins of orientation are held" in said
    assert "no interval: two networks" in said
    written = {path.name for path in (tmp_path / "atlas").iterdir()}
    assert {f"{name}.csv" for name in schema.ATLAS_TABLES} <= written
    assert {"atlas__curve.png", "index_by_group.png", "index_by_feature.pdf", "cliques.png"} <= written
    csv = tmp_path / "atlas" / "index_by_group.csv"
    assert provenance(csv) == run.record["provenance"]
    assert list(sidecars.problems(tmp_path, run.record)) == []
    csv.write_text("changed")
    assert len(list(sidecars.problems(tmp_path, run.record))) == 1
    for name, table in schema.ATLAS_TABLES.items():
        assert list(run.table(name).columns) == table.names
