"""Figures show the table's values: tested against what is drawn, not against pixels."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from universality import figures
from universality.base import schema
from universality.base.errors import FigureError
from universality.features.tables import UNITS
from universality.figures import figure_of
from universality.figures import similarity as figures_similarity
from universality.figures import units as figures_units
from universality.runs.drawn import drawn_taps

mpl.use("Agg")

ANGLES = np.arange(36) * 10.0


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def similarity():
    rows = [
        {
            "model_a": "m/a", "model_b": "m/b", "tap_a": f"a{i}", "tap_b": f"b{j}", "depth_a": 0.2 + i / 10,
            "depth_b": 0.3 + j / 10, "measure": measure, "direction": "similarity", "value": 0.1 * i + 0.2 * j + 0.3,
            "value_untrained": 0.2, "value_haar": 0.25, "value_shuffled": -0.01 * i, "n": 9, "p": 4, "q": 4, "reason": "",
        }
        for measure in ("cka_linear_debiased", "unit_match_hungarian")
        for i in (1, 0)  # deeper tap first: the figure has to sort
        for j in range(3)
    ]  # fmt: skip
    return schema.as_table(schema.SIMILARITY, pd.DataFrame(rows))


def unit(model, seed, tap, number, preferred, *, detector=True):
    curve = np.exp(2 * (np.cos(np.deg2rad(ANGLES - preferred)) - 1))
    row = {column.name: 0 for column in UNITS.columns}
    kinds = {column.name: column.kind for column in UNITS.columns}
    row |= {name: False for name, kind in kinds.items() if kind == "bool"}
    return row | {
        "model": model, "seed": seed, "tap": tap, "unit": number, "preferred_deg": preferred, "detector": detector,
        "r1": 0.7, "tuning_sigma": curve.astype(np.float32),
    }  # fmt: skip


@pytest.fixture
def units():
    rows = [unit("m/a", -1, "a0", n, preferred) for n, preferred in enumerate((200.0, 20.0, 110.0))]
    rows += [unit("m/a", 0, "a0", n, 0.0, detector=False) for n in range(3)]
    rows += [unit("m/b", -1, "b0", n, 30.0) for n in range(2)] + [unit("m/b", 0, "b0", 0, 0.0, detector=False)]
    return schema.as_table(UNITS, pd.DataFrame(rows))


@pytest.fixture
def families():
    base = {c.name: 0.0 for c in schema.FAMILIES.columns} | {"family": "curve", "rule": "invariant", "rf_px": 9}
    rows = [
        base | {"model": "m/a", "tap": "a0", "depth": 0.2, "n_units": 3, "n_detectors": 3, "share": 1.0},
        base | {"model": "m/a", "tap": "a1", "depth": 0.4, "n_units": 5, "n_detectors": 1, "share": 0.2},
        base | {"model": "m/b", "tap": "b0", "depth": 0.3, "n_units": 2, "n_detectors": 2, "share": 1.0},
    ]
    return schema.as_table(schema.FAMILIES, pd.DataFrame(rows))


@pytest.fixture
def correspondence():
    base = {c.name: 0 for c in schema.CORRESPONDENCE.columns} | {
        "model_a": "m/a", "model_b": "m/b", "tap_a": "a0", "tap_b": "b0", "family": "curve", "method": "hungarian",
        "detector_a": True, "detector_b": True, "r_natural_haar": 0.31, "r_natural_untrained": 0.12,
    }  # fmt: skip
    rows = [
        base | {"unit_a": 1, "unit_b": 0, "r_natural": 0.91, "preferred_a_deg": 20.0},
        base | {"unit_a": 2, "unit_b": 1, "r_natural": 0.55, "preferred_a_deg": 110.0},
        base | {"unit_a": 0, "unit_b": 1, "r_natural": 0.2, "preferred_a_deg": 200.0, "detector_b": False},
    ]
    return schema.as_table(schema.CORRESPONDENCE, pd.DataFrame(rows))


def heatmaps(figure):
    """The panels that are drawn."""
    return [ax for ax in figure.axes if ax.axison]


def test_heatmaps_draw_every_value_sorted_by_depth_on_one_scale(similarity):
    panels = heatmaps(figure_of(figures.similarity_heatmaps(similarity)))
    trained = panels[0].collections[0]
    np.testing.assert_allclose(trained.get_array().reshape(2, 3), [[0.3, 0.5, 0.7], [0.4, 0.6, 0.8]])
    assert {panel.collections[0].get_clim() for panel in panels} == {(-0.01, 1.0)}
    # CKA, then unit matching, whose values alone depend on the basis.
    assert [panel.get_title().replace("\n", " ") for panel in panels] == [
        "trained", "untrained twins", "stimuli shuffled", "", "", "B in a random basis (Haar)", "",
    ]  # fmt: skip
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["a0 (20%)", "a1 (30%)"]


def test_heatmaps_show_missing_values(similarity):
    similarity.loc[similarity["tap_b"] == "b1", "value"] = np.nan
    trained = figure_of(figures.similarity_heatmaps(similarity)).axes[0].collections[0].get_array()
    assert np.ma.getmaskarray(trained).reshape(2, 3)[:, 1].all()


def test_heatmaps_of_a_distance_reach_beyond_1(similarity):
    similarity["value"] += 0.7
    panels = heatmaps(figure_of(figures.similarity_heatmaps(similarity)))
    assert {panel.collections[0].get_clim() for panel in panels} == {(-0.01, 1.5)}


def test_heatmaps_of_a_measure_without_any_value_are_empty(similarity):
    similarity[list(figures_similarity.STATES)] = np.nan
    panels = heatmaps(figure_of(figures.similarity_heatmaps(similarity)))
    assert [panel.collections[0].get_clim() for panel in panels] == [(0.0, 1.0)] * 2  # a measure each, trained


def test_best_taps_takes_the_most_detectors(families):
    assert figures.best_taps(families)["tap"].tolist() == ["a0", "b0"]


def test_family_is_ordered_by_preferred_orientation(units, families):
    figure = figure_of(figures.tuning_family(units, families))
    lines = figure.axes[0].get_lines()
    peaks = [line.get_xdata()[np.argmax(line.get_ydata())] for line in lines]
    assert peaks == [20.0, 110.0, 200.0]
    assert "3 of 3: 100.0%\nuntrained 0.0%" in figure.axes[0].get_title()
    assert "untrained twin: 0\n" in figure.axes[2].get_title()


def test_matched_pairs_draw_both_units_and_state_the_nulls(correspondence, units):
    figure = figure_of(figures.matched_pairs(correspondence, units, method="hungarian"))
    first = figure.axes[0]
    assert len(first.get_lines()) == 2
    drawn = [line.get_xdata()[np.argmax(line.get_ydata())] for line in first.get_lines()]
    assert drawn == [20.0, 30.0]
    assert first.get_title() == "1 and 0\nr 0.91 (0.31, 0.12)"
    assert sum(1 for ax in figure.axes if ax.get_lines()) == 2  # the pair with one detector only is not drawn


def test_matched_pairs_without_a_pair_says_so(correspondence, units):
    figure = figure_of(figures.matched_pairs(correspondence, units, method="mutual_nearest"))
    assert "no pair" in figure.get_suptitle()


@pytest.mark.parametrize(("method", "drawn"), [("hungarian", [20.0, 110.0]), ("mutual_nearest", [110.0])])
def test_matches_of_one_method_are_drawn(correspondence, units, method, drawn):
    both = pd.concat([correspondence, correspondence.iloc[[1]].assign(method="mutual_nearest")], ignore_index=True)
    figure = figure_of(figures.matched_pairs(both, units, "curve detectors", method=method))
    firsts = [ax.get_lines()[0] for ax in figure.axes if ax.get_lines()]
    assert [line.get_xdata()[np.argmax(line.get_ydata())] for line in firsts] == drawn
    words = {"hungarian": "matched one to one", "mutual_nearest": "matched as mutual nearest neighbours"}
    said = " ".join(figure.get_suptitle().split())
    count = {1: "the only pair", 2: "both pairs"}[len(drawn)]
    assert f": {count} of curve detectors in the table {words[method]}" in said
    ax = figures.matches_and_nulls(both, method=method)
    assert sum(len(c.get_offsets()) for c in ax.collections) == 3 * len(drawn)
    assert words[method] in " ".join(ax.get_title().split())


def test_nulls_are_drawn_beside_the_matches(correspondence):
    ax = figures.matches_and_nulls(correspondence, method="hungarian")
    points = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections if len(c.get_offsets())])
    np.testing.assert_allclose(np.sort(points), [0.12, 0.12, 0.31, 0.31, 0.55, 0.91])


def test_depth_draws_every_share_and_its_nulls_on_one_scale(families):
    families.loc[families["model"] == "m/a", "share_haar"] = 0.4
    figure = figure_of(figures.detectors_against_depth(families, "curve detectors"))
    panels = [ax for ax in figure.axes if ax.get_lines()]
    assert [ax.get_title() for ax in panels] == ["a", "b"]
    np.testing.assert_allclose(panels[0].get_lines()[0].get_xydata(), [[0.2, 1.0], [0.4, 0.2]])
    np.testing.assert_allclose(panels[0].get_lines()[1].get_ydata(), [0.4, 0.4])
    np.testing.assert_allclose(panels[0].get_lines()[2].get_ydata(), [0.0, 0.0])
    # The scale is shared and reaches the largest share, whichever panel that is in.
    assert {ax.get_ylim() for ax in panels} == {panels[0].get_ylim()} and panels[0].get_ylim()[1] > 1.0
    assert panels[0].get_ylim()[0] == 0
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["trained, with 95 % interval", "random basis (Haar)", "untrained twins"]
    assert [ax.get_xlabel() for ax in panels] == ["relative depth"] * 2 and "share" in figure.get_supylabel()


def test_depth_reaches_the_share_of_a_later_panel(families):
    families.loc[families["model"] == "m/a", "share"] = 0.1
    panels = figure_of(figures.detectors_against_depth(families, "curve detectors")).axes
    assert panels[0].get_ylim()[1] > 1.0


def test_matched_pairs_are_those_of_the_taps_that_are_asked_for(correspondence, units):
    shown = figure_of(figures.matched_pairs(correspondence, units, method="hungarian", taps=("a0", "b0")))
    assert "a a0 (blue) and b b0 (orange): both pairs" in shown.get_suptitle()
    assert (
        "no pair of curve detectors was matched one to one at a1 and b0"
        in figure_of(
            figures.matched_pairs(correspondence, units, "curve detectors", method="hungarian", taps=("a1", "b0"))
        ).get_suptitle()
    )


@pytest.mark.parametrize(
    ("rows", "most", "said"),
    [
        (slice(0, 6), 24, "all 6 pairs of detectors in the table matched one to one, by orientation;"),
        (slice(0, 6), 4, "4 of 6 pairs of detectors in the table matched one to one, spread evenly over orientation;"),
        # Two more lie at another pair of taps, which is not drawn.
        (slice(0, 8), 24, "all 6 pairs of detectors in the table matched one to one at these taps (8 at all pairs of taps), by"),
        (slice(0, 8), 5, "5 of 6 pairs of detectors in the table matched one to one at these taps (8 at all pairs of taps), spread"),
    ],
)  # fmt: skip
def test_the_title_of_matched_pairs_says_what_the_caller_chose(correspondence, units, rows, most, said):
    many = pd.concat([correspondence.iloc[[0]]] * 8, ignore_index=True).assign(preferred_a_deg=np.arange(8.0))
    many.loc[6:, "tap_a"] = "a1"
    shown = figure_of(figures.matched_pairs(many.iloc[rows], units, method="hungarian", most=most))
    assert f": {said}" in " ".join(shown.get_suptitle().split())
    assert sum(bool(ax.get_lines()) for ax in shown.axes) == int(said.split()[1] if said.startswith("all") else said[0])


def test_matches_of_several_pairs_of_models_are_refused(correspondence, units):
    mixed = pd.concat([correspondence, correspondence.assign(model_b="m/c")], ignore_index=True)
    for draw in (
        lambda: figures.matched_pairs(mixed, units, method="hungarian"),
        lambda: figures.matches_and_nulls(mixed, method="hungarian"),
    ):
        with pytest.raises(
            FigureError,
            match=r"^the table holds 2 different model_a and model_b \(m/a and m/b; m/a and m/c\), but .* select",
        ):
            draw()


def test_drawn_taps_start_from_the_most_detectors_and_look_at_depth(families, similarity):
    # A's best tap is a0 at 0.2; B's taps lie at 0.3, 0.4 and 0.5.
    assert drawn_taps(similarity, families, "curve", "m/a", "m/b") == ("a0", "b0")


def test_numbers_have_no_negative_zero(similarity):
    similarity["value_shuffled"] = -0.001
    texts = [text.get_text() for text in heatmaps(figure_of(figures.similarity_heatmaps(similarity)))[2].texts]
    assert set(texts) == {"0.00"}


def test_threshold_curves_name_every_line():
    curve = pd.DataFrame({"threshold": [0.0, 1.0], "share": [0.5, 0.1], "share_untrained": [0.1, 0.0]})
    figure = figure_of(figures.threshold_curves({"r1": curve}, {"r1": 0.5}))
    assert len(figure.legends[0].get_texts()) == len(figure.axes[0].get_lines()) == 4
    assert figure.axes[0].get_legend() is None  # a legend inside would lie over the lines


def test_width_text_and_fonts_are_those_of_a_journal(similarity, tmp_path):
    figure = figure_of(figures.similarity_heatmaps(similarity))
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(183)
    sizes = {text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text()}
    assert min(sizes) >= 5
    assert max(sizes) <= 7
    _, pdf = figures.save(figure, tmp_path / "figure")
    content = pdf.read_bytes()
    assert b"/Type0" in content or b"/TrueType" in content  # Type 42: text stays text
    assert b"CreationDate" not in content


def test_settings_of_the_user_stay_as_they_were(similarity):
    before = dict(mpl.rcParams)
    figures.similarity_heatmaps(similarity)
    assert dict(mpl.rcParams) == before


def test_contact_sheet_draws_every_image_under_its_label():
    images = np.random.default_rng(0).random((14, 3, 8, 8), dtype=np.float32)
    figure = figure_of(figures.contact_sheet(images, [f"image {k}" for k in range(14)]))
    drawn = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in drawn] == [f"image {k}" for k in range(14)]
    np.testing.assert_allclose(drawn[13].images[0].get_array(), np.moveaxis(images[13], 0, 2))


def test_group_comparison_draws_every_pair_and_its_nulls():
    pairs = pd.DataFrame(
        {
            "model_a": ["a", "a", "b"], "model_b": ["b", "c", "c"], "measure": "cka_linear_debiased",
            "value": [0.7, 0.4, 0.3], "value_untrained": [0.1, 0.2, 0.3], "value_haar": [0.7, 0.4, 0.3],
            "value_shuffled": 0.0,
            "group": pd.Categorical(["seed", "diet", "diet"], ["seed", "architecture", "diet"], ordered=True),
        }
    )  # fmt: skip
    groups = pd.DataFrame(
        {"group": ["seed", "diet"], "measure": "cka_linear_debiased", "pairs": [1, 2], "value": [0.7, 0.35],
         "low": [np.nan, 0.3], "high": [np.nan, 0.4]}
    )  # fmt: skip
    ax = figures.group_comparison(pairs, groups)[0, 0]
    points = {
        line.get_label(): list(line.get_xdata()) for line in ax.get_lines() if not line.get_label().startswith("_")
    }
    assert points["trained"] == [0.7, 0.4, 0.3]
    assert points["untrained twins"] == [0.1, 0.2, 0.3]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["seed\n(1 pair)", "diet\n(2 pairs)"]


def zoo_of(families, count, *, none_above):
    """One layer of each of so many networks; the share falls with the number, and is 0 from `none_above` on."""
    numbers = np.arange(count)
    share = np.where(numbers < none_above, 1 - numbers / count, 0.0)
    rows = pd.concat([families.iloc[[0]]] * count, ignore_index=True)
    return rows.assign(
        model=[f"m/{n:03}" for n in numbers],
        depth=numbers % 10 / 10 + 0.05,
        n_units=100,
        n_detectors=np.round(100 * share).astype(int),
        share=share,
        share_haar=share / 2,
    )


def test_many_networks_share_one_panel_with_the_means_of_their_depths(families):
    many = zoo_of(families, 60, none_above=60)
    figure = figure_of(figures.detectors_against_depth(many, "curve detectors"))
    (ax,) = figure.axes
    points, means = ax.get_lines()[0], ax.get_lines()[1]
    np.testing.assert_array_equal(points.get_ydata(), many["share"])
    by_hand = [many["share"][many["depth"].round(2) == round(n / 10 + 0.05, 2)].mean() for n in range(10)]
    np.testing.assert_allclose(means.get_ydata(), by_hand)
    np.testing.assert_allclose(ax.get_lines()[3].get_ydata(), np.array(by_hand) / 2)
    assert "60 networks" in figure.get_suptitle()
    assert len(figure_of(figures.detectors_against_depth(many.iloc[:40], "curve detectors")).axes) == 40


def test_of_many_families_some_are_drawn_that_lie_evenly(units, families):
    many = zoo_of(families, 90, none_above=69)
    drawn = figures.tuning_family(pd.concat([units.assign(model=name) for name in many["model"]]), many)
    figure = figure_of(drawn)
    titles = [ax.get_title().split("\n")[0] for ax in drawn.reshape(5, 2, 7)[:, 0].ravel()]
    # Of 69 with detectors every second one, from the first to the last: not the best 35.
    assert titles == [f"{n:03}" for n in range(0, 69, 2)]
    assert "69 of 90 networks hold them; 35 of these, evenly" in figure.get_suptitle().replace("\n", " ")


@pytest.mark.parametrize(
    ("most", "count", "none_above", "drawn", "said"),
    [
        (8, 10, 0, 8, "curve detectors: none of 10 networks holds any; 8 of these"),
        (35, 12, 10, 10, "curve detectors; none of 200 units at the best taps of 010, 011"),
        (
            8,
            9,
            9,
            8,
            "curve detectors: 9 of 9 networks hold them; 8 of these, evenly from the largest share to the smallest",
        ),
        (8, 8, 8, 8, "curve detectors"),
    ],
)
def test_title_of_many_families_says_which_are_drawn(
    units, families, monkeypatch, most, count, none_above, drawn, said
):
    """Of a page with room for eight networks; the test before has one with the real room."""
    monkeypatch.setattr(figures_units, "MOST_NETWORKS", most)
    axes = figures.tuning_family(units, zoo_of(families, count, none_above=none_above), "curve detectors")
    assert sum(bool(ax.get_title()) for ax in axes[::2].ravel()) == drawn
    assert figure_of(axes).get_suptitle().replace("\n", " ") == said


def test_the_last_bin_of_depth_holds_its_end(families):
    many = zoo_of(families, 60, none_above=60)
    many.loc[59, "depth"] = 1.0
    ax = figure_of(figures.detectors_against_depth(many, "curve detectors")).axes[0]
    assert len(ax.get_lines()[1].get_xdata()) == 10
