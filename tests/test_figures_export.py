"""Exported figures: what is drawn is what the CSV says, on pages of exact width, with text that stays text."""

import csv
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawn_texts import joined, outside, overlaps, shown, unreadable
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from PIL import Image
from test_figures import unit
from typer.testing import CliRunner

from universality import figures
from universality.base import schema
from universality.base.errors import RunError
from universality.causes.tables import ABLATION_CLASSES, TRANSPLANTS
from universality.circuits.motif_tables import EDGES, EQUIVARIANCE, LAYOUTS
from universality.circuits.tables import CIRCUITS, PROFILES
from universality.cli import app
from universality.features.tables import OWN, UNITS, own_name
from universality.figures import FIGURES, export, figure_of
from universality.figures import cliques as figures_cliques
from universality.figures import similarity as figures_similarity
from universality.figures.chords import NETWORKS, chord_data, places
from universality.figures.export import CAPTIONS, lacking
from universality.figures.interventions import STANDINS
from universality.figures.kinds import Subject, drawing, drawings
from universality.jobs.stages import STAGES
from universality.runs.drawn import count
from universality.runs.provenance import SIDECAR, provenance
from universality.runs.record import finish
from universality.runs.run import Run, file_sha256, open_run, write_table
from universality.runs.tables import TABLES

A, B = "m/a", "m/b"
WIRED = ("layouts", "equivariance", "edges")
WIDTHS_MM = {"single": 89.0, "double": 183.0}


def table(kind, rows):
    """Rows of a table whose other columns are 0 or empty."""
    empty = {c.name: {"string": "", "bool": False, "floats": []}.get(c.kind, 0) for c in kind.columns}
    return schema.as_table(kind, pd.DataFrame([empty | row for row in rows]))


@pytest.fixture(scope="module")
def tables():
    """Tables of two networks, with values that differ everywhere, so that nothing can be drawn in another's place."""
    rng = np.random.default_rng(7)
    between = [
        {"model_a": A, "model_b": B, "tap_a": f"a{i}", "tap_b": f"b{j}", "depth_a": 0.2 + 0.3 * i, "depth_b": 0.3 + 0.1 * j}
        for i in range(2) for j in range(3)
    ]  # fmt: skip
    states = ("value", "value_untrained", "value_haar", "value_shuffled")
    similarity = [
        at | {"measure": measure, "direction": "similarity", "n": 9, "p": 4, "q": 4} | dict(zip(states, rng.random(4), strict=True))
        for measure in ("cka_linear_debiased", "unit_match_hungarian") for at in between
    ]  # fmt: skip
    units = [unit(A, -1, "a0", n, preferred) for n, preferred in enumerate((200.0, 20.0, 110.0))]
    units += [unit(A, 0, "a0", n, 40.0 + n, detector=False) | {"naive_detector": True} for n in range(2)]
    units += [unit(B, -1, "b0", n, 30.0 + 90 * n) for n in range(2)] + [unit(B, 0, "b0", 0, 0.0, detector=False)]
    families = [
        {"model": m, "tap": t, "depth": d, "family": "curve", "n_units": 9, "n_detectors": n, "share": n / 9, "share_low": n / 12,
         "share_high": n / 7, "share_haar": rng.random(), "share_untrained": rng.random() / 9}
        for m, t, d, n in ((A, "a0", 0.2, 3), (A, "a1", 0.5, 1), (B, "b0", 0.3, 2))
    ]  # fmt: skip
    correspondence = [
        between[0] | {"family": "curve", "method": "hungarian", "detector_a": True, "detector_b": True, "unit_a": a, "unit_b": b,
                      "r_natural": rng.random(), "r_natural_haar": rng.random(), "r_natural_untrained": rng.random(),
                      "preferred_a_deg": angle, "preferred_b_deg": angle + 5}
        for a, b, angle in ((1, 0, 20.0), (2, 1, 110.0))
    ]  # fmt: skip
    pairs = [
        at | {"family": "curve", "method": method, "n_detectors_a": 8, "n_detectors_b": 4, "share_a": 0.25, "share_b": 0.1,
              "n_met": place, "n_met_untrained": place / 4, "n_met_haar": place / 2, "n_same_feature": place // 2}
        for method in ("hungarian", "mutual_nearest") for place, at in enumerate(between)
    ]  # fmt: skip
    atlas = [
        {"family": "curve", "model": m, "tap": t, "angle_deg": angle, "unit": n, "n_units": n + 1, "links": links}
        for m, t, angle, n, links in ((A, "a0", 0.0, -1, 0), (A, "a0", 180.0, 0, 1), (B, "b0", 0.0, 0, 1), (B, "b0", 180.0, -1, 0))
    ]  # fmt: skip
    group = {"group": "seed", "n_pairs": 3, "n_models": 3, "index_low": 0.1, "index_high": 0.4}
    by_pair = [
        {"family": f, "angle_deg": np.nan, "model_a": A, "model_b": B, "seed": s, "group": "seed", "index": rng.random()}
        for f in ("any_unit", "curve") for s in (-1, -1, 0)
    ]  # fmt: skip
    by_group = [
        group | {"family": f, "angle_deg": np.nan, "index": rng.random(), "index_untrained": rng.random() / 9,
                 "index_untrained_low": np.nan, "index_untrained_high": np.nan}
        for f in ("any_unit", "curve")
    ]  # fmt: skip
    by_feature = [
        group | {"family": "curve", "angle_deg": angle, "index": rng.random() / 3 + 0.1, "n_units": 5, "group": "every pair"}
        for angle in (np.nan, 0.0, 90.0, 180.0, 270.0)
    ]  # fmt: skip
    clique = {"family": "curve", "n_models": 3, "stability": 0.9}
    cliques = [clique | {"clique": 1, "model": m, "unit": 4, "stability": 0.2} for m in (B, "m/c", "m/d")]
    cliques += [clique | {"clique": 0, "n_models": 4, "model": m, "unit": 2} for m in (A, B, "m/c", "m/d")]
    clique_counts = [
        {"family": f, "networks": n, "replicates": 2, "least_models": 3, "n_disjoint": held, "n_stable": held / 2}
        for f in ("curve", "any_unit", "data-driven") for n, held in (("haar", 0.5), ("trained", 6.0), ("untrained", 1.5))
    ]  # fmt: skip
    bounds = ("weight_low", "weight_high", "permuted_low", "permuted_high", "haar_low", "haar_high", "untrained")
    profiles = [
        {"model": m, "source_tap": f"{t}0", "target_tap": f"{t}1", "source_family": "curve", "target_family": "curve", "difference_deg": 45.0 * k,
         "n_sources": 5, "n_targets": 4, "weight": 2 + rng.random(), **dict(zip(bounds, (1, 4, *rng.random(5)), strict=True))}
        for m, t in ((A, "a"), (B, "b")) for k in range(8)
    ]  # fmt: skip
    circuits = [
        between[0] | {"family": "curve", "unit_a": k, "unit_b": k, "back": 1, "sources": way, "verdict_response": "same_feature", "verdict": "undecided",
                      **{f"s_w{end}": rng.random() for end in ("", "_unmatched", "_haar", "_untrained", "_permuted", "_readout", "_ceiling")}}
        for way in ("match", "angle") for k in range(3)
    ]  # fmt: skip
    where = {
        A: {"model": A, "source_tap": "early", "target_tap": "a0"},
        B: {"model": B, "source_tap": "early", "target_tap": "b0"},
    }
    between_families = {"target_family": "curve", "source_family": "curve"}
    layouts = [
        where[m] | between_families | {"unit": -1, "frame": "own", "difference_deg": degrees, "n_sources": 5, "n_targets": 4, "square_px": 4.0,
                                       **{name: rng.normal(size=25) + shift for name, shift in (("map", 0), ("map_null_low", -2), ("map_null_high", 2))}}
        for m in (A, B) for degrees in (np.nan, *(45.0 * k for k in range(8)))
    ]  # fmt: skip
    equivariance = [
        where[m]
        | between_families
        | {"n_cells": 64, "share": 0.6, "share_permuted_95": 0.2, "share_untrained": 0.1, "matrix": rng.normal(size=64)}
        for m in (A, B)
    ]
    edges = [
        where[m] | {"unit": unit, "source_unit": k, "source_family": "curve" if k < 8 else "", "source_deg": 45.0 * k if k < 8 else np.nan, "rank": k + 1,
                    "weight": 5.0 - k, "untrained_95": 1.5, "square_px": 4.0, "map": rng.normal(size=25)}
        for m in (A, B) for unit in range(3) for k in range(12)
    ]  # fmt: skip
    transplants = [
        between[0] | {"into": into, "what": "family", "family": "curve", "unit_a": -1, "unit_b": -1, "n_units": 3, "n_images": 9, "base": base, "measure": "kl",
                      "verdict": "undecided", **{name: rng.random() for name in STANDINS}}
        for into in "ab" for base in ("resample", "mean")
    ]  # fmt: skip
    ablation_classes = [
        {"model": m, "tap": "a0", "depth": 0.2, "what": "family", "family": "curve", "unit": -1, "n_units": 3, "base": "resample", "labels": "shape", "class": c,
         "n_images": 9, "d_accuracy": -rng.random(), "d_accuracy_random": -rng.random() / 9, "d_accuracy_random_low": -0.2}
        for m in (A, B) for c in ("disc", "star")
    ]  # fmt: skip
    group_pairs = pd.DataFrame(
        {"model_a": [A] * 3, "model_b": [B] * 3, "measure": "cka_linear_debiased", **{state: rng.random(3) for state in states},
         "group": pd.Categorical(["seed", "diet", "diet"], ["seed", "architecture", "diet"], ordered=True)}
    )  # fmt: skip
    groups = pd.DataFrame(
        {"group": ["seed", "diet"], "measure": "cka_linear_debiased", "pairs": [1, 2], **{state: rng.random(2) for state in states},
         "low": [np.nan, 0.0], "high": [np.nan, 1.0]}
    )  # fmt: skip
    return {
        "similarity": table(schema.SIMILARITY, similarity), "units": table(UNITS, [row | {"family": "curve"} for row in units]),
        own_name("curve"): table(OWN["curve"], [{name: row[name] for name in ("model", "seed", "tap", "unit")} for row in units]),
        "families": table(schema.FAMILIES, families), "correspondence": table(schema.CORRESPONDENCE, correspondence),
        "profiles": table(PROFILES, profiles), "circuits": table(CIRCUITS, circuits),
        "layouts": table(LAYOUTS, layouts), "equivariance": table(EQUIVARIANCE, equivariance), "edges": table(EDGES, edges),
        "transplants": table(TRANSPLANTS, transplants), "ablation_classes": table(ABLATION_CLASSES, ablation_classes),
        "pairs": table(schema.PAIRS, pairs), "atlas": table(schema.ATLAS, atlas),
        "index_by_pair": table(schema.INDEX_BY_PAIR, by_pair), "index_by_group": table(schema.INDEX_BY_GROUP, by_group),
        "index_by_feature": table(schema.INDEX_BY_FEATURE, by_feature), "similarity_pairs": group_pairs,
        "cliques": table(schema.CLIQUES, cliques), "clique_counts": table(schema.CLIQUE_COUNTS, clique_counts),
        "similarity_groups": groups,
    }  # fmt: skip


def long_name(place):
    """A model's name of 68 characters, as the usual ones of timm: it differs from others at its end."""
    return f"timm/vit_base_patch16_clip_quickgelu_224.laion400m_e32_ft_in12k_in1k_s{place:03}"


@pytest.fixture(scope="module")
def long(tables):
    """The tables with names of 68 characters for the networks, and long ones for their taps."""
    models = {model: long_name(place) for place, model in enumerate((A, B, "m/c", "m/d"))}
    assert {len(name) for name in models.values()} == {len("timm/") + 68}
    taps = {
        tap: f"encoder.stages.{tap[1]}.blocks.{tap[1]}.mlp.activation_post_process_{tap}"
        for tap in ("a0", "a1", "b0", "b1", "b2")
    }
    return {
        name: rows.replace({column: taps if "tap" in column else models for column in rows if column.startswith(("tap", "model")) or column.endswith("_tap")})
        for name, rows in tables.items()
    }  # fmt: skip


def drawn(tables, name, width_mm=183.0, between=(A, B)):
    """One figure of a kind about the two networks, and its table as it is read back from the CSV."""
    pair = between if "pair" in FIGURES[name].per else None
    family = "curve" if "family" in FIGURES[name].per else None
    made = drawing(FIGURES[name], Subject(tables, "hungarian", family, pair))
    return made.figure(width_mm), read_csv(made.data().to_csv(index=False))


def read_csv(text):
    """Numbers as Python reads them: to the last digit, whatever the version of pandas."""
    rows = pd.DataFrame(list(csv.DictReader(io.StringIO(text))))
    for name in rows:
        try:
            rows[name] = [float(value) if value else np.nan for value in rows[name]]
        except ValueError:
            continue
    return rows


def lines(ax, drawn_with=None):
    """The lines of axes with several points, as (x, y)."""
    found = [line for line in ax.get_lines() if drawn_with is None or line.get_label() == drawn_with]
    return [(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)) for line in found]


def same(found, expected):
    np.testing.assert_array_equal(np.asarray(found, float), np.asarray(expected, float))


def test_csv_of_depth_is_what_is_drawn(tables):
    figure, data = drawn(tables, "detectors_against_depth")
    for ax, model in zip(figure.axes, (A, B), strict=False):
        rows = data[data["model"] == model]
        for (x, y), column in zip(lines(ax), ("share", "share_haar", "share_untrained"), strict=True):
            same(x, rows["depth"])
            same(y, rows[column])
        corners = ax.collections[0].get_paths()[0].vertices
        assert {*rows["share_low"], *rows["share_high"]} <= set(corners[:, 1])


def test_csv_of_wiring_is_what_is_drawn(tables):
    figure, data = drawn(tables, "wiring_profiles")
    for ax, model in zip(figure.axes, (A, B), strict=False):
        rows = data[data["model"] == model]
        (x, untrained), (_, weight) = (line for line in lines(ax) if len(line[0]) == 8)
        same(x, rows["difference_deg"])
        same(untrained, rows["untrained"])
        same(weight, rows["weight"])


def images(ax):
    return [np.asarray(image.get_array()) for image in ax.images]


def test_csv_of_layouts_is_what_is_drawn_with_dots_outside_the_null(tables):
    figure, data = drawn(tables, "field_layouts")
    axes = np.array(figure.axes).reshape(2, 10)
    for line, model in zip(axes, (A, B), strict=True):
        rows = data[data["model"] == model]
        for column, degrees in [(0, None), *((2 + k, 45.0 * k) for k in range(8))]:
            here = rows[rows["difference_deg"].isna() if degrees is None else rows["difference_deg"] == degrees]
            same(images(line[column])[0].ravel(), here["weight"])
            assert (
                len(lines(line[column])[0][0])
                == ((here["weight"] < here["null_low"]) | (here["weight"] > here["null_high"])).sum()
            )
        # The null has its own panel: the middle of its interval.
        whole = rows[rows["difference_deg"].isna()]
        np.testing.assert_allclose(images(line[1])[0].ravel(), (whole["null_low"] + whole["null_high"]) / 2)


def test_csv_of_equivariance_is_what_is_drawn(tables):
    figure, data = drawn(tables, "equivariance_matrices")
    for ax, model in zip(figure.axes, (A, B), strict=False):
        same(images(ax)[0].ravel(), data[data["model"] == model]["weight"])
        assert "0.60" in ax.get_title() and "0.20" in ax.get_title()


def test_csv_of_a_circuit_is_its_strongest_sources_and_weak_ones_are_dashed(tables):
    figure, data = drawn(tables, "unit_circuits")
    every = iter([artist for artist in figure.artists if isinstance(artist, ConnectionPatch)])
    for _, rows in data.groupby("model", sort=False):
        assert rows["weight"].tolist() == [5.0, 4.0, 3.0, 2.0, 1.0, -2.0, -3.0, -4.0, -5.0, -6.0][: len(rows)]
        patches = list(itertools.islice(every, len(rows)))
        assert len(patches) == len(rows)
        assert [line.get_linestyle() != "-" for line in patches] == (
            rows["weight"].abs() <= rows["untrained_95"]
        ).tolist()
        widths = [line.get_linewidth() for line in patches]
        assert np.argsort(widths).tolist() == np.argsort(rows["weight"].abs(), kind="stable").tolist()
    assert next(every, None) is None


def test_csv_of_matched_weights_is_what_is_drawn(tables):
    figure, data = drawn(tables, "matched_weights")
    shown_maps = [images(ax)[0].ravel() for ax in figure.axes if ax.images]
    each = [rows["weight"].to_numpy() for _, rows in data.groupby(["pair", "model", "difference_deg"], sort=False)]
    assert len(shown_maps) == len(each) > 8
    for image, rows in zip(shown_maps, each, strict=True):
        same(image, rows)


def test_csv_of_circuits_is_what_is_drawn(tables):
    figure, data = drawn(tables, "circuits_and_nulls")
    for ax, way in zip(figure.axes, ("match", "angle"), strict=True):
        rows = data[data["sources"] == way]
        points = np.concatenate([found.get_offsets() for found in ax.collections])
        same(sorted(points[:, 1]), sorted(rows["value"]))


def test_csv_of_transplants_is_what_is_drawn(tables):
    figure, data = drawn(tables, "transplants_and_nulls")
    for ax, base in zip(figure.axes, ("resample", "mean"), strict=True):
        rows = data[data["base"] == base]
        points = np.concatenate([found.get_offsets() for found in ax.collections])
        same(sorted(points[:, 1]), sorted(rows["value"]))


def test_csv_of_ablation_by_class_is_what_is_drawn(tables):
    figure, data = drawn(tables, "ablation_by_class")
    for ax, model in zip(figure.axes, (A, B), strict=False):
        rows = data[data["model"] == model]
        same([bar.get_height() for bar in ax.patches], rows["d_accuracy"])
        same(lines(ax)[0][1], rows["d_accuracy_random"])
        assert [tick.get_text() for tick in ax.get_xticklabels()] == rows["class"].tolist()


def test_csv_of_similarity_is_what_is_drawn(tables):
    figure, data = drawn(tables, "similarity")
    axes = iter(ax for ax in figure.axes if ax.axison)
    for measure, rows in data.groupby("measure", sort=False):
        for state in ("value", "value_untrained", "value_haar", "value_shuffled"):
            if measure == "unit_match_hungarian" or state != "value_haar":
                same(np.ravel(next(axes).collections[0].get_array()), rows[state])
            else:
                assert rows[state].isna().all()  # CKA does not depend on the basis: nothing is drawn
    assert next(axes, None) is None


def test_csv_of_similarity_against_depth_is_what_is_drawn(tables):
    figure, data = drawn(tables, "similarity_against_depth")
    names = {"trained": "value", "untrained twins": "value_untrained", "B in a random basis (Haar)": "value_haar"}
    names["stimuli shuffled (chance)"] = "value_shuffled"
    for ax, (_, rows) in zip(figure.axes, data.groupby("measure", sort=False), strict=True):
        means, pairs = rows[rows["drawn"] == "mean of bin"], rows[rows["drawn"] == "pair of taps"]
        for label, column in names.items():
            ((x, y),) = lines(ax, label)
            same(x, means["depth_difference"])
            same(y, means[column])
        points = [y for _, y in lines(ax, "_")]
        same(points, [pairs[c] for c in ("value", "value_untrained", "value_haar")])


def test_means_against_depth_are_those_of_the_bins(tables):
    _, data = drawn(tables, "similarity_against_depth")
    rows = data[(data["measure"] == "unit_match_hungarian") & (data["drawn"] == "pair of taps")]
    # Depths 0.2 and 0.5 against 0.3, 0.4 and 0.5: differences 0.1 0.2 0.3 and 0.2 0.1 0.0.
    expected = [rows["value"].to_numpy()[places].mean() for places in ([5], [0, 4], [1, 3], [2])]
    means = data[(data["measure"] == "unit_match_hungarian") & (data["drawn"] == "mean of bin")]
    np.testing.assert_allclose(means["depth_difference"], [0.0, 0.1, 0.2, 0.3], atol=1e-12)
    np.testing.assert_allclose(means["value"], expected, rtol=1e-14)
    assert means["n"].tolist() == [1, 2, 2, 1]


def test_bins_are_centred_and_their_means_are_means(tables):
    rows = tables["similarity"].iloc[[0] * 5].assign(depth_a=0.5, value=[0.0, 0.1, 0.8, 0.6, np.nan])
    rows = rows.assign(depth_b=[0.5, 0.54, 0.46, 0.56, 0.5])
    data = figures_similarity.depth_difference_data(rows)
    means = data[data["drawn"] == "mean of bin"]
    # 0.00, 0.04 and 0.04 lie in the bin of 0, 0.06 in that of 0.1; what is not defined is in none.
    np.testing.assert_allclose(means["value"], [0.3, 0.6])
    np.testing.assert_allclose(means["depth_difference"], [0.08 / 3, 0.06])
    assert means["n"].tolist() == [3, 1]


def test_csv_of_a_family_is_what_is_drawn(tables):
    figure, data = drawn(tables, "tuning_family")
    for ax, (model, network) in zip(
        figure.axes,
        [(m, n) for n in ("trained", "untrained twin, naive rule") for m in (A, B)],
        strict=True,
    ):
        rows = data[(data["model"] == model) & (data["network"] == network)]
        curves = [curve for _, curve in rows.groupby("place")]
        assert len(lines(ax)) == len(curves)
        for (x, y), curve in zip(lines(ax), curves, strict=True):
            same(x, curve["angle_deg"])
            same(y, curve["place"] + 2.2 * curve["height"])
    assert data.groupby(["model", "network"])["unit"].nunique().to_dict() == {
        (A, "trained"): 3, (A, "untrained twin, naive rule"): 2, (B, "trained"): 2
    }  # fmt: skip


def test_csv_of_matched_pairs_is_what_is_drawn(tables):
    figure, data = drawn(tables, "matched_pairs")
    panels = [rows for _, rows in data.groupby("panel")]
    assert [int(rows["unit_a"].iloc[0]) for rows in panels] == [1, 2]
    for ax, rows in zip(figure.axes, panels, strict=False):
        for (x, y), side in zip(lines(ax), "ab", strict=True):
            same(x, rows.loc[rows["side"] == side, "angle_deg"])
            same(y, rows.loc[rows["side"] == side, "height"])
        assert f"{rows['r_natural'].iloc[0]:.2f} ({rows['r_natural_haar'].iloc[0]:.2f}" in ax.get_title()


def test_csv_of_matches_and_nulls_is_what_is_drawn(tables):
    figure, data = drawn(tables, "matches_and_nulls")
    points = np.concatenate([c.get_offsets()[:, 0] for c in figure.axes[0].collections if len(c.get_offsets())])
    same(np.sort(points), np.sort(data["r"]))


def test_csv_of_thresholds_is_what_is_drawn(tables):
    figure, data = drawn(tables, "threshold_curves")
    criteria = list(dict.fromkeys(data["criterion"]))
    for ax, criterion in zip(figure.axes, criteria, strict=False):
        rows = data[data["criterion"] == criterion]
        trained, untrained, chosen, tolerated = lines(ax)
        same(trained, [rows["threshold"], rows["share"]])
        same(untrained, [rows["threshold"], rows["share_untrained"]])
        same(chosen[0], [rows["chosen"].iloc[0]] * 2)
        same(tolerated[1], [rows["tolerated"].iloc[0]] * 2)


def test_csv_of_the_atlas_is_what_is_drawn(tables):
    for width in WIDTHS_MM.values():
        axes = figures.atlas_cells(tables["atlas"], tables["units"], "curve detectors", width_mm=width)
        _, data = drawn(tables, "atlas", width)
        for ax, (_, rows) in zip(axes.flat, data.groupby(["model", "bin_deg"]), strict=True):
            if rows["unit"].iloc[0] < 0:
                assert not ax.get_lines() and len(rows) == 1
            else:
                same(lines(ax)[0][1], rows["height"])
                assert ax.get_xlabel() == f"{rows['links'].iloc[0]:.0f} / {rows['n_units'].iloc[0]:.0f}"


def test_csv_of_groups_is_what_is_drawn(tables):
    figure, data = drawn(tables, "group_comparison")
    pairs, means = data[data["drawn"] == "pair"], data[data["drawn"] == "mean of group"]
    ax = figure.axes[0]
    for label, column in (("trained", "value"), ("untrained twins", "value_untrained")):
        same(lines(ax, label)[0][0], pairs[column])
    (bars,) = ax.containers
    same(bars.lines[0].get_xdata(), means["value"])
    last = bars.lines[2][0].get_segments()[-1]  # a group without an interval has no bar
    np.testing.assert_allclose(last[:, 0], [means["low"].iloc[1], means["high"].iloc[1]], atol=1e-15)
    assert lines(ax, "stimuli shuffled (chance), mean of all pairs")[0][0][0] == pairs["value_shuffled"].mean()


def test_csv_of_the_index_is_what_is_drawn(tables):
    figure, data = drawn(tables, "index_by_group")
    for ax in figure.axes:  # the points of the first and of the last group lie wholly within the frame
        places = [y for points in ax.lines for y in points.get_ydata() if points.get_marker() not in ("None", "")]
        bottom, top = ax.get_ylim()
        assert all(top + 0.2 < y < bottom - 0.2 for y in places)
    for ax, family in zip(figure.axes, ("any_unit", "curve"), strict=True):
        rows = data[(data["family"] == family) & (data["drawn"] == "pair")]
        same(lines(ax, "trained: a pair")[0][0], rows.loc[rows["seed"] < 0, "index"])
        same(lines(ax, "their untrained twins: a pair")[0][0], rows.loc[rows["seed"] >= 0, "index"])
        mean = data[(data["family"] == family) & (data["drawn"] == "mean of group")]
        points = [float(x) for container in ax.containers for x in container.lines[0].get_xdata()]
        assert points == [mean["index"].iloc[0], mean["index_untrained"].iloc[0]]
    figure, data = drawn(tables, "index_by_feature")
    binned = data[data["angle_deg"].notna()]
    same(figure.axes[0].containers[0].lines[0].get_ydata(), binned["index"])
    assert lines(figure.axes[0], "all bins together")[0][1][0] == data.loc[data["angle_deg"].isna(), "index"].iloc[0]


def test_csv_of_cliques_is_what_is_drawn(tables):
    more = [tables["families"].head(1).assign(model=model) for model in ("m/c", "m/d", "m/e")]
    figure, data = drawn(tables | {"families": pd.concat([tables["families"], *more], ignore_index=True)}, "cliques")
    matrix, bars, empty, _ = figure.axes  # curves, then units of no known family
    assert [t.get_text() for t in matrix.get_yticklabels()] == ["a", "b", "c", "d", "e"]
    dots = data[(data["family"] == "curve") & (data["drawn"] == "unit")]
    (points,) = matrix.collections
    rows = [[A, B, "m/c", "m/d", "m/e"].index(model) for model in dots["model"]]
    same(points.get_offsets(), np.stack([dots["place"], rows], axis=1))
    # The larger clique stands first, though it comes second in the table; the one that is not stable is open.
    assert dots.groupby("place")["model"].apply(list).tolist() == [[A, B, "m/c", "m/d"], [B, "m/c", "m/d"]]
    white = (points.get_facecolors()[:, :3] == 1).all(axis=1)
    assert white.tolist() == (dots["stability"] < 0.5).tolist() and white.sum() == 3
    assert [sorted(y) for _, y in lines(matrix)] == [[0, 3], [1, 3]]
    counts = data[(data["family"] == "curve") & (data["drawn"] == "count")].set_index("networks")
    assert [p.get_width() for p in bars.patches] == [
        counts.loc[name, column] for name in ("trained", "untrained", "haar") for column in ("n_disjoint", "n_stable")
    ]
    assert [t.get_text() for t in bars.texts] == ["6", "1.5", "0.5"]
    assert "none in the trained networks" in [t.get_text() for t in empty.texts]
    assert "any_unit" in set(data["family"])  # in the numbers, not in the picture: its cliques hold the others'


def test_more_cliques_than_dots_have_room_for_keep_the_largest(tables):
    base = {"family": "curve", "n_models": 3, "stability": 1.0}
    many = [base | {"clique": n, "model": A, "n_models": 3 + (n == 70)} for n in range(80)]
    data = figures_cliques.clique_data(table(schema.CLIQUES, many), tables["clique_counts"], tables["families"])
    dots = data[data["drawn"] == "unit"]
    assert len(dots) == 60 and dots["clique"].iloc[0] == 70 and dots["clique"].iloc[1:].tolist() == list(range(59))


def test_chords_are_as_wide_as_their_counts(tables):
    figure, data = drawn(tables, "correspondence_chords")
    where = places(data)
    assert len(data) == 6  # one method only
    widest = data["n_met"].max()
    for ax, ending in zip(figure.axes, NETWORKS, strict=True):
        for name in ("n_met", "n_same_feature"):
            patches = [patch for patch in ax.patches if patch.get_gid() == name]
            rows = data[data[f"{name}{ending}"] > 0]
            assert len(patches) == len(rows)
            for patch, row in zip(patches, rows.to_dict("records"), strict=True):
                assert patch.get_linewidth() == pytest.approx(5.0 * row[f"{name}{ending}"] / widest)
                same(patch.get_path().vertices[[0, 2]], [where[A, row["tap_a"]], where[B, row["tap_b"]]])
        assert sum(patch.get_gid() == "compared" for patch in ax.patches) == len(data)
    assert figure.axes[0].get_title() == "trained\n15 pairs, 6 same feature"
    assert figure.axes[2].get_title().endswith("\n3.8 pairs, 0.0 same feature")


@pytest.mark.parametrize("method", ["hungarian", "mutual_nearest"])
def test_chords_are_of_the_method_of_the_job(tables, method):
    counts = tables["pairs"].drop(columns="method")
    # Of another method three times as many: what is drawn must be the one, whichever comes first.
    other = {"hungarian": "mutual_nearest", "mutual_nearest": "hungarian"}[method]
    both = pd.concat([counts.assign(method=other, n_met=3 * counts["n_met"]), counts.assign(method=method)])
    made = drawing(FIGURES["correspondence_chords"], Subject(tables | {"pairs": both}, method, "curve"))
    assert made.data()["n_met"].tolist() == counts["n_met"].tolist()
    words = {"hungarian": "matched one to one", "mutual_nearest": "matched as mutual nearest neighbours"}
    assert words[method] in made.caption and words[method] in " ".join(made.figure().get_suptitle().split())
    assert words[other] not in made.caption


def test_of_a_job_without_pairs_only_networks_are_drawn(small):
    job = small.run.record["job"] | {"pairs": [], "figure_pairs": None}
    lacks = lacking(Run(small.run.path, small.run.record | {"job": job}))
    drawn = {"detectors_against_depth", "tuning_family", "threshold_curves", "atlas"}
    assert set(FIGURES) - set(lacks) - {"cliques"} == drawn
    assert lacks["correspondence_chords"] == "pairs of networks, and the job compares none"


def test_a_matching_at_random_meets_as_often_as_shares_say(tables):
    # 8 of 32 units against 4 of 40: one-to-one, 8 detectors meet 40 units, of which 4 are detectors: 8 x 4 / 40.
    assert chord_data(tables["pairs"], method="hungarian")["n_met_random"].tolist() == pytest.approx([0.8] * 6)


def test_taps_lie_clockwise_by_depth(tables):
    where = places(chord_data(tables["pairs"], method="hungarian"))
    turns = [
        np.arctan2(x, y) % (2 * np.pi) for x, y in (where[A, "a0"], where[A, "a1"], where[B, "b0"], where[B, "b2"])
    ]
    assert (np.diff(np.unwrap(turns)) > 0).all()


NAMELESS = {
    "transplants_and_nulls",
    "circuits_and_nulls",
    "threshold_curves",
    "similarity_against_depth",
    "group_comparison",
    "index_by_group",
    "index_by_feature",
}
"""Kinds that draw points of all networks and name none."""
OF_TAPS = {"similarity", "tuning_family", "matched_pairs", "matches_and_nulls", "atlas"}


@pytest.mark.parametrize("width", WIDTHS_MM)
@pytest.mark.parametrize("name", FIGURES)
def test_every_kind_has_its_width_readable_text_and_names_of_any_length(long, name, width):
    figure, data = drawn(long, name, WIDTHS_MM[width], (long_name(0), long_name(1)))
    with figures.style():
        texts = shown(figure)
        assert overlaps(texts) == []
        assert outside(texts) == []
        names = {value for column in data if column.startswith("model") for value in data[column] if value}
        assert len(names) >= 2 or name == "index_by_feature" or name == "threshold_curves"
        assert unreadable(texts, () if name in NAMELESS else [name.removeprefix("timm/") for name in names]) == []
        taps = {value for column in ("tap", "tap_a", "tap_b") if column in data for value in data[column] if value}
        said = [joined(text.get_text()) for text in texts]
        assert all(any(tap in text for text in said) for tap in (taps if name in OF_TAPS else ()))
    assert figure.get_figwidth() * 25.4 == pytest.approx(WIDTHS_MM[width], abs=1e-9)
    assert figure.get_figheight() * 25.4 <= 247  # the height of a page
    assert texts and all(5 <= text.get_fontsize() <= 7 for text in texts)
    assert not any(re.search(r"(?<!\w)[-\N{MINUS SIGN}]0\.?0*(?![\d.])", text.get_text()) for text in texts)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert all(not ax.get_tightbbox().overlaps(box) for ax in figure.axes if ax.axison)


def of_many(tables, networks=16, name="m/network-{}-of-many".format):
    """The tables of one network under the names of many; every other one holds no detector."""
    few = {table: tables[table][tables[table]["model"] == A] for table in ("families", "units", "atlas")}
    many = {
        table: pd.concat([rows.assign(model=name(n)) for n in range(networks)], ignore_index=True)
        for table, rows in few.items()
    }
    odd = [name(n) for n in range(1, networks, 2)]
    many["families"].loc[many["families"]["model"].isin(odd), ["n_detectors", "share"]] = 0
    many["units"].loc[many["units"]["model"].isin(odd), "detector"] = False
    cliques = tables["cliques"].replace({A: name(0), B: name(2), "m/c": name(4), "m/d": name(6)})
    return tables | many | {"cliques": cliques}


@pytest.mark.parametrize(
    ("name", "width"),
    [(name, "single") for name in ("detectors_against_depth", "tuning_family", "atlas", "cliques")]
    + [("cliques", "double")],
)
def test_many_networks_fit_on_a_page_and_their_names_do_not_meet(tables, name, width):
    figure, data = drawn(of_many(tables, name=long_name), name, WIDTHS_MM[width])
    assert figure.get_figheight() * 25.4 <= 240
    with figures.style():
        texts = shown(figure)
        assert overlaps(texts) == []
        assert outside(texts) == []
        assert unreadable(texts, [model.removeprefix("timm/") for model in set(data["model"]) - {""}]) == []


def test_captions_speak_of_what_is_drawn(tables):
    def caption(name, **changed):
        family = "curve" if "family" in FIGURES[name].per else None
        pair = (A, B) if "pair" in FIGURES[name].per else None
        return drawing(FIGURES[name], Subject(tables | changed, "hungarian", family, pair)).caption

    many = of_many(tables, 45)
    assert "in 2 networks, beside" in caption("detectors_against_depth") and "points" not in caption(
        "detectors_against_depth"
    )
    assert "in 45 networks, beside" in caption("detectors_against_depth", families=many["families"])
    assert "points are layers, lines the means" in caption("detectors_against_depth", families=many["families"])
    assert "of each of 2 networks at" in caption("tuning_family") and "selective" not in caption("tuning_family")
    assert "of each of 23 of 45 networks (all that hold any) at" in caption("tuning_family", families=many["families"])
    held = tables["families"].iloc[[0]].assign(n_detectors=61)
    assert (
        "of the network at its best tap, ordered by preferred orientation (of more than 60 the most selective)"
        in caption("tuning_family", families=held)
    )
    assert "Not drawn: B in a random basis (Haar) for CKA (linear, debiased), which does" in caption("similarity")
    assert "a and b: both pairs of curve detectors in the table matched one to one, by orientation" in caption(
        "matched_pairs"
    )
    none = tables["correspondence"].assign(detector_b=False)
    assert "a and b: no pair of curve detectors was matched one to one" in caption("matched_pairs", correspondence=none)
    assert "of 2 pairs of curve detectors" in caption("matches_and_nulls")
    assert "of no pairs of curve detectors" in caption("matches_and_nulls", correspondence=none)
    twinless = tables["similarity"].assign(value_untrained=np.nan)
    assert "untrained" not in caption("similarity_against_depth", similarity=twinless)
    assert "B in a random basis (Haar) and stimuli shuffled" in caption("similarity_against_depth", similarity=twinless)
    of_pairs = tables["similarity_pairs"].assign(value_haar=np.nan)
    assert "beside untrained twins and chance (stimuli shuffled)." in caption(
        "group_comparison", similarity_pairs=of_pairs
    )
    large = pd.concat([tables["cliques"].assign(clique=n) for n in range(61)], ignore_index=True)
    assert "a column each, the 60 largest of each, the largest first" in caption("cliques", cliques=large)
    assert "a column each, the largest first" in caption("cliques")


def test_cliques_of_no_family_name_networks_and_taps_of_any_length():
    models = [long_name(place) for place in range(4)]
    row = {"unit": 3, "stability": 0.9, "mean_r": 0.5, "tap": "encoder.stages.0.blocks.0.mlp.activation_post_process_"}
    rows = pd.DataFrame(
        [row | {"feature": f"clique {c}", "model": m, "tap": f"{row['tap']}{k}"} for c in range(3) for k, m in enumerate(models)]
    )  # fmt: skip
    images = {
        key: np.full((4, 3, 8, 8), 0.5, np.float32)
        for key in rows[["model", "tap", "unit"]].itertuples(index=False, name=None)
    }
    for width in WIDTHS_MM.values():
        figure = figure_of(figures.clique_images(rows, images, 2, width_mm=width))
        with figures.style():
            texts = shown(figure)
            assert overlaps(texts) == []
            assert outside(texts) == []
            assert unreadable(texts, [*(model.removeprefix("timm/") for model in models), *rows["tap"]]) == []
        assert "(the first 2 of 3 cliques)" in " ".join(figure.get_suptitle().split())


def test_of_many_networks_those_without_detectors_are_named_and_not_drawn(tables):
    many = of_many(tables)
    figure, data = drawn(many, "tuning_family")
    held = many["families"].groupby("model")["n_detectors"].max()
    assert set(data["model"]) == set(held.index[held > 0])
    said = figure._suptitle.get_text().replace("\n", " ")
    assert all((model.removeprefix("m/") in said) == (held[model] == 0) for model in held.index)
    few, _ = drawn(of_many(tables, 7), "tuning_family")
    assert few._suptitle.get_text() == "curve detectors" and "none" in [
        t.get_text() for ax in few.axes for t in ax.texts
    ]


@pytest.mark.parametrize("name", [n for n in FIGURES if n != "matches_and_nulls"])
def test_grids_are_drawn_into_a_figure_that_is_given(tables, name):
    kind = FIGURES[name]
    subject = Subject(tables, "hungarian", "curve", (A, B))
    needs = {n: subject[n] for n in kind.needs}
    keywords = {n: needs.pop(n) for n in ("method", "period_deg", "taps") if n in needs} | {
        n: subject[n] for n in kind.labels
    }
    page = Figure(figsize=(9, 9), layout="constrained")
    left, _ = page.subfigures(1, 2)
    axes = kind.draw(*needs.values(), **keywords, figure=left)
    assert {ax.figure for ax in axes.flat} == {left}
    assert figure_of(axes) is page


def test_one_panel_is_drawn_into_axes_that_are_given(tables):
    ax = Figure().subplots()
    assert figures.matches_and_nulls(tables["correspondence"], method="hungarian", ax=ax) is ax
    assert ax.get_legend() is not None


def test_a_run_draws_what_it_drew(tables):
    kinds = {kind: per for stage in STAGES.values() for kind, per in stage.figures.items()}
    assert kinds == {name: FIGURES[name].per for name in kinds}
    stems = [d.stem for d in drawings(tables, [(A, B)], "hungarian", ["curve"], list(kinds))]
    assert stems == [
        "detectors_against_depth__curve", "tuning_family__curve", "wiring_profiles__curve", "circuits_and_nulls__curve", "field_layouts__curve",
        "equivariance_matrices__curve", "unit_circuits__curve", "ablation_by_class__curve", "transplants_and_nulls__curve", "similarity__m.a__m.b",
        "matched_pairs__curve__m.a__m.b", "matches_and_nulls__curve__m.a__m.b", "matched_weights__curve__m.a__m.b",
    ]  # fmt: skip
    assert count([(A, B)], ["curve"], list(kinds.values())) == len(stems)


def test_defaults_of_the_user_change_nothing(tables):
    with mpl.rc_context({"font.size": 20, "savefig.bbox": "tight", "axes.labelsize": 30}):
        figure, _ = drawn(tables, "detectors_against_depth")
    assert figure.axes[0].xaxis.label.get_fontsize() == 6


def test_the_example_of_the_guide_runs(small, tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "how-to" / "export-figures.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example.replace("data/runs/quickstart", str(small.out)), {})
    assert {file.name for file in tmp_path.iterdir()} == {"depth.pdf", "page.pdf"}


def test_the_guide_names_every_kind():
    page = Path(__file__).parents[1] / "docs" / "how-to" / "export-figures.md"
    listed = re.findall(r"^\| (`.*?`) \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {name for cell in listed for name in re.findall(r"`(\w+)`", cell)} == set(FIGURES)


# Files, from a run as the command line writes them.

_PER_PDF_POINT_MM = 25.4 / 72
FORMATS = {"single": ("pdf", "svg", "png"), "double": ("svg",)}
KINDS = {"single": tuple(FIGURES), "double": ("similarity", "group_comparison", "tuning_family")}
"""Every format and kind once; a second width shows the width, which every kind is drawn at above."""


@pytest.fixture(scope="module")
def finished(small, tables, tmp_path_factory):
    """A copy of the small run, with an atlas, circuits and motifs beside it."""
    path = tmp_path_factory.mktemp("figures") / "run"
    shutil.copytree(small.out, path)
    run = open_run(path, small.store)
    record = dict(run.record, tables=dict(run.record["tables"]))
    made = {
        name: tables[name]
        for name in (
            "index_by_pair",
            "index_by_group",
            "index_by_feature",
            "clique_counts",
            "profiles",
            "circuits",
            *WIRED,
            "transplants",
            "ablation_classes",
        )
    }
    for name, rows in (made | {"cliques": tables["cliques"].head(0)}).items():
        file = write_table(path, TABLES[name], rows, record["provenance"])
        record["tables"][file.name] = file_sha256(file)
    finish(path, {name: value for name, value in record.items() if name != "digest"})
    return open_run(path, small.store)


@pytest.fixture(scope="module", params=WIDTHS_MM)
def exported(request, finished, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    asked = ["--width", request.param, "--out", str(out), "--format", ",".join(FORMATS[request.param])]
    some = KINDS[request.param] if len(KINDS[request.param]) < len(FIGURES) else ()
    answer = CliRunner().invoke(app, ["figures", str(finished.path), *asked, *(f"--kind={name}" for name in some)])
    assert answer.exit_code == 0, answer.output
    return request.param, out


def test_every_kind_is_exported_in_every_format_with_its_data(exported):
    width, out = exported
    files = {path.name for path in out.iterdir()} - {CAPTIONS, SIDECAR}
    stems = {name.rsplit(".", 1)[0] for name in files}
    assert {stem.split("__")[0] for stem in stems} == set(KINDS[width])
    assert files == {f"{stem}.{suffix}" for stem in stems for suffix in (*FORMATS[width], "csv")}
    said = (out / CAPTIONS).read_text(encoding="utf-8")
    assert all(f"## {stem}\n" in said for stem in stems)


def test_pages_are_exactly_as_wide_as_a_column(exported):
    width_mm, out = WIDTHS_MM[exported[0]], exported[1]
    for file in out.glob("*.pdf"):
        (width,) = re.findall(rb"/MediaBox \[\s*0 0 ([\d.]+) [\d.]+\s*\]", file.read_bytes())
        assert float(width) * _PER_PDF_POINT_MM == pytest.approx(width_mm, abs=0.001)
    for file in out.glob("*.svg"):
        width = ElementTree.parse(file).getroot().attrib["width"]
        assert width.endswith("pt") and float(width[:-2]) * _PER_PDF_POINT_MM == pytest.approx(width_mm, abs=0.001)
    for file in out.glob("*.png"):
        with Image.open(file) as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
            assert image.width / 300 * 25.4 == pytest.approx(width_mm, abs=25.4 / 300)


def test_text_stays_text_of_5_to_7_points(exported):
    _, out = exported
    for file in out.glob("*.pdf"):
        content = file.read_bytes()
        assert b"/FontFile2" in content and b"/Type3" not in content, file
        assert b"CreationDate" not in content and b"ModDate" not in content
    for file in out.glob("*.svg"):
        texts = ElementTree.parse(file).findall(".//{http://www.w3.org/2000/svg}text")
        # The page is measured in points: a px of the style is one of them.
        sizes = {float(size) for text in texts for size in re.findall(r"([\d.]+)px", text.attrib["style"])}
        assert sizes and min(sizes) >= 5 and max(sizes) <= 7, file
        assert b"<dc:date>" not in file.read_bytes()


def test_a_second_export_gives_the_same_bytes(exported, finished, tmp_path):
    width, out = exported
    again_asked = ("similarity", "correspondence_chords", "matches_and_nulls", "tuning_family")
    kinds = [name for name in again_asked if name in KINDS[width]]
    files = [
        file for made in export(finished, tmp_path, width=width, kinds=kinds, formats=FORMATS[width]) for file in made
    ]
    again = [file for file in files if file.name not in (CAPTIONS, SIDECAR)]  # these name the kinds that were asked for
    assert {file.name.split("__")[0] for file in again} == set(kinds)
    assert all(file.read_bytes() == (out / file.name).read_bytes() for file in again)


def test_values_of_the_run_are_in_the_csv_to_the_last_digit(exported, finished):
    _, out = exported
    (file,) = out.glob("similarity__*.csv")
    written = read_csv(file.read_text(encoding="utf-8"))
    keys = ["measure", "tap_a", "tap_b"]
    joined = written.merge(finished.similarity, on=keys, suffixes=("", "_run"))
    assert len(joined) == len(written) == len(finished.similarity)
    same(joined["value"], joined["value_run"])


def test_exported_figures_and_their_numbers_carry_their_provenance(exported, finished):
    width, out = exported
    for suffix in (*FORMATS[width], "csv"):
        assert provenance(next(out.glob(f"similarity__*.{suffix}"))) == finished.record["provenance"]


def test_files_say_which_kind_they_are_and_what_they_show(exported):
    width, out = exported
    caption = re.search(r"## group_comparison\n\n(.*?)\n", (out / CAPTIONS).read_text(encoding="utf-8"))[1]
    if "png" in FORMATS[width]:
        with Image.open(out / "group_comparison.png") as image:
            assert (image.info["Title"], image.info["Subject"]) == (caption, "group_comparison")
    svg = ElementTree.parse(out / "group_comparison.svg")
    held = {node.tag.rsplit("}")[-1]: "".join(node.itertext()).strip() for node in svg.iter() if "dc" in node.tag}
    assert (held["title"], held["subject"]) == (caption, "group_comparison")
    if "pdf" in FORMATS[width]:
        information = (out / "group_comparison.pdf").read_bytes()
        assert b"/Subject (group_comparison)" in information and caption[:40].encode() in information
        assert b"CreationDate" not in information


def test_captions_name_the_null_of_every_figure(exported):
    _, out = exported
    for part in (out / CAPTIONS).read_text(encoding="utf-8").split("## ")[1:]:
        stem, caption = part.split("\n\n", 1)
        assert re.search("untrained|random bas[ei]s|exchanges of labels|random units", caption), stem


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "pdf,gif"], "unknown format 'gif', expected one of pdf, svg, png"),
        (["--format", ","], "no format is given, expected some of pdf, svg, png"),
        (["--width", "doubel"], "unknown width 'doubel', expected one of single, double; did you mean 'double'?"),
        (["--kind", "similarty"], "did you mean 'similarity'?"),
    ],
)
def test_mistakes_are_one_sentence(finished, tmp_path, options, said):
    answer = CliRunner().invoke(app, ["figures", str(finished.path), "--out", str(tmp_path / "x"), *options])
    assert isinstance(answer.exception, RunError)
    assert said in str(answer.exception)
    assert not (tmp_path / "x").exists()


def test_the_own_figures_of_a_run_are_not_overwritten(finished):
    with pytest.raises(RunError, match="holds the run's own figures"):
        export(finished, finished.path / "figures")


def test_kinds_without_tables_are_left_out_or_refused(small, tmp_path):
    shutil.copytree(small.out, tmp_path / "run", ignore=shutil.ignore_patterns("atlas"))
    run = open_run(tmp_path / "run", small.store)
    lacks = {
        "index_by_group",
        "index_by_feature",
        "cliques",
        "wiring_profiles",
        "circuits_and_nulls",
        "field_layouts",
        "equivariance_matrices",
        "unit_circuits",
        "matched_weights",
        "ablation_by_class",
        "transplants_and_nulls",
    }
    assert set(lacking(run)) == lacks
    with pytest.raises(RunError, match=r"'index_by_group' cannot be drawn of run '.*': they need tables of stages"):
        export(run, tmp_path / "out", kinds=["index_by_group"])
    answer = CliRunner().invoke(app, ["figures", str(run.path), "--list"])
    assert (
        "index_by_feature: one per run; needs tables of stages that the run left out (index_by_feature)"
        in answer.output
    )


@pytest.mark.parametrize("backend", ["module://no_such_package.backend", "nonsense"])
def test_a_backend_that_the_surroundings_name_is_not_needed(backend):
    """Jupyter names its own to every process that a notebook starts."""
    code = "import os, universality.figures; print(os.environ['MPLBACKEND'])"
    environment = os.environ | {"MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, backend), done.stderr
